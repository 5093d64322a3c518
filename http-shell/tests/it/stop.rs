//! From the request to stop to the last closed connection.

use std::net::TcpStream;
use std::time::Duration;

use http_shell::ServeLimits;

use crate::rig::{LIMIT, Server, WIDE};

/// Longer than any test, so that what ends has not ended by it.
const NEVER: Duration = Duration::from_secs(3_600);

// OC-CTRL-2082
#[test]
fn an_open_request_is_answered_before_the_server_ends() {
    // One connection, so that the next permit is waited for while the server stops.
    let server = Server::start(ServeLimits { connections: 1, ..WIDE }, NEVER);
    let mut peer = server.peer();
    peer.ask("/gate");
    assert_eq!(server.handled.recv_timeout(LIMIT).as_deref(), Ok("/gate"));
    server.stop.cancel();
    assert!(server.ended.recv_timeout(Duration::from_millis(200)).is_err());
    server.gate.cancel();
    let answer = peer.answer();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(peer.rest(), "");
    assert!(server.ended.recv_timeout(LIMIT).is_ok());
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let server = Server::start(WIDE, NEVER);
    let mut kept = server.peer();
    kept.ask("/");
    kept.answer();
    server.stop.cancel();
    assert_eq!(kept.rest(), "");
    assert!(server.ended.recv_timeout(LIMIT).is_ok());
}

#[test]
fn a_connection_that_has_sent_nothing_does_not_delay_the_end() {
    let server = Server::start(WIDE, NEVER);
    let mut silent = server.peer();
    let mut last = server.peer();
    // Accepted in their order: after this answer the silent one is inside as well.
    last.ask("/");
    last.answer();
    server.stop.cancel();
    assert_eq!(silent.rest(), "");
    assert!(server.ended.recv_timeout(LIMIT).is_ok());
}

// OC-CTRL-2082
#[test]
fn a_request_that_does_not_end_is_cut_when_the_drain_is_over() {
    let server = Server::start(WIDE, Duration::from_millis(200));
    let mut waiting = server.peer();
    waiting.ask("/gate");
    let mut endless = server.peer();
    endless.ask("/endless");
    for _ in 0..2 {
        assert!(server.handled.recv_timeout(LIMIT).is_ok());
    }
    server.stop.cancel();
    assert!(server.ended.recv_timeout(LIMIT).is_ok());
    assert!(server.dropped.recv_timeout(LIMIT).is_ok());
    assert_eq!(waiting.rest(), "");
}
