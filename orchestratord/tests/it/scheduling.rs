//! Deadlines, pools, sessions and preemption, as clients meet them.

use serde_json::json;

use crate::client::Event;
use crate::rig::{Rig, Setup, wait_until};

const HANG: &str = r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#;

// ORCH-4021, ORCH-3093
#[test]
fn a_task_expires_in_the_queue_when_its_time_to_live_is_over() {
    let rig = Rig::with_slots(1);
    let running = rig.client.submit(HANG);
    let events = rig.client.run(r#"{"prompt":"a","max_tokens":1,"ttl_ms":50}"#);
    let last = events.last().unwrap();
    assert_eq!((last.name.as_str(), &last.data["code"]), ("error", &"EXPIRED".into()));
    assert_eq!(rig.client.cancel(&running), 204);
}

// ORCH-3080, OC-CTRL-2023, ORCH-3093, ORCH-3081, OC-CTRL-2068
#[test]
fn a_deadline_is_refused_with_the_earliest_or_told_at_the_end() {
    let rig = Rig::with_slots(1);
    // Teaches that a token takes some 20 ms.
    let slow = r#"{"prompt":"[[sim:decode_us=20000]]","max_tokens":20,"expected_tokens":20}"#;
    rig.client.run(slow);
    rig.client.run(slow);
    let refused = rig.client.post(
        "/v1/tasks",
        r#"{"prompt":"[[sim:decode_us=20000]]","max_tokens":400,"expected_tokens":400,"deadline_ms":500}"#,
        &[],
    );
    assert_eq!((refused.status, &refused.json()["code"]), (422, &"DEADLINE_UNMET".into()));
    assert!(1_000 < refused.json()["earliest_ms"].as_u64().unwrap(), "{refused:?}");
    let body = r#"{"prompt":"a","max_tokens":2,"deadline_ms":60000}"#;
    let admitted = rig.client.post("/v1/tasks", body, &[]);
    let left: u64 = admitted.header("x-budget-time-remaining-ms").parse().unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");
    let met = rig.client.run(body);
    assert_eq!(met.last().unwrap().data["deadline_met"], true);
    let scrape = rig.client.get("/metrics", &[]).body;
    assert!(scrape.contains("deadlines_met_ratio{priority=\"interactive\"} 1"), "{scrape}");
    assert!(rig.client.run(slow).last().unwrap().data["deadline_met"].is_null());
}

// OC-CTRL-2013, OC-CTRL-2014, OC-CORE-1018
#[test]
fn a_task_runs_where_it_is_pinned_and_a_wrong_pool_is_named() {
    let rig = Rig::start(Setup { slots: vec![1, 1, 1], ..Setup::default() });
    let place = |placement: serde_json::Value| {
        json!({"prompt": "a", "max_tokens": 1, "placement": placement}).to_string()
    };
    let pool = |placement| {
        let events = rig.client.run(&place(placement));
        let started = events.into_iter().find(|it| it.name == "started").unwrap();
        started.data["pool_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(pool(json!({"mode": "pin", "pool_ids": ["p2"]})), "p2");
    assert_eq!(pool(json!({"mode": "prefer", "pool_ids": ["p1"]})), "p1");
    assert_eq!(pool(json!({"avoid_pool_ids": ["p0", "p1"]})), "p2");
    let wrong = |placement| {
        let answer = rig.client.post("/v1/tasks", &place(placement), &[]);
        let detail = answer.json()["details"][0].clone();
        (answer.status, detail["pointer"].as_str().unwrap_or_default().to_owned())
    };
    let at = |pointer: &str| (400, pointer.to_owned());
    let unknown = wrong(json!({"mode": "pin", "pool_ids": ["p2", "p9"]}));
    assert_eq!(unknown, at("/placement/pool_ids/1"));
    assert_eq!(wrong(json!({"mode": "pin"})), at("/placement/pool_ids"));
    assert_eq!(wrong(json!({"pool_ids": ["p1"]})), at("/placement/pool_ids"));
    let both = json!({"mode": "pin", "pool_ids": ["p1"], "avoid_pool_ids": ["p1"]});
    assert_eq!(wrong(both), at("/placement/avoid_pool_ids/0"));
    // The pool goes away for good: the task cannot go elsewhere.
    rig.manager.tell({
        let mut pool = rig.pools[1].clone();
        pool.replicas[0].state = pool_api::ReplicaState::Stopped;
        pool
    });
    wait_until("the pool is gone", || rig.client.json("/v1/pools/p1/health")["ready"] == false);
    let body = place(json!({"mode": "pin", "pool_ids": ["p1"]}));
    let refused = rig.client.post("/v1/tasks", &body, &[]);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"REPLICA_EXHAUSTED".into()));
    assert_ne!(pool(json!({"mode": "pin", "pool_ids": ["p1"], "allow_fallback": true})), "p1");
}

// ORCH-3009
#[test]
fn a_session_returns_to_its_replica_and_says_that_it_is_warm() {
    let rig = Rig::start(Setup { slots: vec![2, 2, 2], ..Setup::default() });
    let turn = |session: &str| -> (String, bool) {
        let body = json!({"prompt": "a long story ".repeat(20), "max_tokens": 2,
            "session_id": session});
        let events = rig.client.run(&body.to_string());
        let started = events.into_iter().find(|it| it.name == "started").unwrap().data;
        (started["replica_id"].as_str().unwrap().into(), started["kv_warmth"] == true)
    };
    let (home, warm) = turn("s");
    assert!(!warm);
    for _ in 0..3 {
        assert_eq!(turn("s"), (home.clone(), true));
    }
    assert!(!turn("other").1);
}

// ORCH-3081
#[test]
fn a_running_task_tells_how_it_fares_unless_that_is_switched_off() {
    let body = r#"{"prompt":"[[sim:decode_us=20000]]","max_tokens":30,"deadline_ms":60000}"#;
    let told = |config: &'static str| {
        let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
        rig.client.run(r#"{"prompt":"a","max_tokens":2}"#);
        let events = rig.client.run(body);
        let at = events.iter().position(|it| it.name == "metrics");
        at.map(|at| {
            assert!(events[..at].iter().any(|it| it.name == "started"));
            assert_eq!(events[at].id, None, "it is never replayed");
            events[at].data.clone()
        })
    };
    let metrics = told("").unwrap();
    assert_eq!(metrics["on_time_probability"], 1.0);
    assert_eq!(metrics["queue_depth"], 0);
    assert!((50_000..60_000).contains(&metrics["time_budget_remaining_ms"].as_u64().unwrap()));
    assert_eq!(told("sse: {metrics: false}"), None);
}

fn texts(events: &[Event]) -> (Vec<u64>, String) {
    let tokens: Vec<&Event> = events.iter().filter(|it| it.name == "token").collect();
    let indices = tokens.iter().map(|it| it.data["i"].as_u64().unwrap()).collect();
    (indices, tokens.iter().map(|it| it.data["t"].as_str().unwrap()).collect())
}

// ORCH-3086
#[test]
fn a_batch_task_of_token_ids_is_never_stopped_because_text_cannot_follow_ids() {
    let config = "preemption: {mode: hard}";
    let sim_flags = vec!["--decode-us-per-token", "20000"];
    let rig = Rig::start(Setup { config, slots: vec![1], sim_flags, ..Setup::default() });
    let task = rig.client.submit(r#"{"prompt":[1,2,3],"max_tokens":20,"priority":"batch"}"#);
    let usage = || rig.client.json(&format!("/v1/tasks/{task}"))["usage"]["tokens_out"].as_u64();
    wait_until("some tokens are there", || Some(2) <= usage());
    rig.client.run(r#"{"prompt":"a","max_tokens":2}"#);
    let events = rig.client.stream(&task);
    assert!(events.iter().all(|it| it.name != "preempted"), "{events:?}");
    assert_eq!(events.last().unwrap().data["tokens_out"], 20);
}

// ORCH-3086, ORCH-3087, ORCH-3085, OC-CORE-1043, ORCH-3094
#[test]
fn a_running_batch_task_makes_way_and_goes_on_with_its_tokens() {
    let config = "preemption: {mode: hard, max_per_min: 5}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let batch = r#"{"prompt":"[[sim:decode_us=30000]]","max_tokens":60,"priority":"batch"}"#;
    let task = rig.client.submit(batch);
    let usage = || rig.client.json(&format!("/v1/tasks/{task}"))["usage"]["tokens_out"].as_u64();
    wait_until("some tokens are there", || Some(3) <= usage());
    let quick = rig.client.run(r#"{"prompt":"a","max_tokens":2}"#);
    assert_eq!(quick.last().unwrap().name, "end");
    let mut events = rig.client.stream(&task);
    events.retain(|it| it.id.is_some());
    let names: Vec<&str> =
        events.iter().map(|it| it.name.as_str()).filter(|it| *it != "token").collect();
    assert_eq!(names, ["started", "preempted", "resumed", "end"], "{events:?}");
    let kept = events.iter().find(|it| it.name == "preempted").unwrap().data["tokens_kept"].clone();
    let (indices, text) = texts(&events);
    assert_eq!(indices, (0..60).collect::<Vec<u64>>(), "no token is lost or doubled");
    // The engine counts on from the text that it is given.
    assert_eq!(text, (0..60).map(|it| format!(" {it}")).collect::<String>());
    let resumed = &events.iter().find(|it| it.name == "resumed").unwrap().data;
    assert_eq!((&resumed["attempt"], &resumed["kv_migrated"]), (&2.into(), &false.into()));
    assert!(3 <= kept.as_u64().unwrap() && kept.as_u64().unwrap() < 60);
    assert_eq!(events.last().unwrap().data["tokens_out"], 60);
    let ids: Vec<u64> = events.iter().filter_map(|it| it.id).collect();
    assert_eq!(ids, (1..=events.len() as u64).collect::<Vec<u64>>());
    let scrape = rig.client.get("/metrics", &[]).body;
    for series in ["preemptions_total", "resumptions_total"] {
        let line = format!("{series}{{engine=\"llamacpp\",mode=\"hard\"}} 1");
        assert!(scrape.contains(&line), "{scrape}");
    }
}
