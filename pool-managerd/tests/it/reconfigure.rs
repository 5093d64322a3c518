//! SIGHUP: the configuration is read again, and taken whole or not at all.

use std::net::TcpListener;

use pool_api::{JobState, Pool, ReplicaState};
use rustix::process::Signal;
use serde_json::json;

use crate::jobs::{ended, order};
use crate::rig::{Daemon, Pid, Place, address, ask_engine, children, kill, wait_until};

fn pool(place: &Place, id: &str, more: &str) -> String {
    let pool = place.pool(more).replace("id: p\n", &format!("id: {id}\n"));
    pool.strip_prefix("  pools:\n").unwrap().to_owned()
}

fn all_ready(daemon: &Daemon, count: usize) -> Vec<Pool> {
    let ready = |pools: &[Pool]| {
        pools.len() == count && pools.iter().all(|it| it.replicas[0].state == ReplicaState::Ready)
    };
    wait_until("all serve", || ready(&daemon.pools()));
    daemon.pools()
}

fn pid(pool: &Pool) -> Pid {
    Pid::new(pool.replicas[0].pid.unwrap())
}

/// Writes the configuration anew and says so.
fn change(place: &Place, daemon: &Daemon, manager: &str) {
    place.config(manager, "drain_ms: 100");
    daemon.signal(Signal::HUP);
}

// ORCH-3031
#[test]
fn what_has_not_changed_does_not_notice() {
    let place = Place::new();
    let before = ["a", "b", "c"].map(|id| pool(&place, id, "")).concat();
    let mut daemon = place.start(&format!("  pools:\n{before}"));
    let old = all_ready(&daemon, 3);
    let manager = daemon.pid();
    // A stream of the pool that stays goes on.
    let engine = address(old[0].replicas[0].endpoint.as_ref().unwrap());
    let key = format!("Authorization: Bearer {}", old[0].replicas[0].engine_key.as_ref().unwrap());
    let body = r#"{"prompt": "[[sim:decode_us=20000]]", "n_predict": 60, "stream": true}"#;
    let reader = std::thread::spawn(move || {
        ask_engine(engine, "POST", "/completion", &["Host: s", &key], body)
    });
    // The second changes, the third goes, another comes.
    let after =
        [pool(&place, "a", ""), pool(&place, "b", "      slots: 3\n"), pool(&place, "d", "")];
    change(&place, &daemon, &format!("  pools:\n{}", after.concat()));
    daemon.renewed(2);
    let new = all_ready(&daemon, 3);
    assert_eq!(daemon.pid(), manager);
    let incarnation = |it: &Pool| it.replicas[0].incarnation;
    assert_eq!((pid(&new[0]), incarnation(&new[0])), (pid(&old[0]), incarnation(&old[0])));
    assert_eq!((new[1].replicas[0].slots, incarnation(&new[1])), (3, incarnation(&old[1]) + 1));
    assert_eq!(new[2].pool_id, "d");
    for gone in &old[1..] {
        pid(gone).wait_gone("an engine of the old configuration");
    }
    assert!(reader.join().unwrap().body.contains("\"stop\":true"));
    let log = daemon.log();
    assert!(log.contains("/pool_manager/pools/1/slots: nothing → 3"), "{log}");
    assert!(log.contains("/pool_manager/pools/2/id: \\\"c\\\" → \\\"d\\\""), "{log}");
    // Of what was ended not even a zombie is left; of what was taken over neither.
    assert_eq!(children(daemon.pid()).len(), 3);
    kill(pid(&new[0]), Signal::KILL);
    wait_until("it is started anew", || daemon.pools()[0].replicas[0].restarts == 1);
    let new = all_ready(&daemon, 3);
    assert_eq!(children(daemon.pid()).len(), 3);
    // The engines that were taken over die with their manager as before.
    kill(daemon.pid(), Signal::KILL);
    for engine in &new {
        pid(engine).wait_gone("an engine of a manager that was killed");
    }
}

