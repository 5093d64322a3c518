//! Each fault, seen from the other end of the socket.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use engine_sim::SimProcess;
use serde_json::json;

use crate::wire::{connect, decode, get, post, raw_stream, read_until, start, stream};

const END: &str = "\r\n0\r\n\r\n";

fn sim() -> SimProcess {
    SimProcess::spawn::<&str>([])
}

fn tokens_in(raw: &str) -> usize {
    raw.matches("\"stop\":false").count()
}

#[test]
fn die_after_ends_the_process() {
    let mut sim = sim();
    let (raw, _) = raw_stream(&sim, "[[sim:die_after=3]]");
    assert_eq!(tokens_in(&raw), 3);
    assert!(!raw.ends_with(END));
    assert!(!sim.wait().unwrap().success());
}

#[test]
fn reset_after_is_a_reset() {
    let (raw, end) = raw_stream(&sim(), "[[sim:reset_after=2]]");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(tokens_in(&raw) <= 2);
}

#[test]
fn eof_after_ends_properly_without_a_last_event() {
    let (raw, end) = raw_stream(&sim(), "[[sim:eof_after=2]]");
    end.unwrap();
    assert_eq!(tokens_in(&raw), 2);
    assert!(raw.ends_with(END) && !raw.contains("\"stop\":true"));
}

#[test]
fn eof_after_all_tokens_still_withholds_the_last_event() {
    let (raw, _) = raw_stream(&sim(), "[[sim:eof_after=5]]");
    assert_eq!(tokens_in(&raw), 5);
    assert!(!raw.contains("\"stop\":true"));
}

#[test]
fn error_after_is_the_recorded_event() {
    let (raw, _) = raw_stream(&sim(), "[[sim:error_after=1]]");
    assert_eq!(tokens_in(&raw), 1);
    let recorded = "\r\n60\r\ndata: {\"error\":{\"code\":500,\"message\":\"Context size has been exceeded.\",\"type\":\"server_error\"}}\n\n\r\n0\r\n\r\n";
    assert!(raw.ends_with(recorded), "{raw}");
}

#[test]
fn half_close_after_stops_inside_a_chunk() {
    let sim = sim();
    let mut socket = connect(&sim);
    start(&mut socket, "[[sim:half_close_after=1]]");
    let mut raw = String::new();
    socket.read_to_string(&mut raw).unwrap();
    assert!(raw.ends_with("75\r\ndata: {\"index\":0,\"content\":\""));
}

#[test]
fn malformed_after_is_not_json_and_the_stream_goes_on() {
    let (raw, _) = raw_stream(&sim(), "[[sim:malformed_after=1]]");
    assert!(raw.contains("data: {\"index\":0,\"content\":\n\n"));
    assert_eq!(tokens_in(&raw), 5);
}

