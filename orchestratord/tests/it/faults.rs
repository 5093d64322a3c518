//! Engines that break in every way, and what the client sees.

use crate::client::{Event, numbers, text};
use crate::rig::{Rig, Setup, wait_until};

fn run(rig: &Rig, directives: &str) -> Vec<Event> {
    rig.client.run(&format!(r#"{{"prompt":"[[sim:{directives}]]","max_tokens":8}}"#))
}

/// The tokens that came before the break, and the error after them.
fn broken(events: &[Event], tokens: usize, code: &str) {
    let error = events.last().unwrap();
    assert_eq!((error.name.as_str(), &error.data["code"]), ("error", &code.into()), "{error:?}");
    assert_eq!(text(events), numbers(tokens));
    assert_eq!(error.data["engine"], "llamacpp");
    assert_eq!(error.data["pool_id"], "p0");
    assert_eq!(error.data["retriable"], true);
}

/// Faults of an engine that lives on, after three tokens.
const BREAKS: [&str; 5] =
    ["reset_after=3", "eof_after=3", "error_after=3", "malformed_after=3", "half_close_after=3"];

// ORCH-4003, ORCH-2002
#[test]
fn a_stream_that_breaks_goes_on_with_each_token_once() {
    let rig = Rig::start(Setup { slots: vec![2, 2], ..Setup::default() });
    for fault in BREAKS {
        let events = run(&rig, fault);
        assert_eq!(text(&events), numbers(8), "{fault}");
        let ids: Vec<u64> = events.iter().filter_map(|it| it.id).collect();
        assert_eq!(ids, (1..=12).collect::<Vec<_>>());
        let resumed: Vec<_> = events.iter().filter(|it| it.name == "resumed").collect();
        assert_eq!(
            (&resumed[0].data["attempt"], &resumed[1].data["attempt"]),
            (&2.into(), &3.into())
        );
        assert_eq!(resumed[0].data["kv_migrated"], false);
        // Another one first.
        assert_ne!(resumed[0].data["replica_id"], events[1].data["replica_id"]);
        let end = &events.last().unwrap().data;
        let prompt = 3 + fault.len().div_ceil(4) as u64;
        assert!(end["tokens_in"].as_u64().unwrap() <= prompt, "{end}");
        assert_eq!((&end["tokens_out"], &end["finish_reason"]), (&8.into(), &"length".into()));
    }
    let resumed = r#"resumptions_total{engine="llamacpp",mode="failover"} 10"#;
    assert!(rig.client.get("/metrics", &[]).body.contains(resumed));
    wait_until("the slots are free", || rig.busy() == 0);
}

// ORCH-4003, OC-ADAPT-5081
#[test]
fn characters_and_stop_sequences_are_right_across_the_seam() {
    let rig = Rig::start(Setup { slots: vec![1, 1], ..Setup::default() });
    for split in [1, 2, 3] {
        let events = run(&rig, &format!("utf8=1 split={split} eof_after=3"));
        let expected: String = (0..8).map(|it| format!(" ☃{it}é")).collect();
        assert_eq!(text(&events), expected, "split {split}");
    }
    for (stop, tokens) in [(" 3", 3), (" 4", 4), (" 5", 5)] {
        let body =
            format!(r#"{{"prompt":"[[sim:eof_after=3]]","max_tokens":8,"stop":["{stop}"]}}"#);
        let events = rig.client.run(&body);
        assert_eq!(text(&events), numbers(tokens), "{stop}");
        let end = &events.last().unwrap().data;
        assert_eq!((&end["finish_reason"], &end["stop"]), (&"stop".into(), &stop.into()), "{end}");
    }
}

// OC-CTRL-2028, OC-CTRL-2029, ORCH-4003
#[test]
fn a_stream_that_breaks_each_time_ends_with_an_error_after_its_tokens() {
    let rig = Rig::with_slots(2);
    for fault in BREAKS {
        let body = format!(r#"{{"prompt":"[[sim:{fault}]]","max_tokens":20}}"#);
        let events = rig.client.run(&body);
        broken(&events, 9, "WORKER_RESET");
        let message = events.last().unwrap().data["message"].as_str().unwrap();
        assert!(message.starts_with("each of 3 attempts"), "{message}");
    }
    // The engine lives, so its slots come back.
    wait_until("the slots are free", || rig.busy() == 0);
}

// ORCH-4003
#[test]
fn what_cannot_go_on_ends_where_it_broke_and_is_tried_again_before() {
    let rig = Rig::with_slots(2);
    let json = r#""output":{"format":"json"}"#;
    let body = format!(r#"{{"prompt":"[[sim:reset_after=1]]","max_tokens":8,{json}}}"#);
    let events = rig.client.run(&body);
    assert_eq!(events.iter().filter(|it| it.name == "resumed").count(), 0);
    assert_eq!(events.last().unwrap().data["code"], "WORKER_RESET");
    let body = format!(r#"{{"prompt":"[[sim:reset_after=0]]","max_tokens":8,{json}}}"#);
    let task = rig.client.submit(&body);
    rig.client.stream(&task);
    assert_eq!(rig.client.json(&format!("/v1/tasks/{task}"))["attempt"], 3);
}

// ORCH-3038
#[test]
fn an_engine_that_dies_and_is_not_replaced_ends_its_streams_with_an_error() {
    let config = "queue: {unready_wait_ms: 500}";
    let rig = Rig::start(Setup { config, ..Setup::default() });
    let events = run(&rig, "die_after=3");
    let error = &events.last().unwrap().data;
    assert_eq!((&error["code"], &error["retriable"]), (&"POOL_UNREADY".into(), &true.into()));
    assert_eq!((text(&events), &error["engine"]), (numbers(3), &"llamacpp".into()));
}

// ORCH-3016, OC-CORE-1022, ORCH-4003
#[test]
fn an_engine_that_hangs_is_cut_by_the_watchdog_and_the_stream_goes_on() {
    let config = "watchdog: {idle_ms: 150, first_token_ms: 400, wall_ms: 60000}";
    let rig = Rig::start(Setup { config, ..Setup::default() });
    assert_eq!(text(&run(&rig, "hang_after=3")), numbers(8));
    // Comments are no tokens.
    let hung = run(&rig, "hang_after=2 hang_ping=1");
    broken(&hung, 6, "DECODE_TIMEOUT");
    let message = hung.last().unwrap().data["message"].as_str().unwrap();
    assert!(message.contains("3 attempts") && message.contains("idle limit of 150 ms"));
    let slow = run(&rig, "slow_headers_ms=5000");
    broken(&slow, 0, "DECODE_TIMEOUT");
    assert!(slow.last().unwrap().data["message"].as_str().unwrap().contains("first token"));
}

// ORCH-3016
#[test]
fn a_run_that_never_ends_is_cut_by_the_wall_limit() {
    let config = "watchdog: {idle_ms: 5000, first_token_ms: 5000, wall_ms: 300}";
    let rig = Rig::start(Setup { config, ..Setup::default() });
    let events = rig.client.run(r#"{"prompt":"[[sim:decode_us=10000]]","max_tokens":900}"#);
    let error = &events.last().unwrap().data;
    assert_eq!(error["code"], "DECODE_TIMEOUT");
    assert!(error["message"].as_str().unwrap().contains("wall limit"));
    wait_until("the engine's slot is free", || rig.engine_busy() == 0);
}

// OC-ADAPT-5081
#[test]
fn frames_and_characters_split_anywhere_arrive_whole() {
    let rig = Rig::with_slots(1);
    for split in [1, 2, 3, 7, 64] {
        let events = run(&rig, &format!("utf8=1 split={split}"));
        let expected: String = (0..8).map(|it| format!(" ☃{it}é")).collect();
        assert_eq!(text(&events), expected, "split {split}");
        assert_eq!(text(&run(&rig, &format!("merge={split}"))), numbers(8), "merge {split}");
    }
}

#[test]
fn stop_sequences_end_the_text_and_are_named() {
    let rig = Rig::with_slots(1);
    let events = rig.client.run(r#"{"prompt":"a","max_tokens":50,"stop":[" 4"]}"#);
    assert_eq!(text(&events), numbers(4));
    let end = &events.last().unwrap().data;
    assert_eq!((&end["finish_reason"], &end["stop"]), (&"stop".into(), &" 4".into()));
    let events = run(&rig, "tokens=2");
    assert_eq!(events.last().unwrap().data["finish_reason"], "stop");
}

// OC-ADAPT-5082
#[test]
fn an_engine_that_refuses_for_a_moment_costs_the_client_nothing() {
    let rig = Rig::with_slots(1);
    let url = format!("{}/sim/fault", rig.sims[0].base_url());
    ureq::post(&url).send(r#"{"unready": true}"#).unwrap();
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":3}"#);
    wait_until("an attempt was refused", || {
        rig.client.json(&format!("/v1/tasks/{task}"))["state"] == "queued"
    });
    ureq::post(&url).send(r#"{"unready": false}"#).unwrap();
    let events = rig.client.stream(&task);
    assert_eq!(text(&events), numbers(3));
    assert_eq!(events.iter().filter(|it| it.name == "started").count(), 1);
}

// OC-ADAPT-5082, OC-CORE-1048
#[test]
fn an_engine_that_refuses_for_good_ends_the_task_as_one_that_is_not_ready() {
    let config = "queue: {unready_wait_ms: 500}";
    let mut rig = Rig::start(Setup { config, ..Setup::default() });
    rig.sims[0].kill();
    let events = rig.client.run(r#"{"prompt":"a","max_tokens":3}"#);
    assert_eq!(events.last().unwrap().data["code"], "POOL_UNREADY");
}

// OC-CORE-1048
#[test]
fn a_task_waits_for_an_engine_that_refuses_for_a_while() {
    let rig = Rig::with_slots(1);
    rig.fault(r#"{"unready":true}"#);
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":3}"#);
    let attempt = || rig.client.json(&format!("/v1/tasks/{task}"))["attempt"].as_u64().unwrap();
    wait_until("it was sent more often than a task may fail", || 3 < attempt());
    rig.fault(r#"{"unready":false}"#);
    assert_eq!(text(&rig.client.stream(&task)), numbers(3));
}

#[test]
fn a_request_that_the_engine_finds_wrong_is_the_callers_error() {
    let rig = Rig::with_slots(1);
    let events = run(&rig, "status=400");
    let error = &events.last().unwrap().data;
    assert_eq!((&error["code"], &error["retriable"]), (&"INVALID_PARAMS".into(), &false.into()));
}
