//! From start to ready, and back there after whatever goes wrong.

use pool_api::ReplicaState;
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::rig::{Daemon, MODEL_BYTES, Pid, Place, address, ask_engine, fault, kill};

/// The first state that is not ready and has a cause.
fn down(daemon: &Daemon) -> (ReplicaState, String) {
    let replica = daemon.watch().until(|it| it.last_error.is_some());
    (replica.state, replica.last_error.unwrap())
}

// OC-POOL-3001, OC-POOL-3030, OC-POOL-3042, ORCH-3002, ORCH-3032, ORCH-3049
#[test]
fn a_replica_is_ready_once_its_model_is_loaded_and_a_token_was_decoded() {
    let place = Place::new();
    let flags = "['--load-ms', '400', '--decode-us-per-token', '5000']";
    let daemon = place.start(&place.pool(&format!("      slots: 3\n      flags: {flags}\n")));
    assert_eq!(daemon.get("/readyz").status, 503);
    assert_eq!(daemon.metric("model_loads_total{model_id=\"m\",outcome=\"ready\"}"), None);
    let mut watch = daemon.watch();
    watch.until(|it| it.state == ReplicaState::Loading);
    let replica = watch.until(|it| it.state == ReplicaState::Ready);

    assert_eq!((replica.slots, replica.context_tokens), (3, 512));
    assert_eq!((replica.incarnation, replica.restarts, replica.last_error), (1, 0, None));
    assert!(replica.engine_version.is_some_and(|it| it.contains("0c1e570")));
    assert_eq!(daemon.get("/readyz").status, 200);
    assert_eq!(daemon.metric("model_loads_total{model_id=\"m\",outcome=\"ready\"}"), Some(1.0));
    let hex: String = Sha256::digest(MODEL_BYTES).iter().map(|it| format!("{it:02x}")).collect();
    let digest = daemon.watch().until(|it| it.model_digest.is_some()).model_digest.unwrap();
    assert_eq!(digest, format!("sha256:{hex}"));
    let tokens =
        ask_engine(address(&replica.endpoint.unwrap()), "GET", "/sim/stats", &["Host: s"], "");
    let stats: serde_json::Value = serde_json::from_str(&tokens.body).unwrap();
    // One for the decode, and those of a generation that was cancelled at its first.
    assert!(stats["tokens_sent"].as_u64().is_some_and(|it| (2..=30).contains(&it)), "{stats}");
    assert_eq!(stats["disconnects_seen"], 1);
}

// OC-CTRL-2041, OC-ADAPT-5083
#[test]
fn an_engines_key_is_random_and_seen_only_by_the_engine() {
    let place = Place::new();
    let mut daemon = place.start_with(&place.pool("      replicas: 2\n"), "log: {level: trace}");
    let mut watch = daemon.watch();
    let replicas = loop {
        let replicas = watch.next_pool().unwrap().replicas;
        if replicas.iter().all(|it| it.state == ReplicaState::Ready) {
            break replicas;
        }
    };
    let keys: Vec<&str> = replicas.iter().filter_map(|it| it.engine_key.as_deref()).collect();
    assert!(keys[0] != keys[1] && keys.iter().all(|it| 32 <= it.len()), "{keys:?}");
    assert_ne!(replicas[0].endpoint, replicas[1].endpoint);
    for replica in &replicas {
        let pid = Pid::new(replica.pid.unwrap());
        assert!(pid.proc("cmdline").contains("-np 2"), "{}", pid.proc("cmdline"));
        assert!(!pid.proc("cmdline").contains(replica.engine_key.as_ref().unwrap()));
        let engine = address(replica.endpoint.as_ref().unwrap());
        assert_eq!(ask_engine(engine, "GET", "/props", &["Host: s"], "").status, 401);
    }
    let keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
    daemon.signal(Signal::TERM);
    daemon.end();
    for key in keys {
        assert!(!daemon.log().contains(&key));
    }
}

