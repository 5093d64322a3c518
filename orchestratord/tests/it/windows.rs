//! Streams of which only the newest events stay in memory: nobody notices.

use std::time::Duration;

use crate::client::{numbers, text};
use crate::daemon::{Life, World};
use crate::rig::{pause, wait_until};

/// About sixty tokens stay in memory.
const SMALL: &str = "stream: {memory_bytes: 4096}";

fn peak_bytes(life: &Life) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", life.pid())).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

// OC-JRNL-6032, ORCH-2002, ORCH-4002
#[test]
fn readers_get_every_event_wherever_they_join_a_stream_that_is_not_in_memory() {
    let world = World::with_long_context(&["--decode-us-per-token", "200"], SMALL);
    let life = world.start();
    let task = life.client.submit(r#"{"prompt":"a","max_tokens":4000}"#);
    let path = format!("/v1/tasks/{task}/stream");
    let from = |seen: u64| life.client.get(&path, &[("last-event-id", &seen.to_string())]).events();
    let mut first = life.client.read(&task);
    while first.until("token").data["i"].as_u64().unwrap() < 1_000 {}
    // While it runs, from the start and from somewhere in what is gone.
    let (whole, rest) = std::thread::scope(|scope| {
        let rest = scope.spawn(|| from(700));
        (life.client.stream(&task), rest.join().unwrap())
    });
    let ids: Vec<u64> = whole.iter().filter_map(|it| it.id).collect();
    assert_eq!(ids, (1..=4002).collect::<Vec<_>>());
    assert_eq!(text(&whole), numbers(4000));
    let journaled = |events: &[crate::client::Event]| {
        events.iter().filter(|it| it.id.is_some()).cloned().collect::<Vec<_>>()
    };
    assert_eq!(journaled(&rest), journaled(&whole)[700..]);
    // After its end; and all of its text.
    for seen in [0, 1, 699, 2_000, 3_990, 4_001] {
        let expected = &journaled(&whole)[usize::try_from(seen).unwrap()..];
        assert_eq!(journaled(&from(seen)), expected, "after {seen}");
    }
    let known = life.client.json(&format!("/v1/tasks/{task}"));
    assert_eq!(known["text"], numbers(4000));
}

// OC-JRNL-6032, ORCH-4003
#[test]
fn what_goes_on_elsewhere_goes_on_after_the_whole_text() {
    let world = World::with_long_context(&["--decode-us-per-token", "500", "--metrics"], SMALL);
    let life = world.start();
    let task = life.client.submit(r#"{"prompt":"a","max_tokens":1500}"#);
    let mut stream = life.client.read(&task);
    while stream.until("token").data["i"].as_u64().unwrap() < 1_000 {}
    let before = world.prompt_tokens();
    life.kill();
    let life = world.start();
    assert_eq!(text(&life.client.stream(&task)), numbers(1500));
    // Four bytes are a token to this engine.
    let sent = world.prompt_tokens() - before;
    assert!(numbers(1_000).len() as u64 / 4 < sent, "the prompt had {sent} tokens");
}

// OC-JRNL-6032, ORCH-3036
#[test]
fn a_stream_takes_the_same_memory_however_long_it_is() {
    let world = World::with_long_context(&["--decode-us-per-token", "0"], SMALL);
    let life = world.start();
    let short = life.client.submit(r#"{"prompt":"a","max_tokens":3000}"#);
    life.client.stream(&short);
    let before = peak_bytes(&life);
    let long = life.client.submit(r#"{"prompt":"a","max_tokens":300000}"#);
    let known = || life.client.json("/v1/tasks")["tasks"][0].clone();
    wait_until("it has ended", || known()["state"] == "completed");
    assert_eq!(known()["task_id"], long);
    let grown = peak_bytes(&life) - before;
    // Its events are 18 MB.
    assert!(grown < 9 << 20, "{grown} bytes more than before");
}

// OC-JRNL-6032, OC-CTRL-2020
#[test]
fn a_reader_of_what_is_no_longer_kept_is_told() {
    let config = format!("{SMALL}\nretention: {{ttl_ms: 1000}}");
    let world = World::with_long_context(&["--decode-us-per-token", "0"], &config);
    let life = world.start();
    let task = life.client.submit(r#"{"prompt":"a","max_tokens":200000}"#);
    let state = || life.client.json("/v1/tasks")["tasks"][0]["state"].clone();
    wait_until("it has ended", || state() == "completed");
    // Takes what its connection's buffers hold, and no more until the task is gone.
    let mut slow = life.client.read(&task);
    wait_until("it is no longer kept", || state().is_null());
    let (mut ids, mut last) = (0, None);
    while let Some(event) = slow.next() {
        if let Some(id) = event.id {
            ids += 1;
            assert_eq!(id, ids);
        }
        last = Some(event);
    }
    let last = last.unwrap();
    assert_eq!((last.name.as_str(), &last.data["reason"]), ("disconnected", &"unreadable".into()));
    assert!(0 < ids && ids < 200_002, "{ids}");
}

// OC-JRNL-6032, OC-JRNL-6020
#[test]
fn an_end_that_has_no_room_yet_is_all_there() {
    let world = World::with_long_context(&["--decode-us-per-token", "200"], SMALL);
    let life = world.start_as(world.command_that_survives_limits());
    let task = life.client.submit(r#"{"prompt":"a","max_tokens":3000}"#);
    let mut first = life.client.read(&task);
    first.until("token");
    // The engine is through before anybody gives up.
    life.limit_files(Some(1));
    while first.next().is_some_and(|it| it.name != "end") {}
    let whole = || {
        let known = life.client.json(&format!("/v1/tasks/{task}"));
        assert_eq!((&known["state"], &known["text"]), (&"completed".into(), &numbers(3000).into()));
        assert_eq!(text(&life.client.stream(&task)), numbers(3000));
    };
    whole();
    life.limit_files(None);
    wait_until("there is room again", || {
        life.client.post("/v1/tasks", r#"{"prompt":"b","max_tokens":1}"#, &[]).status == 202
    });
    whole();
}

// OC-CTRL-2027, ORCH-2002
#[test]
fn a_reader_that_the_disk_keeps_waiting_is_not_slow() {
    let config = "stream: {reader_lag_bytes: 4096}";
    let world = World::with_long_context(&["--decode-us-per-token", "200"], config);
    let life = world.start_as(world.command_that_survives_limits());
    let task = life.client.submit(r#"{"prompt":"a","max_tokens":4000}"#);
    let mut reader = life.client.read(&task);
    reader.until("token");
    life.limit_files(Some(1));
    pause(Duration::from_millis(400));
    life.limit_files(None);
    while let Some(event) = reader.next() {
        assert_ne!(event.name, "disconnected");
    }
    assert_eq!(text(&life.client.stream(&task)), numbers(4000));
}
