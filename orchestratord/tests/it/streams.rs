//! Order, framing, replay and readers of every speed.

use std::io::{BufRead, Read};

use crate::client::{names, numbers, text};
use crate::rig::{Rig, Setup, wait_until};

// ORCH-2001, ORCH-2002, OC-CTRL-2020, OC-CTRL-2021, OC-CTRL-2022, OC-CTRL-2027, OC-CORE-1034
#[test]
fn a_stream_is_queued_started_tokens_end_in_this_order() {
    let rig = Rig::with_slots(1);
    let events = rig.client.run(r#"{"prompt":"hello","max_tokens":3,"seed":7}"#);
    assert_eq!(names(&events), ["queued", "started", "token", "token", "token", "end"]);
    let ids: Vec<_> = events.iter().map(|it| it.id).collect();
    assert_eq!(ids, [None, Some(1), Some(2), Some(3), Some(4), Some(5)]);
    assert_eq!(text(&events), numbers(3));
    let (queued, started, end) = (&events[0].data, &events[1].data, &events[5].data);
    assert_eq!(queued["seed"], 7);
    assert_eq!(queued["queue_position"], 0);
    assert_eq!(
        queued["links"]["stream"],
        format!("/v1/tasks/{}/stream", queued["task_id"].as_str().unwrap())
    );
    for field in ["engine", "engine_version", "pool_id", "replica_id", "model_id", "model_digest"] {
        assert!(started[field].is_string(), "{field}: {started}");
    }
    for field in ["queue_position", "predicted_start_ms", "queue_time_ms", "seed", "attempt"] {
        assert!(started[field].is_u64(), "{field}: {started}");
    }
    assert_eq!(events[3].data, serde_json::json!({"t": " 1", "i": 1, "n": 1}));
    assert_eq!((&end["tokens_in"], &end["tokens_out"]), (&3.into(), &3.into()));
    assert_eq!(end["finish_reason"], "length");
}

#[test]
fn an_event_is_on_its_way_before_the_next_is_awaited() {
    let rig = Rig::with_slots(1);
    let mut events = rig.client.open(r#"{"prompt":"[[sim:hang_after=2]]","max_tokens":9}"#);
    assert_eq!(events.until("token").data["i"], 0);
    // The engine is silent from here on: this one can only have been sent by itself.
    assert_eq!(events.until("token").data["i"], 1);
}

#[test]
fn what_is_ready_together_is_written_together() {
    let rig = Rig::with_slots(1);
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":50}"#);
    rig.client.stream(&task);
    let request = format!("GET /v1/tasks/{task}/stream HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut stream = rig.client.raw(&request);
    let mut line = String::new();
    while stream.reader.read_line(&mut line).unwrap() > 2 {
        line.clear();
    }
    // The replay of 52 events is one chunk of the body.
    let mut size = String::new();
    stream.reader.read_line(&mut size).unwrap();
    let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).unwrap()];
    stream.reader.read_exact(&mut chunk).unwrap();
    let chunk = String::from_utf8(chunk).unwrap();
    assert!(chunk.starts_with("id: 1\n") && chunk.contains("event: end"), "{chunk}");
}

// ORCH-2002
#[test]
fn a_late_reader_gets_everything_and_a_returning_one_the_rest() {
    let rig = Rig::with_slots(1);
    let task = rig.client.submit(r#"{"prompt":"hello","max_tokens":4}"#);
    let whole = rig.client.stream(&task);
    let whole: Vec<_> = whole.into_iter().filter(|it| it.id.is_some()).collect();
    assert_eq!(names(&whole), ["started", "token", "token", "token", "token", "end"]);
    let path = format!("/v1/tasks/{task}/stream");
    for seen in 0..=6_usize {
        let rest = rig.client.get(&path, &[("last-event-id", &seen.to_string())]).events();
        assert_eq!(rest, whole[seen..], "after {seen}");
    }
    let query = rig.client.get(&format!("{path}?after=5"), &[]).events();
    assert_eq!(query, whole[5..]);
    let header_wins = rig.client.get(&format!("{path}?after=5"), &[("last-event-id", "2")]);
    assert_eq!(header_wins.events(), whole[2..]);
}

#[test]
fn an_event_id_beyond_the_stream_or_no_number_is_refused() {
    let rig = Rig::with_slots(1);
    let task = rig.client.submit(r#"{"prompt":"hello","max_tokens":1}"#);
    rig.client.stream(&task);
    let path = format!("/v1/tasks/{task}/stream");
    let beyond = rig.client.get(&path, &[("last-event-id", "4")]);
    assert_eq!((beyond.status, &beyond.json()["code"]), (409, &"STREAM_DIVERGED".into()));
    for malformed in ["x", "-1", "1.5"] {
        let answer = rig.client.get(&path, &[("last-event-id", malformed)]);
        assert_eq!((answer.status, &answer.json()["code"]), (400, &"INVALID_PARAMS".into()));
    }
}

#[test]
fn several_readers_see_the_same_stream() {
    let rig = Rig::with_slots(1);
    let task = rig.client.submit(r#"{"prompt":"[[sim:decode_us=2000]]","max_tokens":40}"#);
    let readers: Vec<Vec<_>> = std::thread::scope(|scope| {
        let spawn = |_| scope.spawn(|| rig.client.stream(&task));
        let readers: Vec<_> = (0..4).map(spawn).collect();
        readers.into_iter().map(|it| it.join().unwrap()).collect()
    });
    for events in readers {
        assert_eq!(text(&events), numbers(40));
    }
}

#[test]
fn a_waiting_reader_is_told_its_place_and_when_it_changes() {
    let rig = Rig::with_slots(1);
    let first = rig.client.submit(r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#);
    let second = rig.client.submit(r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#);
    let mut third = rig.client.open(r#"{"prompt":"a","max_tokens":1}"#);
    let queued = third.until("queued");
    assert_eq!(queued.data["queue_position"], 1);
    assert_eq!(queued.data["reason"], "waiting_for_slot");
    rig.client.cancel(&first);
    assert_eq!(third.until("queued").data["queue_position"], 0);
    rig.client.cancel(&second);
    assert_eq!(third.until("end").data["tokens_out"], 1);
}

// OC-CTRL-2027
#[test]
fn a_silent_stream_has_heartbeats() {
    let config = "stream: {heartbeat_ms: 50}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let body = r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#;
    let mut stream = rig.client.open(body);
    stream.until("token");
    let mut comments = 0;
    while comments < 3 {
        let mut line = String::new();
        assert!(stream.reader.read_line(&mut line).unwrap() > 0, "the stream ended");
        comments += u32::from(line.starts_with(':'));
    }
}

#[test]
fn a_slow_reader_is_cut_and_slows_nobody() {
    let config = "stream: {reader_lag_bytes: 65536}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    // 12 MB: more than both kernels' socket buffers hold, so the reader's connection fills up.
    let body = r#"{"prompt":"[[sim:len=16384]]","max_tokens":800,"on_disconnect":"detach"}"#;
    let mut slow = rig.client.open(body);
    let queued = slow.until("queued");
    let task = queued.data["task_id"].as_str().unwrap();
    wait_until("the engine is done", || {
        rig.client.json(&format!("/v1/tasks/{task}"))["state"] == "completed"
    });
    // It wakes up too late: the stream has run ahead.
    let mut last = slow.next().unwrap();
    let mut seen = 0;
    while let Some(event) = slow.next() {
        seen = last.id.unwrap_or(seen);
        last = event;
    }
    assert_eq!(last.name, "disconnected");
    assert_eq!(last.data["reason"], "slow_reader");
    // Nothing is lost: it comes back and gets the rest.
    let path = format!("/v1/tasks/{task}/stream?after={seen}");
    let rest = rig.client.get(&path, &[]).events();
    assert_eq!(rest[0].id, Some(seen + 1));
    assert_eq!(rest.last().unwrap().name, "end");
    assert_eq!(rest.last().unwrap().id, Some(802));
}

#[test]
fn a_reader_that_never_reads_loses_its_connection() {
    let config = "stream: {write_stall_ms: 200}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let body = r#"{"prompt":"[[sim:len=16384]]","max_tokens":800,"on_disconnect":"detach"}"#;
    let mut stalled = rig.client.open(body);
    stalled.until("queued");
    let open = || rig.client.get("/metrics", &[]).body.contains("stream_subscribers 0");
    wait_until("the connection is given up", open);
}