#[test]
fn an_engine_inherits_only_what_is_listed_and_what_its_pool_adds() {
    let place = Place::new();
    let daemon = place.start(&place.pool("      env: {GGML_NOTE: here}\n"));
    let environment = Pid::new(daemon.ready().pid.unwrap()).proc("environ");
    assert!(environment.contains("GGML_NOTE=here") && environment.contains("PATH="));
    // Cargo sets this for the test, and so for the daemon.
    assert!(!environment.contains("CARGO_MANIFEST_DIR"), "{environment}");
}

// ORCH-3038, OC-POOL-3010, OC-POOL-3030
#[test]
fn a_killed_engine_comes_back_as_a_new_incarnation_that_says_why() {
    let place = Place::new();
    let daemon = place.start(&place.pool(""));
    let first = daemon.ready();
    let mut watch = daemon.watch();
    kill(Pid::new(first.pid.unwrap()), Signal::KILL);
    let down = watch.until(|it| it.state != ReplicaState::Ready);
    assert_eq!(down.state, ReplicaState::Backoff);
    let cause = down.last_error.unwrap();
    assert!(cause.starts_with("engine was killed by signal 9 (SIGKILL)"), "{cause}");
    assert_eq!((down.endpoint, down.engine_key, down.pid), (None, None, None));
    let second = watch.until(|it| it.state == ReplicaState::Ready);
    assert_eq!((second.incarnation, second.restarts), (2, 1));
    assert_ne!(second.engine_key, first.engine_key);
    let restarts = "engine_restarts_total{cause=\"signal\",pool_id=\"p\"}";
    assert_eq!(daemon.metric(restarts), Some(1.0));
}

// OC-POOL-3002, OC-POOL-3003, OC-POOL-3011
#[test]
fn an_engine_that_exits_at_once_is_told_by_its_last_lines() {
    let place = Place::new();
    let wrapper = place.script("echo 'loading' ; echo 'error: no such device' >&2; exit 3");
    let daemon = place.start(&place.pool_with(&wrapper, ""));
    let (state, cause) = down(&daemon);
    assert_eq!(state, ReplicaState::Backoff);
    assert!(cause.starts_with("engine exited with code 3: "), "{cause}");
    assert!(cause.contains("error: no such device"), "{cause}");
    daemon.watch().until(|it| 2 <= it.restarts);
    assert!(daemon.get("/readyz").body.contains("no such device"));
    let failed = "model_loads_total{model_id=\"m\",outcome=\"failed\"}";
    assert!(daemon.metric(failed).is_some_and(|it| 2.0 <= it));
}

#[test]
fn an_engine_that_prints_without_end_and_without_a_line_break_is_cut() {
    let place = Place::new();
    let wrapper = place.script("head -c 2000000 /dev/zero | tr '\\0' x; echo; exit 3");
    let daemon = place.start(&place.pool_with(&wrapper, ""));
    let cause = down(&daemon).1;
    assert!(cause.contains("xxxx") && cause.len() < 500, "{} bytes", cause.len());
}

// OC-POOL-3003
#[test]
fn an_engine_program_that_is_missing_is_named() {
    let place = Place::new();
    let daemon = place.start(&place.pool_with("no-such-engine".as_ref(), ""));
    let (state, cause) = down(&daemon);
    assert_eq!(state, ReplicaState::Unready);
    assert!(cause.contains("no-such-engine"), "{cause}");
}

// OC-POOL-3002, OC-POOL-3003, ORCH-3003
#[test]
fn a_missing_model_is_unready_with_its_cause_until_it_is_there() {
    let place = Place::new();
    std::fs::remove_file(place.model()).unwrap();
    let daemon = place.start(&place.pool(""));
    let (state, cause) = down(&daemon);
    assert_eq!(state, ReplicaState::Unready);
    assert!(cause.contains("model.gguf") && cause.contains("No such file"), "{cause}");
    assert_eq!(daemon.get("/healthz").status, 200);
    assert_eq!(daemon.replica().incarnation, 0);

    std::fs::write(place.model(), MODEL_BYTES).unwrap();
    let replica = daemon.ready();
    assert_eq!((replica.incarnation, replica.restarts), (1, 0));
    daemon.watch().until(|it| it.model_digest.is_some());
}

