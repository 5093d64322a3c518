//! Another model in the same place.

use pool_api::{Job, JobState, ReplicaState};
use serde_json::{Value, json};

use crate::rig::{Answer, Daemon, MODEL_BYTES, Pid, Place, address, ask, ask_engine, wait_until};

/// Two pools: `p` with model `m`, which serves, and `other` on demand, which lends its model.
pub(crate) fn manager(place: &Place, memory_mib: u64) -> String {
    let engine = engine_sim::binary_path().unwrap().display();
    std::fs::write(place.path("other.gguf"), [MODEL_BYTES, b"!"].concat()).unwrap();
    let pool = place.pool("      devices: [d]\n");
    format!(
        "  devices: [{{id: d, kind: cpu, memory_mib: {memory_mib}}}]\n{pool}    - {{id: other, engine: \
         llamacpp, bin: '{engine}', residency: on_demand, model: {{id: other-model, aliases: [new], path: '{}', \
         context_tokens: 512}}}}\n",
        place.path("other.gguf").display()
    )
}

pub(crate) fn reload(daemon: &Daemon, id: &str, model: &Value, patience_ms: u64) -> Answer {
    let mut order = json!({"kind": "reload", "pool_id": "p", "patience_ms": patience_ms});
    if !model.is_null() {
        order["model_ref"] = model.clone();
    }
    let body = json!({"epoch": 1, "order": order}).to_string();
    let json = ["Content-Type: application/json"];
    ask(daemon.address, "PUT", &format!("/v1/jobs/{id}"), &json, &body)
}

/// The job's state, and why it failed.
pub(crate) fn ended(daemon: &Daemon, id: &str) -> (JobState, String) {
    let job =
        || -> Job { serde_json::from_str(&daemon.get(&format!("/v1/jobs/{id}")).body).unwrap() };
    wait_until("the job has ended", || job().state != JobState::Running);
    let job = job();
    let error = job.error.map_or(String::new(), |it| format!("{}: {}", it.code, it.message));
    (job.state, error)
}

// OC-CTRL-2003
#[test]
fn the_new_model_is_loaded_beside_the_old_one_if_there_is_room() {
    let place = Place::new();
    let slow = "devices: [d]\n      flags: ['--load-ms', '600']\n";
    let manager = manager(&place, 100).replacen("devices: [d]\n", slow, 1);
    let daemon = place.start(&manager);
    let before = daemon.ready();
    let mut watch = daemon.watch();
    assert_eq!(reload(&daemon, "1", &json!("new"), 5_000).status, 202);
    // It serves until the new one has proved itself: the next start is no load any more.
    let mut seen = Vec::new();
    let after = loop {
        let pool = watch.next_pool().unwrap();
        if pool.pool_id != "p" {
            continue;
        }
        let replica = pool.replicas[0].clone();
        assert!(replica.state != ReplicaState::Unloaded && replica.last_error.is_none());
        if replica.state == ReplicaState::Ready && replica.incarnation == 2 {
            assert_eq!(
                (pool.model_id.as_str(), replica.model_id.as_str(), &replica.model_aliases[..]),
                ("other-model", "other-model", &["new".into()][..])
            );
            break replica;
        }
        seen.push((replica.state, replica.pid));
    };
    assert_ne!(after.pid, before.pid);
    assert!(seen.iter().any(|it| it.0 == ReplicaState::Draining), "{seen:?}");
    assert_eq!(ended(&daemon, "1"), (JobState::Succeeded, String::new()));
    assert_eq!(Pid::new(before.pid.unwrap()).proc("cmdline"), "");
    let command = Pid::new(after.pid.unwrap()).proc("cmdline");
    assert!(command.contains("other.gguf") && command.contains("--alias other-model"), "{command}");
    assert_eq!(after.restarts, 0);
    // What it took is the load beside the old one, not the moment of the change.
    let told = daemon.watch().until(|it| it.incarnation == 2 && it.load_ms.is_some());
    assert!(600 <= told.load_ms.unwrap(), "{told:?}");
}

// OC-CTRL-2003
#[test]
fn without_room_the_new_model_takes_the_old_one_s_place() {
    let place = Place::new();
    let daemon = place.start(&manager(&place, 50));
    let before = daemon.ready();
    let path = place.path("other.gguf").display().to_string();
    assert_eq!(reload(&daemon, "1", &json!(path), 5_000).status, 202);
    assert_eq!(ended(&daemon, "1"), (JobState::Succeeded, String::new()));
    let after = daemon.replica();
    assert_eq!((after.state, after.incarnation), (ReplicaState::Ready, 2));
    assert_ne!(after.pid, before.pid);
    // A file is served under the present name.
    assert_eq!(daemon.pools()[0].model_id, "m");
    assert!(Pid::new(after.pid.unwrap()).proc("cmdline").contains("other.gguf"));
    // And back, by what the configuration says.
    assert_eq!(reload(&daemon, "2", &Value::Null, 5_000).status, 202);
    assert_eq!(ended(&daemon, "2").0, JobState::Succeeded);
    assert!(Pid::new(daemon.replica().pid.unwrap()).proc("cmdline").contains("/model.gguf"));
}

