//! Series move with traffic, by the right amount, and only then.

use std::collections::{BTreeMap, BTreeSet};

use metrics_contract::{Daemon, differences, samples};

use crate::rig::{Rig, Setup, wait_until};

fn scrape(rig: &Rig) -> BTreeMap<String, f64> {
    let answer = rig.client.get("/metrics", &[]);
    assert!(answer.header("content-type").starts_with("text/plain"));
    let series = answer.body.lines().filter(|it| !it.starts_with('#'));
    series
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

// OC-CTRL-2051, OC-METRICS-7120, ORCH-3028, ORCH-3041
#[test]
fn counters_move_with_tasks_and_stand_still_without() {
    let rig = Rig::with_slots(1);
    let before = scrape(&rig);
    assert_eq!(scrape(&rig), before, "a scrape moves nothing");
    rig.client.run(r#"{"prompt":"hello","max_tokens":5}"#);
    wait_until("the task is accounted", || {
        scrape(&rig).contains_key(r#"tasks_finished_total{engine="llamacpp",outcome="completed"}"#)
    });
    let after = scrape(&rig);
    let replica = r#"engine="llamacpp",engine_version="b1-test",pool_id="p0",replica_id="p0-0""#;
    let pool = r#"engine="llamacpp",engine_version="b1-test",pool_id="p0""#;
    let sorted =
        r#"engine="llamacpp",engine_version="b1-test",pool_id="p0",priority="interactive""#;
    let moved = [
        (r#"tasks_enqueued_total{engine="llamacpp",priority="interactive"}"#.to_owned(), 1.),
        (format!(r#"tasks_started_total{{{pool},priority="interactive",replica_id="p0-0"}}"#), 1.),
        (format!("tokens_out_total{{{replica}}}"), 5.),
        (format!("tokens_in_total{{{replica}}}"), 3.),
        (format!("latency_first_token_ms_count{{{sorted}}}"), 1.),
        (format!("latency_decode_ms_count{{{sorted}}}"), 1.),
    ];
    for (name, by) in moved {
        let change = after.get(&name).unwrap_or(&0.) - before.get(&name).unwrap_or(&0.);
        assert!((change - by).abs() < 0.1, "{name} moved by {change}: {after:#?}");
    }
    assert_eq!(scrape(&rig), after, "nothing moves without traffic");
}

// OC-CTRL-2051
#[test]
fn refusals_and_cancels_are_counted_by_reason() {
    let config = "queue: {capacity: 1}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let running = rig.client.submit(r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#);
    rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    assert_eq!(rig.client.post("/v1/tasks", r#"{"prompt":"a"}"#, &[]).status, 429);
    rig.client.cancel(&running);
    let series = scrape(&rig);
    let one = |name: &str| assert_eq!(series.get(name), Some(&1.), "{name}: {series:#?}");
    one(r#"tasks_rejected_total{engine="llamacpp",reason="queue_full"}"#);
    one(r#"admission_backpressure_events_total{engine="llamacpp",policy="reject"}"#);
    one(r#"tasks_canceled_total{engine="llamacpp",reason="requested"}"#);
}

// OC-METRICS-7101
#[test]
fn a_scrape_after_traffic_of_every_kind_is_what_is_declared() {
    let config = "queue: {capacity: 1}\npreemption: {mode: hard}\n\
                  sessions: {turns: 1, budgets: {tokens: 200}}";
    let folder = tempfile::TempDir::new().unwrap();
    let journal = format!("{{data_dir: '{}'}}", folder.path().join("journal").display());
    let rig = Rig::start(Setup { config, journal, slots: vec![1], ..Setup::default() });
    rig.client.run(r#"{"prompt":"hello","max_tokens":5}"#);
    rig.client.run(r#"{"prompt":"hello","max_tokens":5,"priority":"batch"}"#);
    let turn = |tokens: u32| format!(r#"{{"prompt":"a","max_tokens":{tokens},"session_id":"s"}}"#);
    (0..2).for_each(|_| drop(rig.client.run(&turn(5))));
    assert_eq!(rig.client.post("/v1/tasks", &turn(500), &[]).status, 429);
    let slow = r#"{"prompt":"[[sim:decode_us=30000]]","max_tokens":30,"priority":"batch"}"#;
    let batch = rig.client.submit(slow);
    let tokens = || rig.client.json(&format!("/v1/tasks/{batch}"))["usage"]["tokens_out"].as_u64();
    wait_until("some tokens are there", || Some(2) <= tokens());
    rig.client.run(r#"{"prompt":"hello","max_tokens":5,"deadline_ms":60000}"#);
    rig.client.stream(&batch);
    let running = rig.client.submit(r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#);
    rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    assert_eq!(rig.client.post("/v1/tasks", r#"{"prompt":"a"}"#, &[]).status, 429);
    let depth = r#"queue_depth{engine="llamacpp",model_id="tiny",priority="interactive"}"#;
    wait_until("the waiting task is counted", || scrape(&rig).get(depth) == Some(&1.));
    rig.client.cancel(&running);
    wait_until("the lane is empty", || scrape(&rig).get(depth) == Some(&0.));
    rig.change(|it| it.replicas[0].state = pool_api::ReplicaState::Unloaded);
    let state = || rig.client.json("/v1/pools")["pools"][0]["replicas"][0]["state"].clone();
    wait_until("it is unloaded", || state() == "unloaded");
    let loaded = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    rig.manager.order();
    rig.change(|it| it.replicas[0].incarnation += 1);
    rig.client.stream(&loaded);
    let scrape = || rig.client.get("/metrics", &[]).body;
    assert_eq!(differences(Daemon::Orchestratord, &scrape()), Vec::<String>::new());
}

// OC-METRICS-7102
#[test]
fn values_past_a_budget_are_other_and_nothing_is_lost() {
    const POOLS: usize = 300;
    let pools = |pools: &mut Vec<pool_api::Pool>| {
        let first = pools.remove(0);
        pools.extend((0..POOLS).map(|index| {
            let mut pool = first.clone();
            pool.pool_id = format!("p{index}");
            pool.model_id = format!("m{index}");
            pool.replicas[0].model_id.clone_from(&pool.model_id);
            pool.replicas[0].model_aliases.clear();
            pool.replicas[0].replica_id = format!("p{index}-0");
            pool
        }));
    };
    let rig = Rig::start(Setup { slots: vec![4], pools, ..Setup::default() });
    for index in 0..POOLS {
        rig.client.run(&format!(r#"{{"prompt":"a","max_tokens":2,"model_ref":"m{index}"}}"#));
    }
    let scrape = rig.client.get("/metrics", &[]).body;
    let over = differences(Daemon::Orchestratord, &scrape);
    assert!(over.iter().all(|it| !it.contains(", budget ")), "{over:?}");
    let tokens: Vec<_> =
        samples(&scrape).into_iter().filter(|it| it.name == "tokens_out_total").collect();
    let pools: BTreeSet<_> = tokens.iter().map(|it| &it.labels["pool_id"]).collect();
    assert_eq!(pools.len(), 257, "256 and `other`");
    let other = |it: &&metrics_contract::Sample| it.labels["pool_id"] == "other";
    let others: f64 = tokens.iter().filter(other).map(|it| it.value).sum();
    assert!((others - 88.).abs() < 0.5, "2 tokens of each of 44 pools: {others}");
}