// OC-POOL-3002, ORCH-3003
#[test]
fn a_file_that_is_no_model_is_unready() {
    let place = Place::new();
    std::fs::write(place.model(), "<html>not found").unwrap();
    let (state, cause) = down(&place.start(&place.pool("")));
    assert_eq!(state, ReplicaState::Unready);
    assert!(cause.contains("is not a GGUF model: it starts with \"<htm\""), "{cause}");
}

// OC-POOL-3002, OC-POOL-3012, ORCH-3003
#[test]
fn a_model_that_does_not_fit_is_unready_and_says_what_was_found_and_needed() {
    let place = Place::new();
    let file = std::fs::File::options().write(true).open(place.model()).unwrap();
    file.set_len(10 << 20).unwrap();
    let device = "  devices: [{id: small, kind: cpu, memory_mib: 10}]\n";
    let daemon = place.start(&format!("{device}{}", place.pool("")));
    let (state, cause) = down(&daemon);
    assert_eq!(state, ReplicaState::Unready);
    assert!(cause.contains("needs about 42 MiB on `small`, which may give 10 MiB"), "{cause}");
    let refused = "model_loads_total{model_id=\"m\",outcome=\"refused\"}";
    assert!(daemon.metric(refused).is_some());
}

// OC-POOL-3002, ORCH-3003
#[test]
fn a_model_larger_than_free_memory_is_unready() {
    let place = Place::new();
    let file = std::fs::File::options().write(true).open(place.model()).unwrap();
    // Sparse: it takes no room on disk.
    file.set_len(8 << 40).unwrap();
    let device = "  devices: [{id: big, kind: cpu, memory_mib: 100000000}]\n";
    let (state, cause) = down(&place.start(&format!("{device}{}", place.pool(""))));
    assert_eq!(state, ReplicaState::Unready);
    assert!(cause.contains("MiB are free: other programs use the rest"), "{cause}");
}

// ORCH-3038
#[test]
fn an_engine_that_takes_its_readiness_back_is_replaced() {
    let place = Place::new();
    let daemon = place.start(&place.pool(""));
    let first = daemon.ready();
    fault(first.endpoint.as_ref().unwrap(), r#"{"unready":true}"#);
    let second = daemon.watch().until(|it| it.incarnation == 2);
    assert!(second.last_error.is_some());
    Pid::new(first.pid.unwrap()).wait_gone("the replaced engine");
    daemon.ready();
}

// OC-POOL-3001
#[test]
fn an_engine_that_says_ready_and_refuses_to_decode_is_not_ready() {
    let place = Place::new();
    // Its own key beats ours, so that health is open and nothing else.
    let engine = place.script("exec \"$ENGINE\" \"$@\" --api-key another");
    let (state, cause) = down(&place.start(&place.pool_with(&engine, "")));
    assert_eq!(state, ReplicaState::Backoff);
    assert!(cause.starts_with("test decode failed"), "{cause}");
}

#[test]
fn a_port_range_is_kept_and_no_port_is_given_twice() {
    let place = Place::new();
    // Any hundred ports; a fixed range would be shared with whoever runs these tests too.
    let somewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let first = somewhere.local_addr().unwrap().port().min(65_000);
    let range = format!("  port_range: [{first}, {}]\n", first + 99);
    let daemon = place.start(&format!("{range}{}", place.pool("      replicas: 3\n")));
    let mut watch = daemon.watch();
    let mut ports: Vec<u16> = loop {
        let replicas = watch.next_pool().unwrap().replicas;
        if replicas.iter().all(|it| it.state == ReplicaState::Ready) {
            assert!(replicas.iter().all(|it| it.restarts == 0), "{replicas:?}");
            break replicas
                .iter()
                .map(|it| address(it.endpoint.as_ref().unwrap()).port())
                .collect();
        }
    };
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3);
    assert!(ports.iter().all(|it| (first..=first + 99).contains(it)), "{ports:?}");
}

#[test]
fn what_an_engine_prints_is_kept_in_a_file_of_its_own() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let mut daemon = place.start(&place.pool(""));
    daemon.ready();
    daemon.signal(Signal::TERM);
    daemon.end();
    let log = std::fs::read_to_string(place.path("data/logs/p-0.log")).unwrap();
    assert!(log.contains("listening on 127.0.0.1:"), "{log}");
    let mode = std::fs::metadata(place.path("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
