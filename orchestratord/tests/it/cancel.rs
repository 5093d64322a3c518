//! Cancellation by id and by disconnect, at every point.

use std::collections::BTreeSet;
use std::time::Duration;

use pool_api::{Pool, ReplicaState};

use crate::client::{Event, names, numbers, text};
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

/// Cancels a task before its end; what it is then it stays, and its slot is free.
fn cancel_for_good(rig: &Rig, task: &str) -> Vec<Event> {
    assert_eq!(rig.client.cancel(task), 204);
    let acknowledged = rig.client.json(&format!("/v1/tasks/{task}"));
    assert_eq!(acknowledged["state"], "cancelled");
    let events = rig.client.stream(task);
    assert_eq!(events.last().unwrap().data["finish_reason"], "cancelled");
    assert_eq!(acknowledged["text"].as_str().unwrap_or_default(), text(&events));
    wait_until("the engine is done with it", || rig.engine_busy() == 0);
    wait_until("our slot is free", || rig.busy() == 0);
    assert_eq!(text(&rig.client.run(r#"{"prompt":"a","max_tokens":2}"#)), numbers(2));
    assert_eq!(rig.client.stream(task), events, "something came after the acknowledgement");
    events
}

// ORCH-3026, OC-CTRL-2012, OC-CORE-1005
#[test]
fn a_cancel_is_final_while_the_model_loads() {
    let pools = |it: &mut Vec<Pool>| it[0].replicas[0].state = ReplicaState::Loading;
    let rig = Rig::start(Setup { pools, slots: vec![1], ..Setup::default() });
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":9}"#);
    assert_eq!(rig.client.cancel(&task), 204);
    rig.change(|it| it.replicas[0].state = ReplicaState::Ready);
    assert_eq!(text(&rig.client.run(r#"{"prompt":"a","max_tokens":2}"#)), numbers(2));
    assert_eq!(names(&rig.client.stream(&task)), ["end"]);
}

// ORCH-3017, ORCH-3026, OC-CTRL-2012
#[test]
fn a_cancel_is_final_at_each_point_of_a_run() {
    let sim_flags = vec!["--prefill-us-per-token", "20000"];
    let rig = Rig::start(Setup { sim_flags, slots: vec![1], ..Setup::default() });
    // The engine has not answered, works on the prompt, has made one token, makes more.
    let unanswered = rig.client.submit(r#"{"prompt":"[[sim:slow_headers_ms=9000]]"}"#);
    wait_until("it is sent", || rig.busy() == 1);
    assert_eq!(names(&cancel_for_good(&rig, &unanswered)), ["end"]);
    let long = "word ".repeat(100);
    let prefilling = rig.client.submit(&format!(r#"{{"prompt":"{long}","max_tokens":9}}"#));
    wait_until("the engine works on it", || rig.engine_busy() == 1);
    assert_eq!(text(&cancel_for_good(&rig, &prefilling)), "");
    for (prompt, tokens) in [("[[sim:hang_after=1]]", 1), ("[[sim:decode_us=5000]]", 5)] {
        let mut stream = rig.client.open(&format!(r#"{{"prompt":"{prompt}","max_tokens":900}}"#));
        let queued = stream.until("queued");
        let task = queued.data["task_id"].as_str().unwrap();
        (0..tokens).for_each(|_| drop(stream.until("token")));
        assert!(text(&cancel_for_good(&rig, task)).starts_with(&numbers(tokens)), "{prompt}");
    }
}

// ORCH-3026, OC-CTRL-2012, ORCH-4003
#[test]
fn a_cancel_is_final_while_a_task_waits_to_go_on() {
    let rig = Rig::with_slots(1);
    let body = r#"{"prompt":"[[sim:decode_us=20000 eof_after=9]]","max_tokens":30}"#;
    let mut stream = rig.client.open(body);
    let queued = stream.until("queued");
    let task = queued.data["task_id"].as_str().unwrap();
    stream.until("token");
    rig.fault(r#"{"unready":true}"#);
    let known = || rig.client.json(&format!("/v1/tasks/{task}"));
    wait_until("the engine has lost it", || known()["state"] == "queued");
    rig.fault(r#"{"unready":false}"#);
    assert_eq!(text(&cancel_for_good(&rig, task)), numbers(9));
}

// ORCH-3026, OC-CTRL-2012
#[test]
fn a_cancel_and_the_tokens_that_it_races_with_agree_at_every_moment() {
    let rig = Rig::with_slots(2);
    let mut reasons = BTreeSet::new();
    for step in 0..60 {
        // Always something on its way.
        let task = rig.client.submit(r#"{"prompt":"[[sim:decode_us=5]]","max_tokens":900}"#);
        pause(Duration::from_micros(200 * step));
        assert_eq!(rig.client.cancel(&task), 204);
        let acknowledged = rig.client.json(&format!("/v1/tasks/{task}"));
        let events = rig.client.stream(&task);
        assert_eq!(acknowledged["text"].as_str().unwrap_or_default(), text(&events));
        assert_eq!(names(&events).iter().position(|it| *it == "end"), Some(events.len() - 1));
        reasons.insert(acknowledged["finish_reason"].as_str().unwrap().to_owned());
    }
    wait_until("the engine is done with all", || rig.engine_busy() == 0);
    wait_until("our slots are free", || rig.busy() == 0);
    assert!(reasons.contains("cancelled"), "{reasons:?}");
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
