//! Loads, unloads and drains, as orders to a pool manager.

use pool_api::{LoadProgress, LoadStage, MemoryNeed, Order, Pool, ReplicaState, Residency};
use serde_json::json;

use crate::rig::{Rig, Setup, wait_until};

fn unloaded(pools: &mut [Pool]) {
    pools[0].residency = Residency::OnDemand;
    let replica = &mut pools[0].replicas[0];
    replica.state = ReplicaState::Unloaded;
    replica.memory = vec![MemoryNeed { device_id: "cpu0".into(), bytes: 1 << 20 }];
}

/// The rig's pool, further on.
fn tell(rig: &Rig, state: ReplicaState, permille: Option<u32>) {
    rig.change(|it| {
        it.replicas[0].state = state;
        it.replicas[0].incarnation += 1;
        let stage = LoadStage::Reading;
        it.replicas[0].load = permille.map(|permille| LoadProgress { stage, permille });
    });
}

// OC-CORE-1042, ORCH-4010, ORCH-4012
#[test]
fn a_task_for_a_model_on_demand_has_it_loaded_sees_how_far_it_is_and_runs() {
    let rig = Rig::start(Setup { pools: |it| unloaded(it), ..Setup::default() });
    let listed = rig.client.json("/v1/models")["models"][0].clone();
    assert_eq!((&listed["resident"], &listed["context_tokens"]), (&json!(false), &json!(1024)));
    let task = rig.client.submit(r#"{"prompt":"hello","max_tokens":3}"#);
    assert_eq!(rig.manager.order(), Order::Load { replica_id: "p0-0".into() });
    let swaps = rig.client.json("/v1/queue")["swaps"].clone();
    assert_eq!(swaps, json!([{"replica_id": "p0-0", "model_id": "tiny", "direction": "in"}]));
    let get = format!("GET /v1/tasks/{task}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut events = rig.client.raw(&get);
    assert_eq!(events.until("queued").data["reason"], "loading_model");
    tell(&rig, ReplicaState::Loading, Some(450));
    assert_eq!(events.until("queued").data["load_progress"], 0.45);
    tell(&rig, ReplicaState::Ready, None);
    events.until("end");
    let metrics = rig.client.get("/metrics", &[]).body;
    assert!(metrics.contains(r#"model_swaps_total{model_id="tiny",outcome="loaded"} 1"#));
}

// OC-CORE-1052, ORCH-4011
#[test]
fn an_idle_model_on_demand_is_unloaded() {
    let pools = |it: &mut Vec<Pool>| {
        unloaded(it);
        it[0].replicas[0].state = ReplicaState::Ready;
        it[0].idle_ttl_ms = Some(200);
    };
    let rig = Rig::start(Setup { pools, ..Setup::default() });
    let order = Order::Unload { replica_id: "p0-0".into(), patience_ms: 10_000 };
    assert_eq!(rig.manager.order(), order);
}

// OC-CORE-1052
#[test]
fn a_pinned_model_is_not_unloaded_and_an_idle_time_of_zero_is_none() {
    let pools = |it: &mut Vec<Pool>| {
        it[0].idle_ttl_ms = Some(100);
        it[1].residency = Residency::OnDemand;
        it[1].idle_ttl_ms = Some(0);
    };
    let rig = Rig::start(Setup { pools, slots: vec![1, 1], ..Setup::default() });
    crate::rig::pause(std::time::Duration::from_millis(500));
    assert!(rig.manager.no_order());
}

// OC-CTRL-2002, ORCH-2101
#[test]
fn a_pool_that_drains_hands_its_tasks_back_at_the_deadline() {
    let rig = Rig::start(Setup { slots: vec![1, 1], ..Setup::default() });
    let slow = r#"{"prompt":"[[sim:decode_us=20000]]","max_tokens":60,"placement":{"mode":"prefer","pool_ids":["p0"]}}"#;
    let task = rig.client.submit(slow);
    let tokens = || rig.client.json(&format!("/v1/tasks/{task}"))["usage"]["tokens_out"].as_u64();
    wait_until("some tokens are there", || Some(5) <= tokens());
    let drained = rig.client.post("/v1/pools/p0/drain", r#"{"deadline_ms":100}"#, &[]);
    assert_eq!(
        (drained.status, drained.body.as_str()),
        (202, r#"{"pool_id":"p0","draining":true}"#)
    );
    assert_eq!(rig.manager.order(), Order::Drain { pool_id: "p0".into(), patience_ms: 100 });
    rig.change(|it| it.draining = true);
    let events = rig.client.stream(&task);
    let names: Vec<_> = events
        .iter()
        .map(|it| it.name.as_str())
        .filter(|it| !["token", "metrics", "queued"].contains(it))
        .collect();
    assert_eq!(names, ["started", "preempted", "resumed", "end"]);
    let resumed = events.iter().find(|it| it.name == "resumed").unwrap();
    assert_eq!(resumed.data["replica_id"], "p1-0");
    assert_eq!(events.last().unwrap().data["tokens_out"], 60);
    let undrained = rig.client.post("/v1/pools/p0/undrain", "", &[]);
    assert_eq!(undrained.status, 202);
    assert_eq!(rig.manager.order(), Order::Undrain { pool_id: "p0".into() });
}

// OC-CTRL-2003, ORCH-2102
#[test]
fn a_reload_is_ordered_and_its_end_is_seen_in_the_pool() {
    let rig = Rig::with_slots(1);
    let ordered = rig.client.post("/v1/pools/p0/reload", r#"{"model_ref":"other"}"#, &[]);
    assert_eq!(ordered.status, 202);
    assert_eq!(ordered.json()["pool_id"], "p0");
    let model_ref = Some("other".to_owned());
    let order = Order::Reload { pool_id: "p0".into(), model_ref, patience_ms: 600_000 };
    assert_eq!(rig.manager.order(), order);
    rig.change(|it| {
        it.model_id = "other".into();
        it.replicas[0].model_id = "other".into();
        it.replicas[0].incarnation += 1;
        it.replicas[0].last_error = Some("reload failed".into());
    });
    let health = || rig.client.json("/v1/pools/p0/health")["last_error"] == "reload failed";
    wait_until("the outcome is told", health);
    assert_eq!(rig.client.post("/v1/pools/p9/reload", "{}", &[]).status, 404);
    assert_eq!(rig.client.post("/v1/pools/p0/reload", r#"{"model":1}"#, &[]).status, 400);
    let events = rig.client.run(r#"{"model_ref":"other","prompt":"hello","max_tokens":3}"#);
    assert_eq!(events.last().unwrap().name, "end");
}

// OC-CTRL-2002
#[test]
fn what_is_wrong_with_a_drain_is_told() {
    let rig = Rig::with_slots(1);
    let refused = |path: &str, body: &str| {
        let answer = rig.client.post(path, body, &[]);
        let error: api_types::ErrorEnvelope = serde_json::from_str(&answer.body).unwrap();
        let pointers: Vec<_> = error.details.into_iter().map(|it| it.pointer).collect();
        (answer.status, pointers.join(" "))
    };
    assert_eq!(refused("/v1/pools/p9/drain", r#"{"deadline_ms":1}"#), (404, String::new()));
    assert_eq!(refused("/v1/pools/p9/undrain", ""), (404, String::new()));
    let late = refused("/v1/pools/p0/drain", r#"{"deadline_ms":86400001}"#);
    assert_eq!(late, (400, "/deadline_ms".into()));
    assert_eq!(refused("/v1/pools/p0/drain", r#"{"deadline":1}"#), (400, "/deadline".into()));
    assert_eq!(refused("/v1/pools/p0/drain", "{}").0, 400);
}

// OC-CTRL-2005
#[test]
fn devices_are_told_with_what_models_take_of_them() {
    let pools = |it: &mut Vec<Pool>| {
        let need = |bytes| vec![MemoryNeed { device_id: "cpu0".into(), bytes }];
        it[0].replicas[0].memory = need(3 << 20);
        it[0].replicas[0].pid = Some(1);
        // Not loaded.
        it[1].replicas[0].memory = need(9 << 20);
    };
    let rig = Rig::start(Setup { pools, slots: vec![1, 1], ..Setup::default() });
    let devices = rig.client.json("/v1/devices")["devices"].clone();
    let (total, models) = (1 << 30, 3 << 20);
    assert_eq!(
        devices,
        json!([{"device_id": "cpu0", "manager": rig.manager.url, "kind": "cpu",
            "memory_total_bytes": total, "memory_usable_bytes": total,
            "memory_models_bytes": models, "health": "healthy", "reachable": true}])
    );
}
