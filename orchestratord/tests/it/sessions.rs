//! Sessions: their turns, their budgets and their ends.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Answer, Event, names, numbers, text};
use crate::daemon::{Life, World};
use crate::rig::{Rig, Setup, pause, wait_until};

fn rig(config: &'static str) -> Rig {
    Rig::start(Setup { config, slots: vec![2, 2], ..Setup::default() })
}

fn body(session: &str, prompt: &str, max_tokens: u32) -> String {
    json!({"prompt": prompt, "max_tokens": max_tokens, "session_id": session}).to_string()
}

/// Runs a turn to its end, for everybody.
fn turn(rig: &Rig, session: &str) -> Vec<Event> {
    let events = rig.client.run(&body(session, "a long story, a long story, a long story", 2));
    assert_eq!(events.last().unwrap().name, "end", "{events:?}");
    settled(|| show(rig, session));
    events
}

/// Waits until the daemon, too, knows that the turns have ended.
fn settled(session: impl Fn() -> Value) -> Value {
    wait_until("its turns are over", || {
        session()["tasks"] == json!([]) || session()["code"].is_string()
    });
    session()
}

fn show(rig: &Rig, session: &str) -> Value {
    rig.client.json(&format!("/v1/sessions/{session}"))
}

fn started(events: &[Event]) -> &Value {
    &events.iter().find(|it| it.name == "started").unwrap().data
}

fn refused(answer: &Answer) -> (u16, String, String) {
    let body = answer.json();
    let word = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    (answer.status, word("code"), word("policy_label"))
}

fn over(kind: &str) -> (u16, String, String) {
    (429, "ADMISSION_REJECT".into(), format!("budget-{kind}"))
}

fn series(rig: &Rig, name: &str) -> Option<String> {
    let scrape = rig.client.get("/metrics", &[]).body;
    let line = scrape.lines().find_map(|it| it.strip_prefix(name));
    line.map(|it| it.trim().to_owned())
}

// ORCH-2004, ORCH-3021
#[test]
fn a_session_begins_with_its_first_turn_and_tells_how_it_stands() {
    let rig = rig("");
    assert_eq!(rig.client.get("/v1/sessions/s", &[]).status, 404);
    let first = rig.client.run(&body("s", "[[sim:decode_us=20000]] a long story", 10));
    let session = settled(|| show(&rig, "s"));
    assert_eq!((&session["session_id"], &session["turns"]), (&json!("s"), &json!(1)));
    assert_eq!((&session["turns_left"], &session["kv_warmth"]), (&json!(7), &json!(true)));
    assert_eq!(session["replica_id"], started(&first)["replica_id"]);
    assert_eq!(session["pool_id"], started(&first)["pool_id"]);
    assert_eq!(session["budgets"], json!({}));
    let (idle, left) = (&session["idle_ms"], &session["ttl_remaining_ms"]);
    assert!(idle.as_u64().unwrap() + left.as_u64().unwrap() <= 600_000, "{session}");
    // Its time to live counts from the end of the turn, which took at least nine pauses.
    assert!(idle.as_u64().unwrap() + 180 <= session["age_ms"].as_u64().unwrap(), "{session}");
    let open = rig.client.submit(&body("s", "[[sim:hang_after=1]]", 9));
    let session = show(&rig, "s");
    assert_eq!((&session["turns"], &session["tasks"]), (&json!(2), &json!([open])));
    assert_eq!(
        (&session["idle_ms"], &session["ttl_remaining_ms"]),
        (&json!(null), &json!(600_000))
    );
    assert_eq!(series(&rig, "sessions_active").unwrap(), "1");
    assert_eq!(rig.client.cancel(&open), 204);
    // A refused turn and one that was submitted before are no turns.
    assert_eq!(rig.client.post("/v1/tasks", &body("t", "a", 1_000_000), &[]).status, 422);
    assert_eq!(rig.client.get("/v1/sessions/t", &[]).status, 404);
    let id = uuid::Uuid::new_v4();
    let again = json!({"task_id": id, "prompt": "a", "max_tokens": 1, "session_id": "u"});
    (0..2).for_each(|_| drop(rig.client.submit(&again.to_string())));
    assert_eq!(show(&rig, "u")["turns"], 1);
}

