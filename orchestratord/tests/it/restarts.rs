//! Nothing accepted is lost: the daemon is killed, and its next life goes on.

use std::time::Duration;

use serde_json::json;

use crate::client::{Event, names, numbers, text};
use crate::daemon::{Life, World};
use crate::rig::{pause, wait_until};

/// Two milliseconds for a token.
const SLOW: &[&str] = &["--decode-us-per-token", "2000"];

fn after(life: &Life, task: &str, last: u64) -> Vec<Event> {
    let last = last.to_string();
    let path = format!("/v1/tasks/{task}/stream");
    life.client.get(&path, &[("last-event-id", &last)]).events()
}

// ORCH-4001, ORCH-4002, ORCH-4003
#[test]
fn a_stream_goes_on_after_kill_9_with_each_token_once() {
    let world = World::new(&[1], SLOW, "");
    let life = world.start();
    let task = life.client.submit(r#"{"prompt":"a","max_tokens":200}"#);
    let waiting = life.client.submit(r#"{"prompt":"b","max_tokens":3}"#);
    let mut stream = life.client.read(&task);
    let mut seen = vec![stream.until("started")];
    while seen.len() < 20 {
        seen.push(stream.next().unwrap());
    }
    life.kill();
    let life = world.start();
    let last = seen.iter().filter_map(|it| it.id).max().unwrap();
    let rest = after(&life, &task, last);
    let ids: Vec<u64> = seen.iter().chain(&rest).filter_map(|it| it.id).collect();
    let count = u64::try_from(ids.len()).unwrap();
    assert_eq!(ids, (1..=count).collect::<Vec<_>>());
    assert_eq!(text(&seen) + &text(&rest), numbers(200));
    let resumed = rest.iter().find(|it| it.name == "resumed").unwrap();
    assert_eq!(resumed.data["attempt"], 2);
    let end = &rest.last().unwrap().data;
    assert_eq!((&end["finish_reason"], &end["tokens_out"]), (&json!("length"), &json!(200)));
    // A reader that comes now sees what the first one saw.
    assert_eq!(text(&life.client.stream(&task)), numbers(200));
    assert_eq!(text(&life.client.stream(&waiting)), numbers(3));
}

// ORCH-4001, ORCH-4004, ORCH-3024
#[test]
fn an_ended_task_is_the_same_after_a_restart_and_is_not_run_again() {
    let world = World::new(&[1], &[], "");
    let life = world.start();
    let id = uuid::Uuid::new_v4();
    let body = format!(r#"{{"task_id":"{id}","prompt":"a","max_tokens":5,"session_id":"s"}}"#);
    life.client.submit(&body);
    let stream = life.client.stream(&id.to_string());
    let task = life.client.json(&format!("/v1/tasks/{id}"));
    let list = life.client.json("/v1/tasks?session=s");
    assert_eq!(list["tasks"].as_array().unwrap().len(), 1);
    life.kill();
    let life = world.start();
    assert_eq!(life.client.stream(&id.to_string()), stream);
    assert_eq!(life.client.json(&format!("/v1/tasks/{id}")), task);
    assert_eq!(life.client.json("/v1/tasks?session=s"), list);
    let again = life.client.post("/v1/tasks", &body, &[]);
    assert_eq!((again.status, &again.json()["state"]), (202, &json!("completed")));
    assert_eq!(again.json()["ephemeral"], false);
    let other = life.client.post("/v1/tasks", &body.replace("\"a\"", "\"b\""), &[]);
    assert_eq!(other.json()["code"], "TASK_ID_CONFLICT");
    let scrape = life.client.get("/metrics", &[]).body;
    assert!(!scrape.contains("tasks_started_total{"), "it ran again");
}

// ORCH-4001
#[test]
fn what_waits_comes_back_in_its_order_with_its_limits() {
    let config = "tenants: [{name: default, queued: 5}]";
    let world = World::new(&[1], SLOW, config);
    let life = world.start();
    let client = &life.client;
    let running = client.submit(r#"{"prompt":"a","max_tokens":1000}"#);
    client.read(&running).until("token");
    let batch = client.submit(r#"{"prompt":"b","max_tokens":3,"priority":"batch"}"#);
    let plain = client.submit(r#"{"prompt":"c","max_tokens":3}"#);
    let urgent = client.submit(r#"{"prompt":"d","max_tokens":3,"deadline_ms":25000}"#);
    let short = client.submit(r#"{"prompt":"e","max_tokens":3,"ttl_ms":1}"#);
    wait_until("it has waited too long", || {
        client.json(&format!("/v1/tasks/{short}"))["state"] == "expired"
    });
    let positions = |life: &Life| {
        [&plain, &urgent].map(|it| {
            let explained = life.client.json(&format!("/v1/tasks/{it}/explain"));
            explained["waiting"]["queue_position"].clone()
        })
    };
    let before = positions(&life);
    assert_eq!(before, [json!(1), json!(0)]);
    life.kill();
    let life = world.start();
    wait_until("the first one goes on", || {
        life.client.json(&format!("/v1/tasks/{running}"))["state"] == "running"
    });
    assert_eq!(positions(&life), before);
    assert_eq!(life.client.json(&format!("/v1/tasks/{short}"))["state"], "expired");
    assert_eq!(life.client.cancel(&running), 204);
    for task in [&urgent, &plain, &batch] {
        assert_eq!(text(&life.client.stream(task)), numbers(3));
    }
}

// ORCH-4002, OC-CTRL-2082
#[test]
fn a_signal_stops_streams_that_the_next_life_goes_on_with() {
    let world = World::new(&[1], SLOW, "drain_ms: 100");
    let life = world.start();
    let task = life.client.submit(r#"{"prompt":"a","max_tokens":500}"#);
    let waiting = life.client.submit(r#"{"prompt":"b","max_tokens":3}"#);
    let mut stream = life.client.read(&task);
    stream.until("token");
    life.signal();
    let mut seen = Vec::new();
    while let Some(event) = stream.next() {
        seen.push(event);
    }
    let last = seen.last().unwrap();
    assert_eq!(last.name, "disconnected");
    assert_eq!(last.data, json!({"reason": "shutdown", "retriable": true}));
    assert_eq!(life.terminate(), Some(0));
    let life = world.start();
    let last = seen.iter().filter_map(|it| it.id).max().unwrap();
    let rest = after(&life, &task, last);
    assert_eq!(rest.iter().find_map(|it| it.id), Some(last + 1));
    assert_eq!(text(&life.client.stream(&task)), numbers(500));
    assert_eq!(text(&life.client.stream(&waiting)), numbers(3));
}

// ORCH-4020
#[test]
fn a_task_whose_reader_does_not_come_back_is_cancelled_after_its_grace() {
    let world = World::new(&[1], SLOW, "");
    let life = world.start();
    let body = r#"{"prompt":"a","max_tokens":1000,"disconnect_grace_ms":300}"#;
    let mut stream = life.client.open(body);
    let task = stream.next().unwrap().data["task_id"].as_str().unwrap().to_owned();
    stream.until("token");
    life.kill();
    let life = world.start();
    wait_until("nobody came back", || {
        life.client.json(&format!("/v1/tasks/{task}"))["state"] == "cancelled"
    });
}

// ORCH-4001
#[test]
fn an_ephemeral_task_is_in_no_file() {
    let world = World::new(&[1], &[], "");
    let life = world.start();
    let body = r#"{"prompt":"a secret of mine","max_tokens":5,"ephemeral":true}"#;
    let admitted = life.client.post("/v1/tasks", body, &[]);
    assert_eq!(admitted.json()["ephemeral"], true);
    let task = admitted.json()["task_id"].as_str().unwrap().to_owned();
    assert_eq!(names(&life.client.stream(&task)).last(), Some(&"end"));
    let kept = life.client.submit(r#"{"prompt":"no secret at all","max_tokens":5}"#);
    life.client.stream(&kept);
    life.kill();
    let mut written = Vec::new();
    for file in std::fs::read_dir(world.journal()).unwrap() {
        written.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    let has = |text: &[u8]| written.windows(text.len()).any(|it| it == text);
    assert!(has(b"no secret at all") && !has(b"a secret of mine"));
    let life = world.start();
    assert_eq!(life.client.get(&format!("/v1/tasks/{task}"), &[]).status, 404);
    assert_eq!(life.client.get(&format!("/v1/tasks/{kept}"), &[]).status, 200);
}

// OC-JRNL-6011, OC-JRNL-6013
#[test]
fn a_journal_that_is_in_use_or_no_journal_is_refused_before_a_port_opens() {
    let world = World::new(&[1], &[], "");
    let life = world.start();
    let second = world.command().output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&world.journal().display().to_string()), "{said}");
    life.kill();
    let file = world.journal().join("journal.db");
    let garbage = vec![7; 4_096];
    std::fs::write(&file, &garbage).unwrap();
    let third = world.command().output().unwrap();
    assert_eq!(third.status.code(), Some(1));
    assert_eq!(String::from_utf8(third.stderr).unwrap().lines().count(), 1);
    assert_eq!(std::fs::read(&file).unwrap(), garbage);
}

// ORCH-4001, OC-JRNL-6020
#[test]
fn on_a_full_disk_streams_end_and_nothing_is_admitted_until_there_is_room() {
    let world = World::new(&[2], &["--decode-us-per-token", "20000"], "");
    let life = world.start_as(world.command_that_survives_limits());
    let before = life.client.submit(r#"{"prompt":"a","max_tokens":3}"#);
    life.client.stream(&before);
    let cut = life.client.submit(r#"{"prompt":"b","max_tokens":1000}"#);
    let mut stream = life.client.read(&cut);
    let mut seen = vec![stream.until("token")];
    life.limit_files(Some(1));
    while let Some(event) = stream.next() {
        seen.extend(event.id.is_some().then_some(event));
    }
    let end = seen.last().unwrap();
    assert_eq!((end.name.as_str(), &end.data["code"]), ("error", &json!("STORAGE_FULL")));
    let refused = life.client.post("/v1/tasks", r#"{"prompt":"c","max_tokens":3}"#, &[]);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("STORAGE_FULL")));
    assert_ne!(refused.header("retry-after"), "");
    // What needs no disk goes on.
    let ephemeral = r#"{"prompt":"d","max_tokens":3,"ephemeral":true}"#;
    assert_eq!(text(&life.client.run(ephemeral)), numbers(3));
    assert_eq!(text(&life.client.stream(&before)), numbers(3));
    life.limit_files(None);
    wait_until("there is room again", || {
        life.client.post("/v1/tasks", r#"{"prompt":"e","max_tokens":3}"#, &[]).status == 202
    });
    life.kill();
    // The next life says what was said.
    let life = world.start();
    let last = seen[0].id.unwrap() - 1;
    assert_eq!(after(&life, &cut, last), seen);
    assert_eq!(life.client.json(&format!("/v1/tasks/{cut}"))["state"], "failed");
    assert_eq!(text(&life.client.stream(&before)), numbers(3));
}

// ORCH-3019, ORCH-4001
#[test]
fn a_slot_counts_as_busy_until_the_engine_is_done_with_what_an_earlier_life_started() {
    let world = World::new(&[1], SLOW, "");
    let life = world.start();
    let task = life.client.submit(r#"{"prompt":"a","max_tokens":300}"#);
    life.client.read(&task).until("token");
    life.kill();
    // The engine is slow to notice: as good as another sequence that it works on.
    let leftover = world.occupy();
    let life = world.start();
    let state = || life.client.json(&format!("/v1/tasks/{task}"))["state"].clone();
    for _ in 0..20 {
        assert_eq!(state(), "queued");
        pause(Duration::from_millis(20));
    }
    drop(leftover);
    assert_eq!(text(&life.client.stream(&task)), numbers(300));
}

// OC-JRNL-6030
#[test]
fn ended_tasks_are_kept_for_as_long_as_retention_says() {
    let world = World::new(&[4], &[], "retention: {ttl_ms: 400}");
    let life = world.start();
    let tasks: Vec<String> =
        (0..150).map(|_| life.client.submit(r#"{"prompt":"a","max_tokens":1}"#)).collect();
    let status =
        |life: &Life, task: &str| life.client.get(&format!("/v1/tasks/{task}"), &[]).status;
    wait_until("they are gone", || status(&life, &tasks[149]) == 404);
    wait_until("all of them", || tasks.iter().all(|it| status(&life, it) == 404));
    life.kill();
    let life = world.start();
    assert_eq!(status(&life, &tasks[0]), 404);
    let fresh = life.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    assert_eq!(text(&life.client.stream(&fresh)), numbers(1));
}

// ORCH-4001, ORCH-3024
#[test]
fn a_repetition_is_not_acknowledged_before_the_task_is_written() {
    let world = World::new(&[1], &[], "");
    let life = world.start_as(world.command_that_survives_limits());
    let id = uuid::Uuid::new_v4();
    let body = format!(r#"{{"task_id":"{id}","prompt":"a","max_tokens":3}}"#);
    let submit = || life.client.post("/v1/tasks", &body, &[]);
    let path = format!("/v1/tasks/{id}");
    life.limit_files(Some(1));
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(submit);
        wait_until("it waits to be written", || life.client.get(&path, &[]).status == 200);
        (submit(), first.join().unwrap())
    });
    for refused in [first, second] {
        assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("STORAGE_FULL")));
    }
    assert_eq!(life.client.get(&path, &[]).status, 404);
}

// ORCH-4004, OC-JRNL-6020
#[test]
fn a_task_that_had_no_room_is_another_one_when_it_is_submitted_again() {
    let config = "retention: {ttl_ms: 300}";
    let world = World::new(&[1], &["--decode-us-per-token", "20000"], config);
    let life = world.start_as(world.command_that_survives_limits());
    let id = uuid::Uuid::new_v4();
    let body = format!(r#"{{"task_id":"{id}","prompt":"a","max_tokens":500}}"#);
    life.limit_files(Some(1));
    assert_eq!(life.client.post("/v1/tasks", &body, &[]).status, 503);
    life.limit_files(None);
    wait_until("there is room", || life.client.post("/v1/tasks", &body, &[]).status == 202);
    life.client.read(&id.to_string()).until("token");
    // The first one's time in memory is over by then.
    pause(Duration::from_millis(1_000));
    assert_eq!(life.client.json(&format!("/v1/tasks/{id}"))["state"], "running");
    let mut joined = life.client.read(&id.to_string());
    while joined.until("token").data["i"].as_u64().unwrap() < 60 {}
    assert_eq!(life.client.cancel(&id.to_string()), 204);
}
