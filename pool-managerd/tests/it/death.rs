//! No engine outlives its manager, however either of them dies.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::rig::{Daemon, Pid, Place, children, kill};

/// Kills the manager and waits for the end of the engine and of what that started.
fn kill_manager_of(place: &Place, bin: &Path, expected_children: usize) {
    let daemon = place.start(&place.pool_with(bin, ""));
    let engine = Pid::new(daemon.ready().pid.unwrap());
    let below = children(engine);
    assert_eq!(below.len(), expected_children, "{}", engine.proc("cmdline"));
    daemon.signal(Signal::KILL);
    engine.wait_gone("the engine");
    for pid in below {
        pid.wait_gone("what the engine started");
    }
}

fn engine() -> PathBuf {
    engine_sim::binary_path().unwrap().to_owned()
}

// OC-POOL-3040
#[test]
fn an_engine_dies_with_a_killed_manager() {
    kill_manager_of(&Place::new(), &engine(), 0);
}

// OC-POOL-3040
#[test]
fn what_a_wrapper_script_forked_dies_with_a_killed_manager() {
    let place = Place::new();
    let wrapper = place.script("\"$ENGINE\" \"$@\" &\nwait");
    kill_manager_of(&place, &wrapper, 1);
}

// OC-POOL-3040
#[test]
fn what_left_the_process_group_dies_with_a_killed_manager() {
    let place = Place::new();
    let wrapper = place.script("setsid \"$ENGINE\" \"$@\" &\nwait");
    kill_manager_of(&place, &wrapper, 1);
}

/// Kills the engine's guard, which nobody should.
fn kill_guard(daemon: &Daemon) -> (Pid, Vec<Pid>) {
    let engine = Pid::new(daemon.ready().pid.unwrap());
    let below = children(engine);
    let guards = children(daemon.pid());
    assert_eq!(guards.len(), 1);
    kill(guards[0], Signal::KILL);
    (engine, below)
}

// OC-POOL-3040
#[test]
fn an_engine_whose_guard_is_killed_dies_and_is_started_anew() {
    let place = Place::new();
    let wrapper = place.script("\"$ENGINE\" \"$@\" &\nwait");
    let daemon = place.start(&place.pool_with(&wrapper, ""));
    let (engine, below) = kill_guard(&daemon);
    engine.wait_gone("the engine");
    assert_eq!(below.len(), 1);
    below[0].wait_gone("what the engine started");
    let again =
        daemon.watch().until(|it| it.state == pool_api::ReplicaState::Ready && it.incarnation == 2);
    assert_eq!(
        again.last_error.as_deref().map(|it| it.starts_with("engine's guard was killed")),
        Some(true)
    );
}

// OC-POOL-3040
#[test]
fn an_engine_dies_with_its_guard_even_while_the_manager_stands_still() {
    let place = Place::new();
    let daemon = place.start(&place.pool(""));
    let engine = Pid::new(daemon.ready().pid.unwrap());
    // As if both had been killed at once: the manager cannot help.
    daemon.signal(Signal::STOP);
    kill(children(daemon.pid())[0], Signal::KILL);
    engine.wait_gone("the engine");
    daemon.signal(Signal::CONT);
    daemon.watch().until(|it| it.incarnation == 2);
}

// OC-POOL-3040
#[test]
fn an_engine_dies_with_a_manager_and_a_guard_that_are_killed_together() {
    let place = Place::new();
    let daemon = place.start(&place.pool(""));
    let engine = Pid::new(daemon.ready().pid.unwrap());
    let guard = children(daemon.pid())[0];
    // Else it might see the manager's end before its own.
    kill(guard, Signal::STOP);
    daemon.signal(Signal::KILL);
    kill(guard, Signal::KILL);
    engine.wait_gone("the engine");
}

// OC-POOL-3040
#[test]
fn what_a_crashed_engine_leaves_behind_is_killed_before_the_next_start() {
    let place = Place::new();
    let wrapper = place.script("setsid tail -f \"$2\" &\nexec \"$ENGINE\" \"$@\"");
    let daemon = place.start(&place.pool_with(&wrapper, ""));
    let engine = Pid::new(daemon.ready().pid.unwrap());
    let left = children(engine);
    assert_eq!(left.len(), 1);
    kill(engine, Signal::KILL);
    daemon.watch().until(|it| it.incarnation == 2);
    assert_eq!(left[0].proc("cmdline"), "");
}

// OC-POOL-3040, OC-POOL-3045
#[test]
fn an_engine_of_another_user_is_run_as_that_and_dies_with_the_manager() {
    let place = Place::new();
    let user = "      user: nobody\n";
    if !rustix::process::geteuid().is_root() {
        let daemon = place.start(&place.pool(user));
        let told = daemon.watch().until(|it| it.last_error.is_some()).last_error.unwrap();
        assert!(told.contains("cannot become user"), "{told}");
        return;
    }
    // Where that user can read and run it.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.folder.path(), open.clone()).unwrap();
    std::fs::copy(engine(), place.path("engine")).unwrap();
    std::fs::set_permissions(place.path("engine"), open).unwrap();
    let daemon = place.start(&place.pool_with(&place.path("engine"), user));
    let running = Pid::new(daemon.ready().pid.unwrap());
    let status = running.proc("status");
    let uid = status.lines().find_map(|it| it.strip_prefix("Uid:")).unwrap();
    assert!(uid.split_whitespace().all(|it| it != "0"), "{uid}");
    // The guard dies alone: only the kernel can tell the engine.
    kill(running.parent(), Signal::KILL);
    running.wait_gone("an engine whose guard is gone");
    let unknown = Place::new();
    let daemon = unknown.start(&unknown.pool("      user: nobody-at-all\n"));
    let told = daemon.watch().until(|it| it.last_error.is_some()).last_error.unwrap();
    assert_eq!(told, "there is no user `nobody-at-all` in /etc/passwd");
}