// ORCH-3031
#[test]
fn a_configuration_that_cannot_be_taken_changes_nothing() {
    let place = Place::new();
    let mut daemon = place.start(&place.pool(""));
    let before = daemon.ready();
    let refused = |daemon: &Daemon, cause: &str, manager: &str| {
        change(&place, daemon, manager);
        wait_until(cause, || daemon.log().contains(cause));
    };
    refused(
        &daemon,
        "/pool_manager/pools/0/slots: found 0, expected",
        &place.pool("      slots: 0\n"),
    );
    refused(&daemon, "has not changed", &place.pool(""));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = std::fs::read_to_string(place.path("config.yaml")).unwrap();
    let moved = text.replace("'127.0.0.1:0'", &format!("'{address}'"));
    std::fs::write(place.path("config.yaml"), moved).unwrap();
    daemon.signal(Signal::HUP);
    let cause = format!("/pool_manager/bind: cannot listen on {address}");
    wait_until(&cause, || daemon.log().contains(&cause));
    std::fs::remove_file(place.path("config.yaml")).unwrap();
    daemon.signal(Signal::HUP);
    wait_until("a missing file is told", || daemon.log().contains("cannot read"));
    assert_eq!(daemon.log().matches("the old one serves on").count(), 3);
    let after = daemon.replica();
    assert_eq!((after.pid, after.state), (before.pid, ReplicaState::Ready));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(Pid::new(before.pid.unwrap()).proc("cmdline"), "");
}

fn drain(daemon: &Daemon, job: &str, kind: &str, pool: &str) {
    let mut wish = json!({"kind": kind, "pool_id": pool});
    if kind == "drain" {
        wish["patience_ms"] = 5_000.into();
    }
    order(daemon, job, &wish);
    assert_eq!(ended(daemon, job).state, JobState::Succeeded);
}

fn draining(daemon: &Daemon) -> Vec<(String, bool)> {
    daemon.pools().into_iter().map(|it| (it.pool_id, it.draining)).collect()
}

// OC-POOL-3046
#[test]
fn what_an_operator_has_drained_stays_drained() {
    let place = Place::new();
    let pools = |ids: &[&str], more: &str| {
        let pools: Vec<String> = ids.iter().map(|id| pool(&place, id, more)).collect();
        format!("  pools:\n{}", pools.concat())
    };
    let mut daemon = place.start(&pools(&["a", "b", "c"], ""));
    all_ready(&daemon, 3);
    for (job, kind, pool) in
        [("1", "drain", "a"), ("2", "drain", "b"), ("3", "drain", "c"), ("4", "undrain", "c")]
    {
        drain(&daemon, job, kind, pool);
    }
    // Also the pool that changes; not the one that goes, and comes again.
    change(&place, &daemon, &pools(&["a", "c"], "      slots: 3\n"));
    daemon.renewed(2);
    let told = |it: &[(&str, bool)]| -> Vec<(String, bool)> {
        it.iter().map(|(id, draining)| ((*id).to_owned(), *draining)).collect()
    };
    assert_eq!(draining(&daemon), told(&[("a", true), ("c", false)]));
    change(&place, &daemon, &pools(&["a", "b", "c"], "      slots: 3\n"));
    daemon.renewed(3);
    let expected = told(&[("a", true), ("b", false), ("c", false)]);
    assert_eq!(draining(&daemon), expected);
    // However the manager ends.
    kill(daemon.pid(), Signal::KILL);
    drop(daemon);
    let daemon = place.start(&pools(&["a", "b", "c"], ""));
    assert_eq!(draining(&daemon), expected);
    drain(&daemon, "1", "undrain", "a");
    kill(daemon.pid(), Signal::KILL);
    drop(daemon);
    let daemon = place.start(&pools(&["a", "b", "c"], ""));
    assert!(draining(&daemon).iter().all(|it| !it.1));
}

