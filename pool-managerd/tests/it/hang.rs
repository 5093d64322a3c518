//! Engines that stand still: nothing exits, and still nobody is served.

use std::time::{Duration, Instant};

use pool_api::ReplicaState;

use crate::rig::{Pid, Place, children, fault};

// ORCH-3038, OC-POOL-3030
#[test]
fn a_hung_engine_is_found_killed_and_replaced() {
    let place = Place::new();
    let daemon = place.start(&place.pool(""));
    let first = daemon.ready();
    let mut watch = daemon.watch();
    fault(first.endpoint.as_ref().unwrap(), r#"{"hang_all":true}"#);
    let down = watch.until(|it| it.state != ReplicaState::Ready);
    assert_eq!(down.state, ReplicaState::Backoff);
    assert!(down.last_error.unwrap().contains("no health answer within"));
    let second = watch.until(|it| it.state == ReplicaState::Ready);
    assert_eq!((second.incarnation, second.restarts), (2, 1));
    assert_eq!(Pid::new(first.pid.unwrap()).proc("cmdline"), "");
    let restarts = "engine_restarts_total{cause=\"health\",pool_id=\"p\"}";
    assert_eq!(daemon.metric(restarts), Some(1.0));
}

// OC-POOL-3002, OC-POOL-3030
#[test]
fn an_engine_that_never_listens_is_given_up_with_all_that_it_started() {
    let place = Place::new();
    let wrapper = place.script("tail -f \"$2\" &\nwait");
    let daemon = place.start(&place.pool_with(&wrapper, "      start_timeout_ms: 1000\n"));
    let mut watch = daemon.watch();
    let first = watch.until(|it| it.incarnation == 1 && it.pid.is_some());
    let engine = Pid::new(first.pid.unwrap());
    let down = watch.until(|it| it.last_error.is_some());
    assert_eq!(down.state, ReplicaState::Backoff);
    assert_eq!(
        down.last_error.as_deref(),
        Some("engine made no progress for 1000 ms while it started")
    );
    watch.until(|it| it.incarnation == 2);
    assert_eq!(engine.proc("cmdline"), "");
    // Of the first start nothing is left: the guard is the second's, with one engine below it.
    assert_eq!(children(daemon.pid()).len(), 1);
    let failed = "model_loads_total{model_id=\"m\",outcome=\"failed\"}";
    assert_eq!(daemon.metric(failed), Some(1.0));
}

// OC-POOL-3011
#[test]
fn starts_in_vain_come_ever_more_slowly() {
    let place = Place::new();
    let wrapper = place.script(&format!("echo >> '{}'; exit 3", place.path("starts").display()));
    let daemon = place.start(&place.pool_with(&wrapper, ""));
    let began = Instant::now();
    daemon.watch().until(|it| it.incarnation == 5);
    // At least a quarter of 100, 200, 400 and 400 ms; the first may lie before `began`.
    assert!(Duration::from_millis(250) <= began.elapsed(), "{:?}", began.elapsed());
    let starts = std::fs::read_to_string(place.path("starts")).unwrap().lines().count();
    assert!((4..=6).contains(&starts), "{starts} starts");
    assert_eq!(daemon.get("/healthz").status, 200);
}