#[test]
fn hang_after_is_silent_and_hang_ping_is_not() {
    let sim = sim();
    let mut silent = connect(&sim);
    start(&mut silent, "[[sim:hang_after=1]]");
    read_until(&mut silent, "\"tokens_predicted\":1");
    let mut pinged = connect(&sim);
    start(&mut pinged, "[[sim:hang_after=1 hang_ping=1]]");
    read_until(&mut pinged, "3\r\n:\n\n\r\n3\r\n:\n\n\r\n");
    silent.set_nonblocking(true).unwrap();
    assert_eq!(silent.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn split_and_merge_do_not_change_the_bytes() {
    let sim = sim();
    for shape in ["split=1 utf8=1", "split=7", "merge=3", "merge=100", "len=40"] {
        let answer = stream(&sim, &format!("[[sim:{shape}]]"), 5);
        let events = answer.events();
        assert_eq!(events.len(), 6, "{shape}");
        for (number, event) in events[..5].iter().enumerate() {
            assert!(event["content"].as_str().unwrap().contains(&number.to_string()), "{shape}");
        }
    }
    assert_eq!(stream(&sim, "[[sim:len=4]]", 1).text(), " 0..");
}

#[test]
fn slow_headers_come_late_and_status_comes_instead() {
    let sim = sim();
    let start = Instant::now();
    assert_eq!(stream(&sim, "[[sim:slow_headers_ms=60]]", 1).status, 200);
    assert!(start.elapsed() >= Duration::from_millis(60));
    let refused = stream(&sim, "[[sim:status=503]]", 1);
    assert_eq!(refused.json()["error"]["type"], "unavailable_error");
    assert!(refused.head.contains("Connection: close"));
}

#[test]
fn pacing_takes_its_time() {
    let sim = SimProcess::spawn(["--prefill-us-per-token", "10000"]);
    let start = Instant::now();
    stream(&sim, "[[sim:decode_us=10000]]", 4);
    // 7 tokens of prompt and 4 of answer.
    assert!(start.elapsed() >= Duration::from_millis(110));
}

#[test]
fn process_wide_faults_are_ordered_by_the_admin_route() {
    let mut sim = sim();
    post(&sim, "/sim/fault", &json!({ "refuse": 1 }));
    // Depending on who is first this is an end or a reset, but never an answer.
    let (raw, _) = raw_or_refused(&sim);
    assert_eq!(raw, "");
    assert_eq!(stream(&sim, "x", 1).status, 200);

    post(&sim, "/sim/fault", &json!({ "unready": true }));
    assert_eq!(get(&sim, "/health").status, 503);
    post(&sim, "/sim/fault", &json!({ "unready": false }));
    assert_eq!(get(&sim, "/health").status, 200);

    post(&sim, "/sim/fault", &json!({ "hang_all": true }));
    let mut hung = connect(&sim);
    hung.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    start(&mut hung, "x");
    assert_eq!(hung.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    post(&sim, "/sim/fault", &json!({ "hang_all": false }));
    assert_eq!(get(&sim, "/health").status, 200);

    let mut socket = connect(&sim);
    crate::wire::send(&mut socket, "POST", "/sim/fault", "", r#"{"die":true}"#);
    assert!(!sim.wait().unwrap().success());
}

fn raw_or_refused(sim: &SimProcess) -> (String, std::io::Result<()>) {
    use std::io::Write;
    let mut socket = connect(sim);
    let mut raw = Vec::new();
    let end = socket
        .write_all(b"GET /health HTTP/1.1\r\n\r\n")
        .and_then(|()| socket.read_to_end(&mut raw).map(|_| ()));
    (String::from_utf8(raw).unwrap(), end)
}

#[test]
fn a_connection_can_be_closed_without_announcement() {
    let sim = SimProcess::spawn(["--keep-alive-requests", "1"]);
    let mut socket = connect(&sim);
    crate::wire::send(&mut socket, "GET", "/health", "", "");
    let mut raw = Vec::new();
    socket.read_to_end(&mut raw).unwrap();
    assert!(decode(&raw).head.contains("Keep-Alive"));
}

#[test]
fn sigterm_ends_an_idle_engine_at_once_and_leaves_streams_without_a_last_event() {
    let mut idle = sim();
    terminate(&idle);
    assert!(idle.wait().unwrap().success());

    let mut busy = SimProcess::spawn(["--sse-ping-interval", "0"]);
    let mut socket = connect(&busy);
    start(&mut socket, "[[sim:hang_after=1]]");
    read_until(&mut socket, "\"tokens_predicted\":1");
    terminate(&busy);
    let mut rest = String::new();
    // The process ends with the connection open: an end or a reset, but never a final event.
    let _ = socket.read_to_string(&mut rest);
    assert!(!rest.contains("\"stop\":true"));
    assert!(busy.wait().unwrap().success());
}

pub(crate) fn terminate(sim: &SimProcess) {
    let status = std::process::Command::new("kill").arg(sim.pid().to_string()).status();
    assert!(status.unwrap().success());
}
