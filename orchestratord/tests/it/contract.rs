//! The contract as the running server tells it.

use contract_check::{ORCHESTRATORD, committed, filled};
use serde_json::Value;

use crate::rig::Rig;

// OC-CTRL-2080
#[test]
fn every_documented_operation_is_served() {
    let rig = Rig::with_slots(1);
    for operation in ORCHESTRATORD.operations() {
        let target = filled(operation.path);
        let answer = match operation.method {
            "GET" => rig.client.get(&target, &[]),
            "POST" => rig.client.post(&target, "{}", &[]),
            "DELETE" => rig.client.delete(&target, &[]),
            other => panic!("no test sends {other}"),
        };
        let shown = format!("{} {}: {}", operation.method, operation.path, answer.body);
        assert_ne!(answer.status, 405, "{shown}");
        let no_route = format!("there is no {target}");
        assert!(answer.status != 404 || answer.json()["message"] != no_route.as_str(), "{shown}");
    }
}

// ORCH-3044, ORCH-3095, ORCH-3096, OC-CTRL-2060, OC-CTRL-2061
#[test]
fn one_version_stands_in_capabilities_in_the_served_document_and_in_the_committed_ones() {
    let rig = Rig::with_slots(1);
    let served = rig.client.json("/openapi.json");
    let version = &served["info"]["version"];
    assert_eq!(&rig.client.json("/v1/capabilities")["api_version"], version);
    for name in ["data", "control"] {
        assert_eq!(&committed(name)["info"]["version"], version);
    }
    for section in ["/paths", "/components"] {
        let committed = ORCHESTRATORD.document().pointer(section);
        assert_eq!(served.pointer(section), committed, "{section}");
    }
}

// ORCH-3044
#[test]
fn every_path_of_the_api_names_its_major_version() {
    let version = ORCHESTRATORD.document()["info"]["version"].as_str().unwrap();
    let prefix = format!("/v{}/", version.split('.').next().unwrap());
    let unversioned = ["/healthz", "/metrics", "/openapi.json", "/readyz"];
    for operation in ORCHESTRATORD.operations() {
        let path = operation.path;
        assert!(path.starts_with(&prefix) || unversioned.contains(&path), "{path}");
    }
}

// ORCH-2006
#[test]
fn paths_and_queries_that_cannot_be_read_have_the_envelope_too() {
    let rig = Rig::with_slots(1);
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    let stream = format!("/v1/tasks/{task}/stream");
    for path in ["/v1/tasks/%ff", "/v1/pools/%ff/health", &format!("{stream}?before=1")] {
        let answer = rig.client.get(path, &[]);
        assert_eq!((answer.status, &answer.json()["code"]), (400, &"INVALID_PARAMS".into()));
    }
}

// OC-CTRL-2034
#[test]
fn a_method_that_a_path_does_not_take_is_told_which_it_takes() {
    let rig = Rig::with_slots(1);
    assert_eq!(rig.client.post("/v1/models", "{}", &[]).header("allow"), "GET,HEAD");
    let cancel = "/v1/tasks/6f2c1f0e-8a41-4c3e-9d5b-0b6a5d1c7e42/cancel";
    assert_eq!(rig.client.get(cancel, &[]).header("allow"), "POST");
}

// OC-CTRL-2032
#[test]
fn a_server_that_is_not_ready_says_when_to_ask_again() {
    let rig = Rig::start(crate::rig::Setup {
        pools: |pools| pools[0].replicas[0].state = pool_api::ReplicaState::Loading,
        ..Default::default()
    });
    let answer = rig.client.get("/readyz", &[]);
    assert_eq!(answer.status, 503);
    assert_eq!((answer.header("retry-after"), answer.header("x-backoff-ms")), ("1", "1000"));
    assert_ne!(answer.json()["waiting_for"], Value::Array(Vec::new()));
}
