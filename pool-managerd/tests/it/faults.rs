//! What engines and machines do wrong: bounded restarts, nothing left behind.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use pool_api::{Replica, ReplicaState};
use rustix::process::Signal;

use crate::rig::{Daemon, Place, children, wait_until};

const QUICK: &str = "{backoff_ms: 1, backoff_max_ms: 2}";

/// Open file descriptors of the daemon.
fn descriptors(daemon: &Daemon) -> usize {
    daemon.pid().list("fd")
}

fn starts(place: &Place) -> usize {
    let text = std::fs::read_to_string(place.path("starts")).unwrap_or_default();
    text.lines().count()
}

// OC-POOL-3011, OC-POOL-3040, ORCH-3038
#[test]
fn fifty_crashes_in_a_row_leave_nothing_behind() {
    let place = Place::new();
    let starts_file = place.path("starts").display().to_string();
    let crash =
        format!("echo >> '{starts_file}'; test -e '{}' || exit 3", place.path("ok").display());
    let wrapper = place.script(&format!("{crash}\nexec \"$ENGINE\" \"$@\""));
    let limit = "      restart: {backoff_ms: 1, backoff_max_ms: 2, breaker_failures: 1000}\n";
    let pool = place.pool_with(&wrapper, "");
    let daemon = place.start(&replaced(&pool, limit));
    let mut watch = daemon.watch();
    watch.until(|it| 5 <= it.incarnation);
    let before = descriptors(&daemon);
    watch.until(|it| 50 <= it.incarnation);
    std::fs::write(place.path("ok"), "").unwrap();
    let ready = watch.until(|it| it.state == ReplicaState::Ready);
    assert!(49 <= ready.restarts && ready.restarts == ready.incarnation - 1, "{ready:?}");
    assert_eq!(starts(&place) as u64, ready.incarnation);
    // One guard with one engine; sockets and pipes of the dead are closed.
    assert_eq!(children(daemon.pid()).len(), 1);
    wait_until("its descriptors are as before", || descriptors(&daemon) <= before + 4);
    let counted = daemon.metric("engine_restarts_total{cause=\"exit\",pool_id=\"p\"}");
    assert_eq!(counted, Some(ready.restarts as f64));
}

/// The pool with another `restart`.
fn replaced(pool: &str, restart: &str) -> String {
    let old = "      restart: {backoff_ms: 100, backoff_max_ms: 400}\n";
    assert!(pool.contains(old));
    pool.replace(old, restart)
}

// OC-POOL-3011
#[test]
fn an_engine_that_always_crashes_is_given_up_and_tried_once_in_a_while() {
    let place = Place::new();
    let wrapper = place.script(&format!("echo >> '{}'; exit 3", place.path("starts").display()));
    let limit = format!(
        "      restart: {}\n",
        QUICK.replace('}', ", breaker_failures: 4, breaker_ms: 1000}")
    );
    let daemon = place.start(&replaced(&place.pool_with(&wrapper, ""), &limit));
    let mut watch = daemon.watch();
    let down = watch.until(|it| it.state == ReplicaState::Unready);
    let cause = down.last_error.unwrap();
    assert_eq!(cause, "given up for 1 s after 4 failures in a row: engine exited with code 3");
    assert_eq!(starts(&place), 4);
    // The probe fails, and it rests again.
    let told = |it: &Replica| it.last_error.as_ref().is_some_and(|it| it.contains("after 5 fail"));
    watch.until(told);
    assert_eq!(starts(&place), 5);
    assert_eq!(daemon.get("/healthz").status, 200);
}

// OC-POOL-3002
#[test]
fn a_port_that_was_taken_is_left_for_another() {
    let place = Place::new();
    let blocker = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = blocker.local_addr().unwrap().port();
    // Its first start finds its port taken, as when another program was quicker.
    let wrapper = place.script(&format!(
        "if mkdir '{}' 2>/dev/null; then exec \"$ENGINE\" \"$@\" --port {taken}; fi\nexec \"$ENGINE\" \"$@\"",
        place.path("first").display()
    ));
    let daemon = place.start(&place.pool_with(&wrapper, ""));
    let ready = daemon.watch().until(|it| it.state == ReplicaState::Ready);
    assert_eq!(ready.incarnation, 2);
    let told = ready.last_error.unwrap();
    assert!(told.starts_with("engine exited with code 1"), "{told}");
}

