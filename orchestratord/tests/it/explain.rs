//! Why tasks wait and where they went.

use crate::rig::{Rig, Setup, wait_until};

// ORCH-4005, OC-CORE-1016, ORCH-3091
#[test]
fn a_task_is_explained_while_it_waits_and_after_it_ran() {
    let rig = Rig::start(Setup { slots: vec![1, 1], ..Setup::default() });
    let busy = r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#;
    let running = [rig.client.submit(busy), rig.client.submit(busy)];
    let waiting = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    let explain = |task: &str| rig.client.json(&format!("/v1/tasks/{task}/explain"));
    let why = explain(&waiting);
    assert_eq!(why["state"], "queued");
    assert_eq!(why["waiting"]["queue_position"], 0);
    assert_eq!(why["waiting"]["reason"], "waiting_for_slot");
    let obstacle = serde_json::json!([{"reason": "NO_SLOT", "replicas": 2}]);
    assert_eq!(why["waiting"]["obstacles"], obstacle);
    assert_eq!(why["decisions"], serde_json::json!([]));
    let second = explain(&running[1]);
    let decision = &second["decisions"][0];
    assert_eq!((&decision["replica_id"], &decision["choice"]), (&"p1-0".into(), &"only".into()));
    assert_eq!(decision["dropped"], serde_json::json!([{"reason": "NO_SLOT", "replicas": 1}]));
    running.iter().for_each(|it| assert_eq!(rig.client.cancel(it), 204));
    wait_until("the waiting task ran", || explain(&waiting)["state"] == "completed");
    let after = explain(&waiting);
    assert!(after["waiting"].is_null());
    assert!(after["decisions"][0]["candidates"][0]["predicted_ms"].is_u64());
    let unknown = "6f2c1f0e-8a41-4c3e-9d5b-0b6a5d1c7e42";
    assert_eq!(rig.client.get(&format!("/v1/tasks/{unknown}/explain"), &[]).status, 404);
}

// OC-CTRL-2004, ORCH-2104, ORCH-3007
#[test]
fn replicas_of_one_model_file_and_engine_version_form_a_set() {
    let rig = Rig::start(Setup {
        slots: vec![1, 2, 4],
        pools: |pools| pools[2].replicas[0].engine_version = Some("b2-test".into()),
        ..Setup::default()
    });
    rig.client.submit(r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#);
    let sets = rig.client.json("/v1/replicasets");
    let of = |index: usize| &sets["replica_sets"][index];
    assert_eq!(of(0)["replica_ids"], serde_json::json!(["p0-0", "p1-0"]));
    assert_eq!(of(1)["replica_ids"], serde_json::json!(["p2-0"]));
    assert_eq!((of(0)["slots"].as_u64(), of(1)["slots"].as_u64()), (Some(3), Some(4)));
    let busy = |index: usize| of(index)["slots_busy"].as_u64().unwrap();
    assert_eq!(busy(0) + busy(1), 1);
}

// OC-CTRL-2004, ORCH-3041
#[test]
fn a_set_tells_how_fast_it_answered_by_class_beside_the_goals() {
    let rig = Rig::start(Setup { slots: vec![1, 1], ..Setup::default() });
    let slo = || rig.client.json("/v1/replicasets")["replica_sets"][0]["slo"].clone();
    assert_eq!(slo(), serde_json::json!([]));
    for _ in 0..3 {
        rig.client.run(r#"{"prompt":"[[sim:slow_headers_ms=30]]","max_tokens":2}"#);
    }
    rig.client.run(r#"{"prompt":"a","max_tokens":80}"#);
    rig.client.run(r#"{"prompt":"a","max_tokens":80,"priority":"batch"}"#);
    // A change of the fleet that is none of the set.
    rig.change(|it| it.replicas[0].restarts += 1);
    wait_until("the news arrives", || {
        rig.client.json("/v1/pools")["pools"][0]["replicas"][0]["restarts"] == 1
    });
    let told = slo();
    let (interactive, batch) = (&told[0], &told[1]);
    assert_eq!(
        (&interactive["priority"], &batch["priority"]),
        (&"interactive".into(), &"batch".into())
    );
    let figures = |it: &serde_json::Value| (it["tasks"].clone(), it["goal_ms"].clone());
    assert_eq!(figures(&interactive["first_token"]), (4.into(), 900.into()));
    assert_eq!(figures(&interactive["tokens_64"]), (1.into(), 2_500.into()));
    assert!(30 <= interactive["first_token"]["p95_ms"].as_u64().unwrap(), "{told}");
    assert_eq!(figures(&batch["first_token"]), (1.into(), serde_json::Value::Null));
    assert!(batch["tokens_64"]["p95_ms"].is_u64());
    // Another file is another set, and begins anew.
    rig.change(|it| it.replicas[0].model_digest = Some("sha256:b".into()));
    let sets = || rig.client.json("/v1/replicasets")["replica_sets"].clone();
    wait_until("the sets are two", || sets().as_array().unwrap().len() == 2);
    let tasks = |set: usize| {
        let tasks = &sets()[set]["slo"][0]["first_token"]["tasks"];
        tasks.as_u64().unwrap_or(0)
    };
    assert_eq!(tasks(0), 0);
    assert!(tasks(1) < 4);
}

// ORCH-3013
#[test]
fn of_equal_replicas_the_one_with_its_devices_together_gets_the_task() {
    let rig = Rig::start(Setup {
        slots: vec![1, 1],
        pools: |pools| (pools[0].spread, pools[1].spread) = (5, 1),
        ..Setup::default()
    });
    wait_until("both are known", || {
        rig.client.json("/v1/capabilities")["engines"][0]["models"][1].is_object()
    });
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    let decision = rig.client.json(&format!("/v1/tasks/{task}/explain"))["decisions"][0].clone();
    let chosen = (&decision["replica_id"], &decision["choice"]);
    assert_eq!(chosen, (&"p1-0".into(), &"topology".into()));
}
