//! What the fleet is, as clients see it, and tasks that wait for it.

use pool_api::ReplicaState;

use crate::rig::{Rig, Setup, wait_until};

// ORCH-2008, ORCH-3032
#[test]
fn pools_models_and_capabilities_name_engine_version_and_digest() {
    let rig = Rig::with_slots(2);
    let digest = format!("sha256:{}", "a".repeat(64));
    let replica = &rig.client.json("/v1/pools")["pools"][0]["replicas"][0];
    assert_eq!(replica["engine_version"], "b1-test");
    assert_eq!(replica["model_digest"], digest);
    assert_eq!((&replica["slots"], &replica["slots_busy"]), (&2.into(), &0.into()));
    let model = &rig.client.json("/v1/models")["models"][0];
    assert_eq!((&model["id"], &model["resident"]), (&"tiny".into(), &true.into()));
    assert_eq!(model["engines"], serde_json::json!(["llamacpp"]));
    let engine = &rig.client.json("/v1/capabilities")["engines"][0];
    assert_eq!(
        (&engine["engine"], &engine["versions"][0]),
        (&"llamacpp".into(), &"b1-test".into())
    );
    assert_eq!(engine["models"][0]["ctx_max"], 1_024);
}

// OC-CTRL-2001, ORCH-2103
#[test]
fn health_follows_the_replica_and_names_its_error() {
    let rig = Rig::with_slots(2);
    let health = || rig.client.json("/v1/pools/p0/health");
    assert_eq!(health()["ready"], true);
    assert_eq!(rig.client.get("/readyz", &[]).status, 200);
    rig.change(|pool| {
        pool.replicas[0].state = ReplicaState::Backoff;
        pool.replicas[0].last_error = Some("engine was killed by signal 9".into());
    });
    wait_until("the news arrives", || health()["ready"] == false);
    assert_eq!(health()["live"], false);
    assert_eq!(health()["last_error"], "engine was killed by signal 9");
    let ready = rig.client.get("/readyz", &[]);
    assert_eq!(ready.status, 503);
    assert!(ready.json()["waiting_for"][0].as_str().unwrap().contains("signal 9"));
}

// ORCH-3010
#[test]
fn a_task_waits_for_a_replica_that_is_coming() {
    let rig = Rig::start(Setup {
        pools: |pools| pools[0].replicas[0].state = ReplicaState::Loading,
        ..Setup::default()
    });
    let mut stream = rig.client.open(r#"{"prompt":"a","max_tokens":1}"#);
    assert_eq!(stream.until("queued").data["reason"], "loading_model");
    rig.change(|pool| pool.replicas[0].state = ReplicaState::Ready);
    assert_eq!(stream.until("end").data["tokens_out"], 1);
}

#[test]
fn a_task_waits_only_so_long_for_a_replica() {
    let rig = Rig::start(Setup {
        config: "queue: {unready_wait_ms: 200}",
        pools: |pools| pools[0].replicas[0].state = ReplicaState::Loading,
        ..Setup::default()
    });
    let events = rig.client.run(r#"{"prompt":"a","max_tokens":1}"#);
    let error = events.last().unwrap();
    assert_eq!((error.name.as_str(), &error.data["code"]), ("error", &"POOL_UNREADY".into()));
}

#[test]
fn a_draining_pool_gets_nothing_new() {
    let rig = Rig::with_slots(1);
    rig.change(|pool| pool.draining = true);
    let health = || rig.client.json("/v1/pools/p0/health");
    wait_until("the news arrives", || health()["draining"] == true);
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    assert_eq!(rig.client.json("/v1/queue")["depth"], 1);
    rig.change(|_| {});
    assert_eq!(rig.client.stream(&task).last().unwrap().name, "end");
}

// ORCH-3001
#[test]
fn a_new_incarnation_starts_with_all_slots_free() {
    let config = "release_timeout_ms: 20000";
    let mut rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let hanging = rig.client.submit(r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#);
    wait_until("it runs", || rig.engine_busy() == 1);
    let fresh = engine_sim::SimProcess::spawn(["-np", "1", "-c", "1024", "--slots"]);
    rig.sims[0].kill();
    assert_eq!(rig.client.cancel(&hanging), 204);
    rig.change(|pool| {
        pool.replicas[0].incarnation = 2;
        pool.replicas[0].endpoint = Some(fresh.base_url());
    });
    let end = rig.client.run(r#"{"prompt":"a","max_tokens":1}"#).pop().unwrap();
    assert_eq!(end.name, "end");
}

// OC-CTRL-2003, OC-POOL-3048, ORCH-3007
#[test]
fn while_a_pool_is_reloaded_each_of_its_replicas_gets_tasks_for_its_own_model() {
    let rig = Rig::start(Setup {
        slots: vec![1, 1],
        pools: |pools| {
            let mut changed = pools.remove(1).replicas.remove(0);
            changed.model_id = "other".into();
            changed.model_aliases = vec!["new".into()];
            pools[0].model_id = "other".into();
            pools[0].replicas.push(changed);
        },
        ..Setup::default()
    });
    let served_by = |model: &str| {
        let body = format!(r#"{{"prompt":"a","max_tokens":1,"model_ref":"{model}"}}"#);
        let events = rig.client.run(&body);
        let started = events.iter().find(|it| it.name == "started").unwrap();
        (started.data["replica_id"].clone(), started.data["model_id"].clone())
    };
    for _ in 0..2 {
        assert_eq!(served_by("tiny"), ("p0-0".into(), "tiny".into()));
        assert_eq!(served_by("new"), ("p1-0".into(), "other".into()));
    }
    let replicas = &rig.client.json("/v1/pools")["pools"][0]["replicas"];
    assert_eq!(
        (&replicas[0]["model_id"], &replicas[1]["model_id"]),
        (&"tiny".into(), &"other".into())
    );
    let sets = rig.client.json("/v1/replicasets")["replica_sets"].clone();
    let models: Vec<_> = sets.as_array().unwrap().iter().map(|it| it["model_id"].clone()).collect();
    assert_eq!(models, ["tiny", "other"]);
    let pinned = r#"{"prompt":"a","max_tokens":1,"model_ref":"tiny","placement":{"mode":"pin","pool_ids":["p0"]}}"#;
    assert_eq!(rig.client.run(pinned).last().unwrap().name, "end");
}