// OC-POOL-3002, OC-POOL-3042
#[test]
fn an_engine_that_is_slow_to_load_is_waited_for_while_it_gets_on() {
    let place = Place::new();
    // Reads the model slowly: a piece each 200 ms, for longer than the limit altogether.
    let file = std::fs::File::options().write(true).open(place.model()).unwrap();
    file.set_len(70 << 20).unwrap();
    let wrapper = place.script(
        "for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13; do dd if=\"$2\" of=/dev/null bs=5M skip=$i count=1 2>/dev/null; \
         sleep 0.2; done\nexec \"$ENGINE\" \"$@\"",
    );
    let daemon = place.start(&place.pool_with(&wrapper, "      start_timeout_ms: 2000\n"));
    let mut watch = daemon.watch();
    let mut seen = Vec::new();
    let ready = watch.until(|it| {
        seen.extend(it.load.map(|it| it.permille));
        it.state == ReplicaState::Ready || it.last_error.is_some()
    });
    assert_eq!((ready.state, ready.incarnation), (ReplicaState::Ready, 1), "{ready:?}");
    assert!(seen.is_sorted() && seen.iter().any(|it| *it != 0), "{seen:?}");
    assert!(2_000 < ready.load_ms.unwrap());
}

// OC-POOL-3002, ORCH-3003
#[test]
fn a_model_file_that_may_not_be_read_is_told_and_found_when_it_may() {
    if rustix::process::geteuid().is_root() {
        // Nothing is forbidden to root: a folder stands for a file that cannot be read.
        let place = Place::new();
        std::fs::remove_file(place.model()).unwrap();
        std::fs::create_dir(place.model()).unwrap();
        let daemon = place.start(&place.pool(""));
        let down = daemon.watch().until(|it| it.last_error.is_some());
        assert!(down.last_error.unwrap().ends_with("is not a file"));
        return;
    }
    let place = Place::new();
    let mode = |it| std::fs::Permissions::from_mode(it);
    std::fs::set_permissions(place.model(), mode(0o000)).unwrap();
    let daemon = place.start(&place.pool(""));
    let mut watch = daemon.watch();
    let down = watch.until(|it| it.last_error.is_some());
    assert!(down.last_error.unwrap().contains("Permission denied"));
    std::fs::set_permissions(place.model(), mode(0o600)).unwrap();
    watch.until(|it| it.state == ReplicaState::Ready);
}

// OC-POOL-3040
#[test]
fn a_log_that_cannot_be_written_stops_no_engine() {
    let place = Place::new();
    let wrapper = place.script("yes 'so much to say' | head -c 3000000\nexec \"$ENGINE\" \"$@\"");
    // Every write to it says that the disk is full.
    std::fs::create_dir_all(place.path("data/logs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", place.path("data/logs/p-0.log")).unwrap();
    let daemon = place.start(&place.pool_with(&wrapper, ""));
    let ready = daemon.watch().until(|it| {
        assert_eq!(it.last_error, None);
        it.state == ReplicaState::Ready
    });
    assert_eq!((ready.incarnation, ready.restarts), (1, 0));
}

// OC-POOL-3040
#[test]
fn a_state_that_cannot_be_written_stops_no_engine() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("data")).unwrap();
    for file in ["measured.json", "digests.json"] {
        let path = place.path("data").join(file);
        std::os::unix::fs::symlink("/dev/full", path.with_extension("tmp")).unwrap();
    }
    let mut daemon = place.start(&place.pool(""));
    let ready = daemon.ready();
    assert_eq!(ready.restarts, 0);
    wait_until("it is told", || daemon.log().contains("cannot remember measurements"));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
}
