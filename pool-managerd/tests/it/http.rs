//! The HTTP surface: guards, errors, correlation ids, the watch stream.

use contract_check::POOL_MANAGERD;
use pool_api::WatchEvent;
use rustix::process::Signal;

use crate::rig::{Pid, Place, ask, ask_raw, kill};

// OC-CTRL-2083
#[test]
fn foreign_hosts_origins_and_content_types_are_refused() {
    let place = Place::new();
    let daemon = place.start("");
    let to = daemon.address;
    let host = ask_raw(to, "GET", "/v1/pools", &["Host: evil.example"], "");
    assert_eq!((host.status, host.error_code().as_str()), (403, "FORBIDDEN"));
    let origin = ask(to, "GET", "/v1/pools", &["Origin: http://evil.example"], "");
    assert_eq!((origin.status, origin.error_code().as_str()), (403, "FORBIDDEN"));
    let form = ["Content-Type: application/x-www-form-urlencoded"];
    let form = ask(to, "POST", "/v1/pools", &form, "a=b");
    assert_eq!((form.status, form.error_code().as_str()), (415, "UNSUPPORTED_MEDIA_TYPE"));
    assert_eq!(daemon.get("/v1/pools").header("access-control-allow-origin"), None);
}

// ORCH-2006, OC-CTRL-2030
#[test]
fn every_error_has_the_same_envelope() {
    let place = Place::new();
    let daemon = place.start("");
    let id = "X-Correlation-Id: abc";
    let unknown = ask(daemon.address, "GET", "/nothing", &[id], "");
    assert_eq!(unknown.status, 404);
    let body = |code: &str, message: &str| {
        format!(
            r#"{{"code":"{code}","message":"{message}","retriable":false,"correlation_id":"abc"}}"#
        )
    };
    assert_eq!(unknown.body, body("NOT_FOUND", "there is no /nothing"));
    let method = ask(daemon.address, "DELETE", "/v1/pools", &[id], "");
    assert_eq!((method.status, method.header("allow")), (405, Some("GET,HEAD")));
    assert_eq!(method.body, body("METHOD_NOT_ALLOWED", "/v1/pools does not take DELETE"));
}

// OC-CTRL-2080
#[test]
fn every_documented_operation_is_served() {
    let place = Place::new();
    let daemon = place.start("");
    for operation in POOL_MANAGERD.operations().filter(|it| it.path != "/v1/watch") {
        match (operation.method, operation.path) {
            ("PUT", path) => assert_eq!(ask(daemon.address, "PUT", path, &[], "").status, 400),
            ("GET", "/v1/jobs/{id}") => assert_eq!(daemon.get("/v1/jobs/a").status, 404),
            (_, path) => assert_eq!(daemon.get(path).status, 200, "{path}"),
        }
    }
    assert!(matches!(daemon.watch().next(), Some(WatchEvent::Snapshot(_))));
}

// ORCH-3044
#[test]
fn the_committed_document_is_served() {
    let place = Place::new();
    let daemon = place.start("");
    let served: serde_json::Value =
        serde_json::from_str(&daemon.get("/openapi.json").body).unwrap();
    assert_eq!(&served, POOL_MANAGERD.document());
}

// OC-CTRL-2032
#[test]
fn a_manager_that_is_not_ready_says_when_to_ask_again() {
    let place = Place::new();
    let daemon = place.start(&place.pool_with(&place.script("sleep 60"), ""));
    let answer = daemon.get("/readyz");
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "POOL_UNREADY"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("x-backoff-ms"), Some("1000"));
}

// OC-CTRL-2052
#[test]
fn every_answer_has_a_correlation_id() {
    let place = Place::new();
    let daemon = place.start("");
    let id = |path: &str, sent: &str| {
        let header = format!("X-Correlation-Id: {sent}");
        let answer = ask(daemon.address, "GET", path, &[&header], "");
        answer.header("x-correlation-id").map(str::to_owned)
    };
    assert_eq!(id("/v1/pools", "abc-1.2_3").as_deref(), Some("abc-1.2_3"));
    assert_eq!(id("/nothing", "abc").as_deref(), Some("abc"));
    assert_ne!(id("/v1/pools", "a b").unwrap(), "a b");
    let long = "x".repeat(65);
    assert_ne!(id("/v1/pools", &long).unwrap(), long);
    let refused = ask_raw(daemon.address, "GET", "/", &["Host: evil.example"], "");
    assert!(refused.header("x-correlation-id").is_some());
}

// ORCH-3035, OC-CTRL-2040
#[test]
fn a_token_is_demanded_where_one_is_configured() {
    let place = Place::new();
    let token = "0123456789abcdef0123456789abcdef";
    let file = place.write("token", &format!("{token}\n"));
    let daemon = place.start(&format!("  token_file: '{}'\n", file.display()));
    let with = |header: &str| ask(daemon.address, "GET", "/v1/pools", &[header], "");
    assert_eq!(daemon.get("/v1/pools").status, 401);
    assert_eq!(daemon.get("/v1/watch").status, 401);
    assert_eq!(with("Authorization: Bearer wrong").error_code(), "UNAUTHENTICATED");
    assert_eq!(with(&format!("Authorization: Bearer {token}")).status, 200);
    assert_eq!(with(&format!("X-API-Key: {token}")).status, 200);
    assert_eq!(daemon.get("/healthz").status, 200);
    assert_eq!(daemon.get("/metrics").status, 200);
}

#[test]
fn a_watcher_sees_everything_then_changes_then_heartbeats() {
    let place = Place::new();
    let daemon = place.start(&place.pool(""));
    let ready = daemon.ready();
    daemon.watch().until(|it| it.model_digest.is_some());
    let mut watch = daemon.watch();
    let Some(WatchEvent::Snapshot(snapshot)) = watch.next() else { panic!("no snapshot") };
    assert_eq!(snapshot.pools, daemon.pools());
    assert_eq!(watch.next(), Some(WatchEvent::Heartbeat));
    kill(Pid::new(ready.pid.unwrap()), Signal::KILL);
    let change = loop {
        match watch.next() {
            Some(WatchEvent::Pool(pool)) => break pool,
            Some(WatchEvent::Heartbeat) => {}
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(change.replicas[0].state, pool_api::ReplicaState::Backoff);
}

// OC-METRICS-7120
#[test]
fn no_series_moves_without_an_event() {
    let place = Place::new();
    let daemon = place.start("");
    let first = daemon.get("/metrics").body;
    assert_eq!(daemon.metric("build_info{version=\"0.1.0\"}"), Some(1.0));
    assert_eq!(first.lines().filter(|it| !it.starts_with('#')).count(), 1, "{first}");
    assert_eq!(daemon.get("/metrics").body, first);
}
