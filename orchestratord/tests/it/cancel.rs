//! Cancellation by id and by disconnect, at every point.

use std::time::Duration;

use crate::client::names;
use crate::rig::{Rig, Setup, pause, wait_until};

const SLOW: &str = r#"{"prompt":"[[sim:decode_us=5000]]","max_tokens":1000}"#;

// ORCH-2003, ORCH-3017, ORCH-3026, OC-CTRL-2012
#[test]
fn a_cancelled_run_ends_its_stream_and_frees_the_slot() {
    let rig = Rig::with_slots(1);
    let mut stream = rig.client.open(SLOW);
    let queued = stream.until("queued");
    let task = queued.data["task_id"].as_str().unwrap();
    stream.until("token");
    assert_eq!(rig.client.cancel(task), 204);
    // After the acknowledgement the stream is what it is: no token follows the end.
    let events = rig.client.stream(task);
    let last = events.last().unwrap();
    assert_eq!((last.name.as_str(), &last.data["finish_reason"]), ("end", &"cancelled".into()));
    assert_eq!(names(&events).iter().filter(|it| **it == "end").count(), 1);
    wait_until("the engine's slot is free", || rig.engine_busy() == 0);
    wait_until("our slot is free", || rig.busy() == 0);
    assert_eq!(rig.client.stream(task), events, "nothing came after the end");
    assert_eq!(rig.client.json(&format!("/v1/tasks/{task}"))["state"], "cancelled");
}

// ORCH-3026, OC-CORE-1005
#[test]
fn a_cancelled_queued_task_never_starts() {
    let rig = Rig::with_slots(1);
    let running = rig.client.submit(SLOW);
    let queued = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    assert_eq!(rig.client.cancel(&queued), 204);
    assert_eq!(names(&rig.client.stream(&queued)), ["end"]);
    rig.client.cancel(&running);
    wait_until("our slot is free", || rig.busy() == 0);
    assert_eq!(names(&rig.client.stream(&queued)), ["end"]);
}

#[test]
fn cancel_is_idempotent_also_after_the_end_and_unknown_ids_are_404() {
    let rig = Rig::with_slots(1);
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    let before = rig.client.stream(&task);
    assert_eq!(before.last().unwrap().data["finish_reason"], "length");
    assert_eq!((rig.client.cancel(&task), rig.client.cancel(&task)), (204, 204));
    assert_eq!(rig.client.stream(&task).last(), before.last());
    assert_eq!(rig.client.cancel("00000000-0000-4000-8000-000000000000"), 404);
    assert_eq!(rig.client.cancel("nonsense"), 404);
}

#[test]
fn a_slot_is_not_given_away_before_the_engine_confirms() {
    // An engine that never frees: hung with its connection closed by us, still processing.
    let config = "release_timeout_ms: 600";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let url = format!("{}/completion", rig.sims[0].base_url());
    // Somebody else occupies the only slot, so the engine reports it busy throughout.
    let foreign = std::thread::spawn(move || {
        let body = r#"{"prompt":"[[sim:decode_us=20000]]","n_predict":100,"stream":true}"#;
        let mut answer =
            ureq::post(&url).header("content-type", "application/json").send(body).unwrap();
        answer.body_mut().read_to_string().unwrap();
    });
    wait_until("the slot is taken", || rig.engine_busy() == 1);
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    wait_until("it is dispatched", || rig.busy() == 1);
    rig.client.cancel(&task);
    pause(Duration::from_millis(450));
    assert_eq!(rig.busy(), 1, "the engine still says that it is busy");
    wait_until("the release time-out has passed", || rig.busy() == 0);
    foreign.join().unwrap();
}

// ORCH-3017
#[test]
fn a_disconnect_without_grace_cancels_and_frees_the_slot() {
    let rig = Rig::with_slots(1);
    let body = r#"{"prompt":"[[sim:decode_us=5000]]","max_tokens":1000,"disconnect_grace_ms":0}"#;
    let mut stream = rig.client.open(body);
    let queued = stream.until("queued");
    let task = queued.data["task_id"].as_str().unwrap();
    stream.until("token");
    drop(stream);
    let path = format!("/v1/tasks/{task}");
    wait_until("the task is cancelled", || rig.client.json(&path)["state"] == "cancelled");
    wait_until("the engine's slot is free", || rig.engine_busy() == 0);
}

#[test]
fn a_detached_task_goes_on_without_readers() {
    let rig = Rig::with_slots(1);
    let body = r#"{"prompt":"[[sim:decode_us=1000]]","max_tokens":50,
        "on_disconnect":"detach","disconnect_grace_ms":0}"#;
    let mut stream = rig.client.open(body);
    let task = stream.until("queued").data["task_id"].as_str().unwrap().to_owned();
    stream.until("token");
    drop(stream);
    let path = format!("/v1/tasks/{task}");
    wait_until("the task is done", || rig.client.json(&path)["state"] == "completed");
    assert_eq!(rig.client.json(&path)["usage"]["tokens_out"], 50);
}

#[test]
fn a_reader_that_returns_within_the_grace_saves_the_task() {
    let rig = Rig::with_slots(1);
    let body = r#"{"prompt":"[[sim:decode_us=5000]]","max_tokens":100,"disconnect_grace_ms":300}"#;
    let mut stream = rig.client.open(body);
    let task = stream.until("queued").data["task_id"].as_str().unwrap().to_owned();
    stream.until("token");
    drop(stream);
    let events = rig.client.stream(&task);
    assert_eq!(events.last().unwrap().data["finish_reason"], "length");
}