// ORCH-2005
#[test]
fn an_ended_session_begins_anew_and_its_open_turns_go_on() {
    let rig = rig("");
    turn(&rig, "s");
    assert_eq!(started(&turn(&rig, "s"))["kv_warmth"], true);
    assert_eq!(rig.client.delete("/v1/sessions/s", &[]).status, 204);
    assert_eq!(rig.client.get("/v1/sessions/s", &[]).status, 404);
    assert_eq!(rig.client.delete("/v1/sessions/s", &[]).status, 404);
    assert_eq!(series(&rig, "sessions_active").unwrap(), "0");
    assert_eq!(started(&turn(&rig, "s"))["kv_warmth"], false);
    assert_eq!(show(&rig, "s")["turns"], 1);
    let slow = rig.client.submit(&body("s", "[[sim:decode_us=20000]]", 20));
    rig.client.read(&slow).until("token");
    assert_eq!(rig.client.delete("/v1/sessions/s", &[]).status, 204);
    let next = rig.client.submit(&body("s", "a", 1));
    assert_eq!(show(&rig, "s")["tasks"], json!([next]));
    assert_eq!(text(&rig.client.stream(&slow)), numbers(20));
    assert_eq!(started(&rig.client.stream(&next))["kv_warmth"], false);
    assert_eq!(settled(|| show(&rig, "s"))["turns"], 1);
}

// ORCH-3023, ORCH-3009, ORCH-4003
#[test]
fn a_turn_that_goes_on_elsewhere_says_that_it_took_no_cache_along() {
    let rig = rig("");
    let home = started(&turn(&rig, "s"))["replica_id"].clone();
    let events = rig.client.run(&body("s", "[[sim:reset_after=3]] a long story, a long story", 5));
    assert_eq!(started(&events)["replica_id"], home);
    assert_eq!(started(&events)["kv_warmth"], true);
    let resumed = &events.iter().find(|it| it.name == "resumed").unwrap().data;
    assert_ne!(resumed["replica_id"], home);
    assert_eq!((&resumed["kv_migrated"], &resumed["kv_warmth"]), (&json!(false), &json!(false)));
    assert_eq!(text(&events), numbers(5));
}

// ORCH-3021, OC-CORE-1046
#[test]
fn a_turn_waits_for_the_one_before_it_though_slots_are_free() {
    let rig = rig("");
    let first = rig.client.submit(&body("s", "[[sim:hang_after=1]]", 9));
    rig.client.read(&first).until("token");
    let mut second = rig.client.open(&body("s", "b", 3));
    let admitted = second.next().unwrap().data;
    assert_eq!(admitted["reason"], "session_busy");
    let id = admitted["task_id"].as_str().unwrap();
    let explained = rig.client.json(&format!("/v1/tasks/{id}/explain"));
    assert_eq!(explained["waiting"]["reason"], "session_busy");
    assert_eq!(rig.client.json("/v1/queue")["depth"], 1);
    assert_eq!(show(&rig, "s")["tasks"], json!([first, id]));
    // Another session does not wait.
    turn(&rig, "t");
    assert_eq!(rig.client.json(&format!("/v1/tasks/{id}"))["state"], "queued");
    assert_eq!(rig.client.cancel(&first), 204);
    assert_eq!(second.until("end").data["tokens_out"], 3);
}

// ORCH-3021, OC-CTRL-2033
#[test]
fn where_turns_are_refused_one_that_is_open_is_a_busy_session() {
    let rig = rig("sessions: {concurrent: reject, turns: 0}");
    let first = rig.client.submit(&body("s", "[[sim:hang_after=1]]", 9));
    let answer = rig.client.post("/v1/tasks", &body("s", "b", 3), &[]);
    assert_eq!(refused(&answer), (409, "SESSION_BUSY".into(), String::new()));
    assert_eq!(answer.json()["retriable"], true);
    assert_eq!(answer.json()["retry_after_ms"], 1_000);
    assert_eq!((answer.header("retry-after"), answer.header("x-backoff-ms")), ("1", "1000"));
    let rejected = r#"tasks_rejected_total{engine="llamacpp",reason="session_busy"}"#;
    assert_eq!(series(&rig, rejected).unwrap(), "1");
    assert_eq!(rig.client.cancel(&first), 204);
    assert!(show(&rig, "s").get("turns_left").is_none());
}

