//! Engines that are kept: the manager goes and comes, they serve on.

use std::process::Stdio;

use pool_api::{Replica, ReplicaState};
use rustix::process::Signal;

use crate::rig::{Daemon, Pid, Place, address, ask_engine, children, kill, program, wait_until};

const KEEP: &str = "  on_manager_exit: keep\n";

fn start(place: &Place, more: &str) -> Daemon {
    place.start(&format!("{KEEP}{}", place.pool(more)))
}

fn pid(replica: &Replica) -> Pid {
    Pid::new(replica.pid.unwrap())
}

// OC-POOL-3041
#[test]
fn an_engine_survives_its_killed_manager_and_is_taken_over() {
    let place = Place::new();
    let flags = "      flags: ['--load-ms', '700']\n";
    let first = start(&place, flags);
    let before = first.watch().until(|it| it.load_ms.is_some());
    wait_until("its load is remembered", || place.path("data/measured.json").exists());
    let guard = pid(&before).parent();
    // Its stream goes on while there is no manager.
    let engine = address(before.endpoint.as_ref().unwrap());
    let key = format!("Authorization: Bearer {}", before.engine_key.as_ref().unwrap());
    let body = r#"{"prompt": "[[sim:decode_us=20000]]", "n_predict": 50, "stream": true}"#;
    let reader = std::thread::spawn(move || {
        ask_engine(engine, "POST", "/completion", &["Host: s", &key], body)
    });
    first.signal(Signal::KILL);
    drop(first);
    let second = start(&place, flags);
    let after = second.ready();
    assert_eq!((after.pid, after.incarnation), (before.pid, before.incarnation));
    assert_eq!((&after.endpoint, &after.engine_key), (&before.endpoint, &before.engine_key));
    assert_eq!(after.restarts, 0);
    // Nothing was loaded: neither is that counted, nor how long it took forgotten.
    let loads = "model_loads_total{model_id=\"m\",outcome=\"ready\"}";
    assert_eq!((second.metric(loads), after.load_ms), (None, before.load_ms));
    assert!(reader.join().unwrap().body.contains("\"stop\":true"));
    // And it is watched as if it were its own: its end is seen, with its code.
    kill(pid(&after), Signal::ABORT);
    let mut watch = second.watch();
    let down = watch.until(|it| it.state != ReplicaState::Ready);
    assert!(down.last_error.unwrap().starts_with("engine was killed by signal 6 (SIGABRT)"));
    let third = watch.until(|it| it.state == ReplicaState::Ready);
    assert_eq!((third.incarnation, third.restarts), (before.incarnation + 1, 1));
    guard.wait_gone("the guard of an engine that is gone");
}

// OC-POOL-3041
#[test]
fn a_manager_that_is_told_to_stop_leaves_its_engines() {
    let place = Place::new();
    let mut first = start(&place, "");
    let before = first.ready();
    first.signal(Signal::TERM);
    assert_eq!(first.end().code(), Some(0));
    assert!(first.log().contains("the engines are kept"));
    assert_ne!(pid(&before).proc("cmdline"), "");
    assert_eq!(start(&place, "").ready().pid, before.pid);
}

// OC-POOL-3041
#[test]
fn an_engine_with_other_options_is_replaced() {
    let place = Place::new();
    let first = start(&place, "");
    let before = first.ready();
    first.signal(Signal::KILL);
    drop(first);
    let second = start(&place, "      slots: 3\n");
    let after = second.ready();
    pid(&before).wait_gone("the engine of the old options");
    assert_eq!((after.slots, after.incarnation), (3, before.incarnation + 1));
}

// OC-POOL-3040, OC-POOL-3041
#[test]
fn engines_that_nobody_takes_over_are_ended() {
    let place = Place::new();
    let first = start(&place, "");
    let before = first.ready();
    first.signal(Signal::KILL);
    drop(first);
    // The pool is gone from the configuration, and so is its engine.
    let second = place.start(KEEP);
    pid(&before).wait_gone("the engine of a pool that is gone");
    drop(second);
    let third = start(&place, "");
    let kept = third.ready();
    third.signal(Signal::KILL);
    drop(third);
    // Taken over by a manager that keeps nothing, it dies with that one.
    let fourth = place.start(&place.pool(""));
    assert_eq!(fourth.ready().pid, kept.pid);
    fourth.signal(Signal::KILL);
    pid(&kept).wait_gone("the engine that was kept");
}

// OC-POOL-3040, OC-POOL-3041
#[test]
fn an_engine_that_died_meanwhile_is_started_anew_with_nothing_left_behind() {
    let place = Place::new();
    let wrapper = place.script("setsid \"$ENGINE\" \"$@\" &\nwait");
    let manager = format!("{KEEP}{}", place.pool_with(&wrapper, ""));
    let first = place.start(&manager);
    let before = first.ready();
    let below = children(pid(&before));
    assert_eq!(below.len(), 1);
    first.signal(Signal::KILL);
    drop(first);
    kill(pid(&before), Signal::KILL);
    for it in below {
        it.wait_gone("what the engine started");
    }
    let after = place.start(&manager).ready();
    assert_eq!(after.incarnation, before.incarnation + 1);
}

// OC-POOL-3041
#[test]
fn a_guard_whose_socket_is_removed_ends_its_engine() {
    let place = Place::new();
    let first = start(&place, "");
    let before = first.ready();
    first.signal(Signal::KILL);
    drop(first);
    std::fs::remove_dir_all(place.path("data")).unwrap();
    wait_until("the engine ends", || pid(&before).proc("cmdline").is_empty());
}

// OC-POOL-3041
#[test]
fn the_last_words_of_a_kept_engine_are_told() {
    let place = Place::new();
    let wrapper = place.script("echo 'the disk is made of cheese' >&2; exit 3");
    let daemon = place.start(&format!("{KEEP}{}", place.pool_with(&wrapper, "")));
    let down = daemon.watch().until(|it| it.last_error.is_some());
    let cause = down.last_error.unwrap();
    assert_eq!(cause, "engine exited with code 3: the disk is made of cheese");
}

// OC-POOL-3041
#[test]
fn kept_engines_can_be_stopped_and_belong_to_one_manager() {
    let place = Place::new();
    let first = start(&place, "");
    let before = first.ready();
    let config = place.path("config.yaml");
    let run = |argument: &str| {
        let mut command = program();
        command.arg("--config").arg(&config).arg(argument);
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let (code, said) = run("--stop-engines");
    assert!(code == 1 && said.contains("another pool-managerd uses the `data_dir`"), "{said}");
    assert_ne!(pid(&before).proc("cmdline"), "");
    first.signal(Signal::KILL);
    drop(first);
    assert_eq!(run("--stop-engines"), (0, "engines stopped: 1\n".into()));
    assert_eq!(pid(&before).proc("cmdline"), "");
    assert_eq!(run("--stop-engines"), (0, "engines stopped: 0\n".into()));
}