// OC-POOL-3047
#[test]
fn an_engine_that_was_given_up_gets_no_fresh_tries() {
    let place = Place::new();
    let starts = place.path("starts");
    let falls = place.script(&format!("echo start >> '{}'; exit 1", starts.display()));
    let pool_that_falls = |more: &str| {
        let restart = "restart: {backoff_ms: 100, backoff_max_ms: 400";
        let breaker = ", breaker_failures: 2, breaker_ms: 600000";
        let pool = place.pool_with(&falls, more).replace(restart, &format!("{restart}{breaker}"));
        assert!(pool.contains(breaker));
        pool
    };
    let count = || std::fs::read_to_string(&starts).unwrap().lines().count();
    let mut daemon = place.start(&pool_that_falls(""));
    let given_up =
        daemon.watch().until(|it| it.last_error.as_ref().is_some_and(|it| it.contains("given up")));
    let is_as_before = |daemon: &Daemon| {
        let now = daemon.replica();
        assert_eq!((now.state, &now.last_error), (ReplicaState::Unready, &given_up.last_error));
        assert_eq!((now.restarts, now.incarnation), (given_up.restarts, given_up.incarnation));
        assert_eq!(count(), 2);
    };
    // Others come meanwhile: what was to be tried has been tried once they serve.
    change(&place, &daemon, &format!("{}{}", pool_that_falls(""), pool(&place, "b", "")));
    daemon.renewed(2);
    let serves = |daemon: &Daemon, pool: usize| {
        daemon.pools()[pool].replicas[0].state == ReplicaState::Ready
    };
    wait_until("the other one serves", || serves(&daemon, 1));
    is_as_before(&daemon);
    let others = ["b", "c"].map(|id| pool(&place, id, "")).concat();
    change(&place, &daemon, &format!("{}{others}", pool_that_falls("")));
    daemon.renewed(3);
    wait_until("the third one serves", || serves(&daemon, 2));
    is_as_before(&daemon);
    // With other options it is tried at once, and so it is after a restart by hand.
    change(&place, &daemon, &pool_that_falls("      slots: 3\n"));
    daemon.renewed(4);
    wait_until("it is given up again", || count() == 4);
    kill(daemon.pid(), Signal::KILL);
    drop(daemon);
    // What the manager before had inherited is not there any more.
    let _daemon = place.start(&pool_that_falls(""));
    wait_until("it is tried anew", || 4 < count());
}

// OC-POOL-3049, ORCH-3031
#[test]
fn the_configuration_before_is_kept_and_can_be_brought_back() {
    let place = Place::new();
    let mut daemon = place.start(&place.pool(""));
    let before = daemon.ready();
    let config = place.path("config.yaml");
    let kept = place.path("data/config.previous.yaml");
    let text = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let first = text(&config);
    assert!(!kept.exists());
    change(&place, &daemon, &place.pool("      slots: 3\n"));
    daemon.renewed(2);
    assert_eq!(text(&kept), first);
    assert!(daemon.log().contains(&kept.display().to_string()));
    let second = text(&config);
    // What is refused was never in effect.
    change(&place, &daemon, &place.pool("      slots: 0\n"));
    wait_until("it is refused", || daemon.log().contains("the old one serves on"));
    assert_eq!(text(&kept), first);
    std::fs::copy(&kept, &config).unwrap();
    daemon.signal(Signal::HUP);
    daemon.renewed(3);
    let ready = daemon.ready();
    assert_eq!((ready.slots, ready.context_tokens), (before.slots, before.context_tokens));
    assert_eq!(text(&kept), second);
    // One that cannot be kept must not be lost.
    std::fs::remove_file(&kept).unwrap();
    std::fs::create_dir(&kept).unwrap();
    change(&place, &daemon, &place.pool("      slots: 3\n"));
    wait_until("it is refused", || daemon.log().contains("the present one cannot be kept as"));
    assert_eq!(daemon.replica().pid, ready.pid);
}