// ORCH-3022, ORCH-3021
#[test]
fn after_its_turns_a_session_begins_anew_on_any_replica() {
    let rig = rig("sessions: {turns: 2, budgets: {tokens: 5000}}");
    let warm: Vec<Value> = (0..5).map(|_| started(&turn(&rig, "s"))["kv_warmth"].clone()).collect();
    assert_eq!(warm, [false, true, false, true, false].map(Value::from));
    let session = show(&rig, "s");
    assert_eq!((&session["turns"], &session["turns_left"]), (&json!(1), &json!(1)));
    assert_eq!(series(&rig, r#"session_evictions_total{reason="turns"}"#).unwrap(), "2");
    // Its budgets go on.
    let used = session["budgets"]["tokens"]["used"].as_u64().unwrap();
    assert!(5 * 2 < used && used.is_multiple_of(5), "{session}");
}

// ORCH-3021, ORCH-3022
#[test]
fn a_session_ends_when_it_was_not_used_for_long_enough() {
    let rig = rig("sessions: {ttl_ms: 300, budgets: {tokens: 5000}}");
    let open = rig.client.submit(&body("s", "[[sim:decode_us=40000]]", 15));
    rig.client.stream(&open);
    // It ran for longer than that, and is there.
    wait_until("it has ended", || rig.client.get("/v1/sessions/s", &[]).status == 404);
    assert_eq!(series(&rig, r#"session_evictions_total{reason="ttl"}"#).unwrap(), "1");
    assert_eq!(series(&rig, "sessions_active").unwrap(), "0");
    let next = rig.client.run(&body("s", "a", 1));
    assert_eq!(started(&next)["kv_warmth"], false);
}

// ORCH-3022
#[test]
fn the_longest_unused_session_goes_where_a_tenant_has_too_many() {
    let rig = rig("sessions: {max_per_tenant: 2}");
    for session in ["a", "b", "c", "b"] {
        turn(&rig, session);
    }
    let open = rig.client.submit(&body("d", "[[sim:hang_after=1]]", 9));
    let known = || {
        let there = ["a", "b", "c", "d"]
            .map(|it| rig.client.get(&format!("/v1/sessions/{it}"), &[]).status);
        there.map(|it| it == 200)
    };
    assert_eq!(known(), [false, true, true, true]);
    assert_eq!(rig.client.cancel(&open), 204);
    wait_until("another one goes", || known() == [false, true, false, true]);
    assert_eq!(series(&rig, r#"session_evictions_total{reason="capacity"}"#).unwrap(), "2");
}

// ORCH-3099, OC-CORE-1023, OC-CORE-1024, OC-CTRL-2068, ORCH-2007
#[test]
fn tokens_are_reserved_for_a_turn_and_come_back_when_it_ends() {
    let rig = rig("sessions: {budgets: {tokens: 200}}");
    let post = |max_tokens| {
        rig.client.post("/v1/tasks", &body("s", "[[sim:hang_after=1]]", max_tokens), &[])
    };
    let admitted = post(100);
    let task = admitted.json()["task_id"].as_str().unwrap().to_owned();
    let budget = || show(&rig, "s")["budgets"]["tokens"].clone();
    let reserved = budget()["reserved"].as_u64().unwrap();
    assert!(100 < reserved && reserved < 150, "{reserved}");
    let left = 200 - reserved;
    assert_eq!(budget(), json!({"limit": 200, "used": 0, "reserved": reserved, "remaining": left}));
    assert_eq!(admitted.header("x-budget-tokens-remaining"), left.to_string());
    let answer = post(100);
    assert_eq!(refused(&answer), over("tokens"));
    assert_eq!(answer.json()["retry_after_ms"], 1_000, "the open turn may give something back");
    assert_eq!(rig.client.json(&format!("/v1/tasks/{task}"))["state"], "running");
    rig.client.read(&task).until("token");
    assert_eq!(rig.client.cancel(&task), 204);
    let usage = rig.client.json(&format!("/v1/tasks/{task}"))["usage"].clone();
    let session = settled(|| show(&rig, "s"));
    let used = session["budgets"]["tokens"]["used"].as_u64().unwrap();
    assert!(usage["tokens_out"].as_u64().unwrap() < used && used < reserved, "{session} {usage}");
    // Who has read the end can use at once what came back.
    for _ in 0..3 {
        let before = budget()["used"].as_u64().unwrap();
        let events = rig.client.run(&body("s", "a", 150 - u32::try_from(before).unwrap() - 10));
        let end = &events.last().unwrap().data;
        let took = end["tokens_in"].as_u64().unwrap() + end["tokens_out"].as_u64().unwrap();
        settled(|| show(&rig, "s"));
        assert_eq!(budget()["used"].as_u64().unwrap(), before + took);
        if 60 < before + took {
            break;
        }
    }
    let answer = post(199);
    assert_eq!(refused(&answer), over("tokens"));
    assert!(answer.json()["retry_after_ms"].as_u64().unwrap() > 500_000, "{answer:?}");
    assert_ne!(answer.header("retry-after"), "");
    assert_eq!(series(&rig, r#"budget_rejections_total{kind="tokens"}"#).unwrap(), "2");
    let rejected = r#"tasks_rejected_total{engine="llamacpp",reason="budget"}"#;
    assert_eq!(series(&rig, rejected).unwrap(), "2");
    // Another session has its own; and one that has ended begins anew.
    assert_eq!(rig.client.post("/v1/tasks", &body("t", "a", 100), &[]).status, 202);
    assert_eq!(rig.client.delete("/v1/sessions/s", &[]).status, 204);
    assert_eq!(post(100).status, 202);
}

// ORCH-3099, OC-CORE-1023, OC-CORE-1024, OC-CTRL-2068, ORCH-3016
#[test]
fn a_turn_runs_no_longer_than_its_session_may() {
    let rig = rig("sessions: {budgets: {time_ms: 400}}");
    let slow = body("s", "[[sim:decode_us=50000]]", 100);
    let admitted = rig.client.post("/v1/tasks", &slow, &[]);
    let left: u64 = admitted.header("x-budget-time-remaining-ms").parse().unwrap();
    assert!(left <= 400, "{left}");
    let behind = rig.client.submit(&body("s", "a", 1));
    let task = admitted.json()["task_id"].as_str().unwrap().to_owned();
    let events = rig.client.stream(&task);
    let end = events.last().unwrap();
    assert_eq!((end.name.as_str(), &end.data["code"]), ("error", &json!("DECODE_TIMEOUT")));
    let events = rig.client.stream(&behind);
    assert_eq!(names(&events), ["error"], "it never began");
    assert_eq!(events[0].data["code"], "DECODE_TIMEOUT");
    let session = settled(|| show(&rig, "s"));
    let budget = &session["budgets"]["time_ms"];
    assert_eq!(budget["remaining"], 0);
    assert!(400 <= budget["used"].as_u64().unwrap(), "{session}");
    assert_eq!(refused(&rig.client.post("/v1/tasks", &body("s", "a", 1), &[])), over("time"));
    assert_eq!(series(&rig, r#"budget_rejections_total{kind="time"}"#).unwrap(), "1");
    assert_eq!(rig.client.post("/v1/tasks", &body("t", "a", 1), &[]).status, 202);
}

// ORCH-3099
#[test]
fn a_turn_that_made_way_uses_no_time_while_it_waits() {
    let config = "preemption: {mode: hard}\nsessions: {budgets: {time_ms: 60000}}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let slow = json!({"prompt": "[[sim:decode_us=20000]]", "max_tokens": 500, "priority": "batch", "session_id": "s"});
    let task = rig.client.submit(&slow.to_string());
    rig.client.read(&task).until("token");
    let hanging = rig.client.submit(&body("t", "[[sim:hang_after=1]]", 9));
    let state = || rig.client.json(&format!("/v1/tasks/{task}"))["state"].clone();
    wait_until("it has made way", || state() == "preempted");
    rig.client.read(&hanging).until("token");
    let used = || show(&rig, "s")["budgets"]["time_ms"]["used"].as_u64().unwrap();
    let before = used();
    assert!(0 < before);
    pause(Duration::from_millis(50));
    assert_eq!(used(), before);
    assert_eq!(rig.client.cancel(&hanging), 204);
    wait_until("it goes on", || before < used());
    assert_eq!(rig.client.cancel(&task), 204);
}

// ORCH-3099, OC-CORE-1023, OC-CORE-1024, OC-CTRL-2068
#[test]
fn tokens_of_a_model_cost_what_the_model_does() {
    let rig =
        rig("models: [{id: tiny, cost: 2.5}]\nsessions: {budgets: {cost: 300, tokens: 1000}}");
    let hanging = body("s", "[[sim:hang_after=1]]", 40);
    let admitted = rig.client.post("/v1/tasks", &hanging, &[]);
    let budgets = show(&rig, "s")["budgets"].clone();
    let tokens = budgets["tokens"]["reserved"].as_u64().unwrap();
    let left = (3_000 - 25 * tokens) / 10;
    assert_eq!(budgets["cost"]["remaining"], left);
    assert_eq!(admitted.header("x-budget-cost-remaining"), left.to_string());
    assert_eq!(rig.client.cancel(admitted.json()["task_id"].as_str().unwrap()), 204);
    let budgets = settled(|| show(&rig, "s"))["budgets"].clone();
    let used = |kind: &str| budgets[kind]["used"].as_u64().unwrap();
    assert_eq!(used("cost"), (25 * used("tokens")).div_ceil(10));
    assert_eq!(refused(&rig.client.post("/v1/tasks", &body("s", "a", 200), &[])), over("cost"));
    assert_eq!(series(&rig, r#"budget_rejections_total{kind="cost"}"#).unwrap(), "1");
}

// ORCH-3100, OC-CORE-1024, OC-CTRL-2068
#[test]
fn a_running_turn_tells_what_its_session_has_left() {
    let rig = rig("sessions: {budgets: {tokens: 500, time_ms: 30000, cost: 400}}");
    let long = json!({"prompt": "[[sim:decode_us=20000]]", "max_tokens": 30, "session_id": "s", "deadline_ms": 60000});
    let events = rig.client.run(&long.to_string());
    let metrics = &events.iter().find(|it| it.name == "metrics").unwrap().data;
    let number = |key: &str| metrics[key].as_u64().unwrap();
    assert!((400..470).contains(&number("tokens_budget_remaining")), "{metrics}");
    assert!((300..370).contains(&number("cost_budget_remaining")), "{metrics}");
    let time = number("time_budget_remaining_ms");
    assert!(10_000 < time && time < 30_000, "less than until the deadline: {metrics}");
}

/// A session as the daemon knows it, without what passes by itself.
fn lasting(life: &Life, session: &str) -> Value {
    let mut session = settled(|| life.client.json(&format!("/v1/sessions/{session}")));
    for passing in ["age_ms", "idle_ms", "ttl_remaining_ms", "kv_warmth"] {
        session.as_object_mut().unwrap().remove(passing);
    }
    session
}

// ORCH-4001, ORCH-3021, ORCH-3099
#[test]
fn sessions_and_what_they_used_are_there_after_kill_9() {
    let config = "sessions: {budgets: {tokens: 400, time_ms: 60000, cost: 4000}}";
    let world = World::new(&[1], &[], config);
    let life = world.start();
    for prompt in ["a", "b"] {
        let events = life.client.run(&body("s", prompt, 20));
        assert_eq!(names(&events).last(), Some(&"end"));
    }
    life.client.run(&body("gone", "a", 20));
    settled(|| life.client.json("/v1/sessions/gone"));
    assert_eq!(life.client.delete("/v1/sessions/gone", &[]).status, 204);
    let before = lasting(&life, "s");
    assert_eq!(before["turns"], 2);
    // Whatever the journal has not seen yet.
    life.client.submit(&body("t", "a", 1));
    life.kill();
    let life = world.start();
    assert_eq!(lasting(&life, "s"), before);
    assert_eq!(life.client.get("/v1/sessions/gone", &[]).status, 404);
    let scrape = life.client.get("/metrics", &[]).body;
    assert!(scrape.contains("\nsessions_active 2\n"), "{scrape}");
    let third = life.client.run(&body("s", "c", 20));
    assert_eq!(names(&third).last(), Some(&"end"));
    assert_eq!(lasting(&life, "s")["turns"], 3);
}

// ORCH-3099
#[test]
fn a_turn_that_nobody_knows_of_after_a_restart_took_all_it_might() {
    let world = World::new(&[1], &[], "sessions: {budgets: {tokens: 400}}");
    let life = world.start();
    let lost = json!({"prompt": "[[sim:hang_after=1]]", "max_tokens": 100, "session_id": "s", "ephemeral": true});
    life.client.submit(&lost.to_string());
    let budget = |life: &Life| life.client.json("/v1/sessions/s")["budgets"]["tokens"].clone();
    let reserved = budget(&life)["reserved"].clone();
    life.kill();
    let life = world.start();
    assert_eq!((&budget(&life)["used"], &budget(&life)["reserved"]), (&reserved, &json!(0)));
    assert_eq!(lasting(&life, "s")["turns"], 1);
}

// ORCH-3099, OC-CORE-1023
#[test]
fn no_restart_gives_a_session_more_than_its_budget() {
    let config = "sessions: {turns: 0, budgets: {tokens: 600}}";
    let world = World::new(&[1], &["--decode-us-per-token", "2000"], config);
    let mut tasks = BTreeSet::new();
    let mut life = world.start();
    for round in 0..12 {
        let answer = life.client.post("/v1/tasks", &body("s", "a", 100), &[]);
        if answer.status == 429 {
            assert_eq!(refused(&answer), over("tokens"));
            break;
        }
        let task = answer.json()["task_id"].as_str().unwrap().to_owned();
        if round % 2 == 0 {
            life.client.read(&task).until("token");
        } else {
            // The daemon dies between the end and what it means for the session, or about then.
            life.client.stream(&task);
        }
        tasks.insert(task);
        let remaining = |life: &Life| {
            life.client.json("/v1/sessions/s")["budgets"]["tokens"]["remaining"].as_u64().unwrap()
        };
        let before = remaining(&life);
        life.kill();
        life = world.start();
        // An end that was on its way may have given something back.
        assert!(remaining(&life) <= before + 110, "round {round}");
    }
    let total: u64 = tasks
        .iter()
        .map(|task| {
            life.client.stream(task);
            let usage = life.client.json(&format!("/v1/tasks/{task}"))["usage"].clone();
            usage["tokens_in"].as_u64().unwrap() + usage["tokens_out"].as_u64().unwrap()
        })
        .sum();
    assert!(300 < total && total <= 600, "{total} of {} turns", tasks.len());
    let session = lasting(&life, "s");
    assert!(total <= session["budgets"]["tokens"]["used"].as_u64().unwrap(), "{session}");
}

// ORCH-3099
#[test]
fn the_time_of_a_turn_is_not_forgotten_by_more_than_a_second() {
    let config = "sessions: {budgets: {time_ms: 60000}}";
    let world = World::new(&[1], &["--decode-us-per-token", "20000"], config);
    let life = world.start();
    let task = life.client.submit(&body("s", "a", 1_000));
    let used = |life: &Life| {
        life.client.json("/v1/sessions/s")["budgets"]["time_ms"]["used"].as_u64().unwrap()
    };
    wait_until("it has run for a while", || 2_500 < used(&life));
    life.kill();
    let life = world.start();
    assert!(1_000 < used(&life), "{}", used(&life));
    assert_eq!(life.client.cancel(&task), 204);
}

// ORCH-3009, OC-CORE-1013, ORCH-4001
#[test]
fn a_session_finds_its_warm_replica_after_kill_9_and_a_new_one_of_its_name_does_not() {
    // So slow that a cold replica is worth avoiding.
    let world = World::new(&[1, 1], &["--prefill-us-per-token", "500"], "");
    let life = world.start();
    let story = "a long story, ".repeat(60);
    let run = |life: &Life, session: &str| {
        let task = life.client.submit(&body(session, &story, 3));
        started(&life.client.stream(&task)).clone()
    };
    // Free slots go to the first replica; the second one is home to who came while that was busy.
    let busy = life.client.submit(r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#);
    life.client.read(&busy).until("token");
    let homes = ["s", "other"].map(|it| run(&life, it)["replica_id"].clone());
    assert_eq!(life.client.cancel(&busy), 204);
    life.kill();
    let life = world.start();
    let plain = life.client.run(r#"{"prompt":"a","max_tokens":1}"#);
    assert_ne!(started(&plain)["replica_id"], homes[0], "nothing is told apart");
    let session = life.client.json("/v1/sessions/s");
    assert_eq!((&session["replica_id"], &session["kv_warmth"]), (&homes[0], &json!(true)));
    let next = run(&life, "s");
    assert_eq!((&next["replica_id"], &next["kv_warmth"]), (&homes[0], &json!(true)));
    assert_eq!(life.client.delete("/v1/sessions/other", &[]).status, 204);
    assert_eq!(run(&life, "other")["kv_warmth"], false);
}
