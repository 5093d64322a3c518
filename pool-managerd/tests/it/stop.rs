//! SIGTERM: drain, then engines, then the daemon, in order.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pool_api::{Replica, ReplicaState};
use rustix::process::Signal;

use crate::rig::{Pid, Place};

/// The shell lives on; what it started has ended.
const IGNORES_SIGTERM: &str = "trap '' TERM\n\"$ENGINE\" \"$@\" &\nwhile true; do wait; done";

/// A generation on the engine itself, as orchestratord would have one open.
fn generate(replica: &Replica, prompt: &str, tokens: u32) -> TcpStream {
    let host = replica.endpoint.as_ref().unwrap().strip_prefix("http://").unwrap();
    let body = format!(r#"{{"prompt":"{prompt}","n_predict":{tokens},"stream":true}}"#);
    let mut stream = TcpStream::connect(host.parse::<SocketAddr>().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST /completion HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\n\r\n",
        replica.engine_key.as_ref().unwrap(),
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    // The head of the answer: the sequence runs.
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

// OC-CTRL-2082
#[test]
fn sigterm_stops_every_engine_and_ends_in_order() {
    let place = Place::new();
    let mut daemon = place.start(&place.pool("      replicas: 2\n"));
    let mut watch = daemon.watch();
    let pids: Vec<Pid> = loop {
        let pool = watch.next_pool().unwrap();
        if pool.replicas.iter().all(|it| it.state == ReplicaState::Ready) {
            break pool.replicas.iter().map(|it| Pid::new(it.pid.unwrap())).collect();
        }
    };
    daemon.signal(Signal::TERM);
    assert!(watch.next_pool().unwrap().draining);
    assert_eq!(daemon.end().code(), Some(0), "{}", daemon.log());
    for pid in pids {
        assert_eq!(pid.proc("cmdline"), "");
    }
    let log = daemon.log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no `{text}` in {log}"));
    assert!(at("draining") < at("\"stopped\""), "{log}");
}

// OC-CTRL-2082
#[test]
fn a_running_generation_is_finished_before_the_engine_stops() {
    let place = Place::new();
    let mut daemon = place.start_with(&place.pool(""), "drain_ms: 30000");
    let replica = daemon.ready();
    let mut stream = generate(&replica, "[[sim:decode_us=50000]]", 20);
    daemon.signal(Signal::TERM);
    daemon.watch().until(|it| it.state == ReplicaState::Draining);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains(r#""stop":true"#), "the generation was cut: {rest}");
    drop(stream);
    assert_eq!(daemon.end().code(), Some(0));
}

#[test]
fn a_second_signal_skips_the_wait() {
    let place = Place::new();
    let mut daemon = place.start_with(&place.pool(""), "drain_ms: 600000");
    let replica = daemon.ready();
    let _endless = generate(&replica, "[[sim:decode_us=200000]]", 500);
    daemon.signal(Signal::TERM);
    daemon.watch().until(|it| it.state == ReplicaState::Draining);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.end().code(), Some(0));
}

#[test]
fn a_signal_while_engines_stop_skips_their_grace() {
    let place = Place::new();
    let wrapper = place.script(IGNORES_SIGTERM);
    let mut daemon = place.start(&place.pool_with(&wrapper, "      stop_grace_ms: 600000\n"));
    let engine = Pid::new(daemon.ready().pid.unwrap());
    let mut watch = daemon.watch();
    daemon.signal(Signal::TERM);
    // The stream ends with the drain.
    while watch.next().is_some() {}
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
    engine.wait_gone("the engine");
}

// OC-CTRL-2082
#[test]
fn an_engine_that_ignores_sigterm_is_killed_after_its_grace() {
    let place = Place::new();
    let wrapper = place.script(IGNORES_SIGTERM);
    let mut daemon = place.start(&place.pool_with(&wrapper, "      stop_grace_ms: 200\n"));
    let engine = Pid::new(daemon.ready().pid.unwrap());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
    engine.wait_gone("the engine");
}

// OC-CTRL-2082
#[test]
fn a_daemon_without_pools_stops_too() {
    let place = Place::new();
    let mut daemon = place.start("");
    assert_eq!(daemon.get("/readyz").status, 200);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.end().code(), Some(0));
}
