//! Peers that send too much, too slowly or nothing, and peers that do not read.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use http_shell::ServeLimits;

use crate::rig::{LIMIT, Server, WIDE};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_request_head_over_its_bound_reaches_no_handler() {
    let server = Server::start(WIDE, LIMIT);
    let head = |bytes: usize| {
        let filler = "a".repeat(bytes);
        format!("GET /filled HTTP/1.1\r\nHost: localhost\r\nX-Filler: {filler}\r\n\r\n")
    };
    let mut small = server.peer();
    small.send(&head(7_000));
    assert!(small.answer().starts_with("HTTP/1.1 200 "));
    assert_eq!(server.handled.recv_timeout(LIMIT).as_deref(), Ok("/filled"));

    let mut large = server.peer();
    large.send(&head(9_000));
    let answer = large.rest();
    // What is left unread may turn the answer into a reset.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(server.handled.try_recv().is_err());
}

#[test]
fn a_request_head_that_trickles_is_cut_after_its_time() {
    let server = Server::start(ServeLimits { header_timeout: SHORT, ..WIDE }, LIMIT);
    let mut peer = server.peer();
    let began = Instant::now();
    peer.send("GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    while peer.is_silent_for(Duration::from_millis(50)) {
        assert!(began.elapsed() < LIMIT, "a peer that trickles is never cut");
        let _reset = peer.socket.write(b"a");
    }
    assert!(SHORT <= began.elapsed(), "{:?}", began.elapsed());
    assert!(!peer.rest().contains("200"));
    assert!(server.handled.try_recv().is_err());
}

#[test]
fn a_connection_on_which_nothing_comes_is_closed() {
    let server = Server::start(ServeLimits { header_timeout: SHORT, ..WIDE }, LIMIT);
    assert_eq!(server.peer().rest(), "");
    let mut kept = server.peer();
    kept.ask("/");
    kept.answer();
    assert_eq!(kept.rest(), "");
}

#[test]
fn an_answer_that_takes_longer_than_a_request_head_may_is_not_cut() {
    let server = Server::start(ServeLimits { header_timeout: SHORT, ..WIDE }, LIMIT);
    let mut peer = server.peer();
    peer.ask("/gate");
    assert!(peer.is_silent_for(3 * SHORT));
    server.gate.cancel();
    assert!(peer.answer().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_connection_over_the_bound_is_served_once_another_ends() {
    let server = Server::start(ServeLimits { connections: 2, ..WIDE }, LIMIT);
    let mut first = server.peer();
    let mut second = server.peer();
    for peer in [&mut first, &mut second] {
        peer.ask("/");
        peer.answer();
    }
    let mut third = server.peer();
    third.ask("/third");
    assert!(third.is_silent_for(SHORT));
    // Those inside are served as before.
    second.ask("/");
    second.answer();
    drop(first);
    assert!(third.answer().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_peer_that_reads_nothing_loses_its_connection() {
    let server = Server::start(ServeLimits { write_stall: SHORT, ..WIDE }, LIMIT);
    let mut peer = server.peer();
    let began = Instant::now();
    peer.ask("/endless");
    assert!(server.dropped.recv_timeout(LIMIT).is_ok(), "the body is kept for nobody");
    assert!(SHORT <= began.elapsed(), "{:?}", began.elapsed());
}

#[test]
fn a_peer_that_reads_slowly_keeps_its_connection() {
    let stall = Duration::from_secs(1);
    let server = Server::start(ServeLimits { write_stall: stall, ..WIDE }, LIMIT);
    let mut peer = server.peer();
    peer.ask("/endless");
    let mut chunk = vec![0; 4 << 20];
    let began = Instant::now();
    while began.elapsed() < 2 * stall {
        peer.socket.read_exact(&mut chunk).unwrap();
        let cut = server.dropped.recv_timeout(Duration::from_millis(100));
        assert!(cut.is_err(), "cut after {:?}", began.elapsed());
    }
}

#[test]
fn a_peer_that_leaves_takes_its_answer_with_it() {
    let server = Server::start(WIDE, LIMIT);
    let mut peer = server.peer();
    peer.ask("/endless");
    assert_eq!(server.handled.recv_timeout(LIMIT).as_deref(), Ok("/endless"));
    drop(peer);
    assert!(server.dropped.recv_timeout(LIMIT).is_ok());
}