// OC-CTRL-2003
#[test]
fn a_model_that_cannot_be_loaded_leaves_the_old_one_where_it_is() {
    let place = Place::new();
    let daemon = place.start(&manager(&place, 100));
    let before = daemon.ready();
    std::fs::write(place.path("other.gguf"), "<html>").unwrap();
    reload(&daemon, "1", &json!("other-model"), 5_000);
    let (state, error) = ended(&daemon, "1");
    assert_eq!(state, JobState::Failed);
    assert!(error.starts_with("RELOAD_FAILED: ") && error.contains("not a GGUF"), "{error}");
    let after = daemon.watch().until(|it| it.last_error.is_some());
    assert_eq!((after.pid, after.incarnation), (before.pid, 1));
    let told = after.last_error.unwrap();
    assert!(told.starts_with("reload failed, the old model serves on: "), "{told}");
}

// OC-CTRL-2003
#[test]
fn a_model_that_fails_in_the_old_one_s_place_gives_it_back() {
    let place = Place::new();
    // Fails with the other model only.
    let wrapper = place.script(
        "case \"$*\" in *other.gguf*) echo 'tensors of cheese' >&2; exit 1;; esac; exec \"$ENGINE\" \"$@\"",
    );
    let manager = manager(&place, 50).replace(
        &format!("bin: '{}'\n", engine_sim::binary_path().unwrap().display()),
        &format!("bin: '{}'\n", wrapper.display()),
    );
    let daemon = place.start(&manager);
    daemon.ready();
    reload(&daemon, "1", &json!("other-model"), 5_000);
    let (state, error) = ended(&daemon, "1");
    assert_eq!(state, JobState::Failed);
    assert!(error.contains("engine exited with code 1: tensors of cheese"), "{error}");
    let after = daemon.watch().until(|it| it.state == ReplicaState::Ready);
    assert!(Pid::new(after.pid.unwrap()).proc("cmdline").contains("/model.gguf"));
    assert_eq!(daemon.pools()[0].model_id, "m");
    let told = after.last_error.unwrap();
    assert!(told.starts_with("reload failed, the old model is loaded again: "), "{told}");
}

// OC-CTRL-2003
#[test]
fn running_work_is_waited_for_and_not_cut_off() {
    let place = Place::new();
    let daemon = place.start(&manager(&place, 50));
    let replica = daemon.ready();
    let engine = address(&replica.endpoint.unwrap());
    let key = format!("Authorization: Bearer {}", replica.engine_key.unwrap());
    let body = r#"{"prompt": "[[sim:decode_us=20000]]", "n_predict": 60, "stream": true}"#;
    let sent = || -> u64 {
        let stats = ask_engine(engine, "GET", "/sim/stats", &["Host: s"], "").body;
        serde_json::from_str::<Value>(&stats).unwrap()["tokens_sent"].as_u64().unwrap()
    };
    let before = sent();
    let worker = std::thread::spawn(move || {
        ask_engine(engine, "POST", "/completion", &["Host: s", &key], body)
    });
    wait_until("it generates", || before + 2 < sent());
    reload(&daemon, "1", &json!("other-model"), 1);
    assert!(ended(&daemon, "1").1.starts_with("BUSY: "));
    assert_eq!(daemon.pools()[0].model_id, "m");
    reload(&daemon, "2", &json!("other-model"), 10_000);
    assert!(worker.join().unwrap().body.contains("\"stop\":true"));
    assert_eq!(ended(&daemon, "2").0, JobState::Succeeded);
    assert_eq!(daemon.pools()[0].model_id, "other-model");
}

// OC-CTRL-2003
#[test]
fn a_model_that_nobody_knows_is_refused_with_those_that_are_known() {
    let place = Place::new();
    let daemon = place.start(&manager(&place, 50));
    daemon.ready();
    let refused = reload(&daemon, "1", &json!("tiny"), 1);
    assert_eq!((refused.status, refused.error_code().as_str()), (404, "MODEL_NOT_FOUND"));
    assert!(
        refused.body.contains("expected one of m, other-model, or the absolute path"),
        "{refused:?}"
    );
}
