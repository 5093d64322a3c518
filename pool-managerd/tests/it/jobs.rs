//! Orders: loads, unloads and drains, and who may give them.

use pool_api::{ErrorBody, Job, JobState, LoadStage, ReplicaState};
use serde_json::{Value, json};

use crate::rig::{Answer, Daemon, MODEL_BYTES, Pid, Place, address, ask, ask_engine, wait_until};

/// Two models of about 33 MiB each on a device of 50.
fn two(place: &Place, more: &str) -> String {
    let pool = |id: &str| {
        format!(
            "    - {{id: {id}, engine: llamacpp, bin: '{}', residency: on_demand, model: {{id: m-{id}, \
             path: '{}', context_tokens: 512}}, restart: {{backoff_ms: 100, backoff_max_ms: \
             400}}{more}}}\n",
            engine_sim::binary_path().unwrap().display(),
            place.model().display()
        )
    };
    format!(
        "  devices: [{{id: d, kind: cpu, memory_mib: 50}}]\n  pools:\n{}{}",
        pool("a"),
        pool("b")
    )
}

fn put(daemon: &Daemon, id: &str, body: &Value) -> Answer {
    let json = ["Content-Type: application/json"];
    ask(daemon.address, "PUT", &format!("/v1/jobs/{id}"), &json, &body.to_string())
}

pub(crate) fn order(daemon: &Daemon, id: &str, order: &Value) -> Job {
    let answer = put(daemon, id, &json!({"epoch": 7, "order": order}));
    assert_eq!(answer.status, 202, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

pub(crate) fn load(replica: &str) -> Value {
    json!({"kind": "load", "replica_id": replica})
}

pub(crate) fn unload(replica: &str, patience_ms: u64) -> Value {
    json!({"kind": "unload", "replica_id": replica, "patience_ms": patience_ms})
}

/// The job once it has ended.
pub(crate) fn ended(daemon: &Daemon, id: &str) -> Job {
    let job =
        || -> Job { serde_json::from_str(&daemon.get(&format!("/v1/jobs/{id}")).body).unwrap() };
    wait_until("the job has ended", || job().state != JobState::Running);
    job()
}

fn code(job: &Job) -> &str {
    job.error.as_ref().map_or("", |it| &it.code)
}

// OC-POOL-3042, OC-POOL-3043, ORCH-3002
#[test]
fn a_model_is_loaded_and_unloaded_by_order() {
    let place = Place::new();
    let daemon = place.start(&two(&place, ", flags: ['--load-ms', '300']"));
    let mut watch = daemon.watch();
    let rests = watch.until(|it| it.state == ReplicaState::Unloaded);
    assert_eq!((rests.pid, rests.slots, rests.context_tokens), (None, 2, 512));
    assert_eq!(rests.memory[0].bytes, (32 << 20) + MODEL_BYTES.len() as u64);
    assert_eq!(daemon.get("/readyz").status, 200);
    assert_eq!(order(&daemon, "l", &load("a-0")).state, JobState::Running);
    let loading = watch.until(|it| it.state == ReplicaState::Loading);
    assert_eq!(loading.load.unwrap().stage, LoadStage::Reading);
    let ready = watch.until(|it| it.state == ReplicaState::Ready);
    assert!(300 <= ready.load_ms.unwrap() && ready.load.is_none());
    assert_eq!(ended(&daemon, "l").state, JobState::Succeeded);
    // Repeating it is harmless.
    assert_eq!(order(&daemon, "l", &load("a-0")).state, JobState::Succeeded);
    order(&daemon, "u", &unload("a-0", 5_000));
    watch.until(|it| it.state == ReplicaState::Unloaded);
    assert_eq!(Pid::new(ready.pid.unwrap()).proc("cmdline"), "");
    assert_eq!(ended(&daemon, "u").state, JobState::Succeeded);
    assert_eq!(daemon.metric("model_loads_total{model_id=\"m-a\",outcome=\"ready\"}"), Some(1.0));
}

// OC-POOL-3007, ORCH-3003
#[test]
fn two_models_share_a_device_one_after_the_other() {
    let place = Place::new();
    let daemon = place.start(&two(&place, ""));
    daemon.watch().until(|it| it.state == ReplicaState::Unloaded);
    order(&daemon, "1", &load("a-0"));
    assert_eq!(ended(&daemon, "1").state, JobState::Succeeded);
    // Both orders at once: the load waits until the memory is there.
    order(&daemon, "2", &load("b-0"));
    order(&daemon, "3", &unload("a-0", 5_000));
    assert_eq!(ended(&daemon, "2").state, JobState::Succeeded);
    assert_eq!(ended(&daemon, "3").state, JobState::Succeeded);
    order(&daemon, "4", &load("a-0"));
    let refused = ended(&daemon, "4");
    assert_eq!(code(&refused), "LOAD_OOM");
    let message = refused.error.unwrap().message;
    assert!(message.contains("where models of this host hold"), "{message}");
    let states: Vec<_> = daemon.pools().iter().map(|it| it.replicas[0].state).collect();
    assert_eq!(states[1], ReplicaState::Ready);
}

// OC-POOL-3043
#[test]
fn a_busy_engine_is_not_unloaded_before_its_work_is_done() {
    let place = Place::new();
    let daemon = place.start(&two(&place, ""));
    daemon.watch().until(|it| it.state == ReplicaState::Unloaded);
    order(&daemon, "1", &load("a-0"));
    assert_eq!(ended(&daemon, "1").state, JobState::Succeeded);
    let replica = daemon.replica();
    let engine = address(&replica.endpoint.unwrap());
    let key = format!("Authorization: Bearer {}", replica.engine_key.unwrap());
    let body = r#"{"prompt": "[[sim:decode_us=30000]]", "n_predict": 60, "stream": true}"#;
    let worker = std::thread::spawn(move || {
        ask_engine(engine, "POST", "/completion", &["Host: s", &key], body)
    });
    let busy = || {
        order(&daemon, "2", &unload("a-0", 1));
        ended(&daemon, "2")
    };
    let sent = || -> u64 {
        let stats = ask_engine(engine, "GET", "/sim/stats", &["Host: s"], "").body;
        serde_json::from_str::<Value>(&stats).unwrap()["tokens_sent"].as_u64().unwrap()
    };
    let before = sent();
    wait_until("it generates", || before + 2 < sent());
    let refused = busy();
    assert_eq!(code(&refused), "BUSY");
    assert_eq!(daemon.replica().state, ReplicaState::Ready);
    order(&daemon, "3", &unload("a-0", 10_000));
    let answer = worker.join().unwrap();
    assert!(answer.body.contains("\"stop\":true"), "{}", answer.body);
    assert_eq!(ended(&daemon, "3").state, JobState::Succeeded);
}

// OC-POOL-3043
#[test]
fn what_is_wrong_with_an_order_is_told() {
    let place = Place::new();
    let daemon = place.start(&two(&place, ""));
    let refused = |id: &str, body: Value| -> (u16, String, String) {
        let answer = put(&daemon, id, &body);
        let error: ErrorBody = serde_json::from_str(&answer.body).unwrap();
        (answer.status, error.code, error.message)
    };
    let told = |it: (u16, String, String)| format!("{} {} {}", it.0, it.1, it.2);
    order(&daemon, "a", &unload("a-0", 1));
    let stale = json!({"epoch": 6, "order": load("a-0")});
    assert_eq!(
        told(refused("b", stale)),
        "409 STALE_EPOCH epoch 6 is older than 7: another orchestrator commands this manager"
    );
    let other = json!({"epoch": 7, "order": load("b-0")});
    assert_eq!(told(refused("a", other)), "409 JOB_ID_CONFLICT job `a` is another order already");
    let unknown = json!({"epoch": 7, "order": load("c-0")});
    assert_eq!(told(refused("c", unknown)), "404 NOT_FOUND there is no replica `c-0`");
    let strange = told(refused("c", json!({"epoch": 7, "order": {"kind": "explode"}})));
    assert!(strange.starts_with("400 INVALID_PARAMS /order/kind: unknown variant `explode`"));
    let strange = told(refused("c", json!({"epoch": -1, "order": load("a-0")})));
    assert!(strange.starts_with("400 INVALID_PARAMS /epoch: invalid value"), "{strange}");
    assert!(told(refused("a%20b", json!({}))).starts_with("400 INVALID_PARAMS found a job id"));
    assert_eq!(daemon.get("/v1/jobs/nobody").status, 404);
    let list: pool_api::JobList = serde_json::from_str(&daemon.get("/v1/jobs").body).unwrap();
    assert_eq!(list.jobs.iter().map(|it| it.job_id.as_str()).collect::<Vec<_>>(), ["a"]);
}

// OC-POOL-3011, OC-POOL-3043
#[test]
fn a_load_that_fails_ends_its_job_and_can_be_ordered_again() {
    let place = Place::new();
    let daemon = place.start(&two(&place, ""));
    daemon.watch().until(|it| it.state == ReplicaState::Unloaded);
    std::fs::write(place.model(), "<html>").unwrap();
    order(&daemon, "1", &load("a-0"));
    let failed = ended(&daemon, "1");
    assert_eq!(code(&failed), "LOAD_FAILED");
    assert!(failed.error.unwrap().message.contains("is not a GGUF model"));
    std::fs::write(place.model(), MODEL_BYTES).unwrap();
    daemon.watch().until(|it| it.state == ReplicaState::Unloaded);
    order(&daemon, "2", &load("a-0"));
    assert_eq!(ended(&daemon, "2").state, JobState::Succeeded);
}

// ORCH-3039, ORCH-3003
#[test]
fn an_engine_that_runs_out_of_device_memory_is_promised_more_the_next_time() {
    let place = Place::new();
    let wrapper = place.script("echo 'CUDA error: out of memory' >&2; exit 1");
    let manager = two(&place, "").replace(
        &engine_sim::binary_path().unwrap().display().to_string(),
        &wrapper.display().to_string(),
    );
    let daemon = place.start(&manager);
    let first = daemon.watch().until(|it| it.state == ReplicaState::Unloaded).memory[0].bytes;
    order(&daemon, "1", &load("a-0"));
    assert_eq!(code(&ended(&daemon, "1")), "LOAD_OOM");
    let again = daemon.watch().until(|it| it.state == ReplicaState::Unloaded).memory[0].bytes;
    assert_eq!(again, first / 4 * 5);
    assert_eq!(daemon.metric("model_loads_total{model_id=\"m-a\",outcome=\"oom\"}"), Some(1.0));
}

// OC-CTRL-2002
#[test]
fn a_pool_drains_and_takes_work_again() {
    let place = Place::new();
    let daemon = place.start(&place.pool(""));
    daemon.ready();
    order(&daemon, "1", &json!({"kind": "drain", "pool_id": "p", "patience_ms": 5_000}));
    assert_eq!(ended(&daemon, "1").state, JobState::Succeeded);
    assert!(daemon.pools()[0].draining);
    assert_eq!(daemon.replica().state, ReplicaState::Ready);
    order(&daemon, "2", &json!({"kind": "undrain", "pool_id": "p"}));
    assert_eq!(ended(&daemon, "2").state, JobState::Succeeded);
    assert!(!daemon.pools()[0].draining);
}
