//! What a client gets from a real engine.

use serde_json::{Value, json};

use crate::stack::{Events, Stack, wait_until};

fn greedy(prompt: &str, max_tokens: u32) -> Value {
    json!({"prompt": prompt, "max_tokens": max_tokens, "sampling": {"temperature": 0.0}})
}

// ORCH-2001, ORCH-3032, ORCH-3054, OC-ADAPT-5001, OC-ADAPT-5002, OC-ADAPT-5011
#[test]
fn tokens_of_a_real_engine_stream_through_both_daemons() {
    let stack = Stack::start(2, 1_024);
    let mut events = stack.open(&greedy("In the beginning", 24));
    let started = events.until("started").data;
    assert_eq!((&started["engine"], &started["pool_id"]), (&"llamacpp".into(), &"real".into()));
    assert!(started["engine_version"].as_str().unwrap().starts_with('b'), "{started}");
    // `sha256sum models/tiny-scribe-q8_0.gguf`
    let digest = "sha256:d5f529ddabda6bb9d55e74286ce68bd68e2d4523441706a1f2e8e189d46f52c9";
    wait_until("the digest is known", || stack.replica()["model_digest"] == digest);
    let mut text = String::new();
    let end = loop {
        let event = events.next().unwrap();
        match event.name.as_str() {
            "token" => text.push_str(event.data["t"].as_str().unwrap()),
            "metrics" => {}
            _ => break event,
        }
    };
    assert_eq!((end.name.as_str(), &end.data["tokens_out"]), ("end", &24.into()));
    assert_eq!(end.data["tokens_in"], 6);
    assert!(text.starts_with(" "), "{text:?}");
    assert!(text.split_whitespace().count() > 8, "verse-like words: {text:?}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let stack = Stack::start(1, 1_024);
    let ask = |seed: u32| {
        let body = json!({"prompt": "And it came to pass", "max_tokens": 32, "seed": seed,
            "sampling": {"temperature": 1.0}, "kv_hint": "cold"});
        stack.run(&body).0
    };
    let first = ask(7);
    assert_eq!(ask(7), first);
    let others: Vec<String> = (8..12).map(ask).collect();
    assert!(others.iter().any(|it| *it != first), "{first:?}");
}

#[test]
fn two_clients_are_served_at_once() {
    let stack = Stack::start(2, 1_024);
    let alone = stack.run(&greedy("The LORD is my shepherd", 40)).0;
    let mut first = stack.open(&greedy("In the beginning", 900));
    first.until("token");
    // The other slot answers while this one decodes.
    let (text, end) = stack.run(&greedy("The LORD is my shepherd", 40));
    assert_eq!((end.name.as_str(), text), ("end", alone));
    assert_eq!(first.until("end").data["tokens_in"], 6);
}

// OC-ADAPT-5081
#[test]
fn characters_of_several_bytes_arrive_whole() {
    let stack = Stack::start(1, 1_024);
    // Verse numbers are superscript digits, two or three bytes each.
    let mut several = String::new();
    for seed in 0..6 {
        let body =
            json!({"prompt": "¹ In the beginning God created", "max_tokens": 120, "seed": seed});
        several += &stack.run(&body).0;
    }
    assert!(several.chars().any(|it| it.len_utf8() > 1), "no multi-byte character: {several}");
    assert!(!several.contains('\u{fffd}'), "a broken character: {several}");
}

#[test]
fn a_stop_sequence_ends_the_text_and_is_not_part_of_it() {
    let stack = Stack::start(1, 1_024);
    let whole = stack.run(&greedy("In the beginning", 40)).0;
    let stop = whole.split_whitespace().nth(3).unwrap().to_owned();
    let mut body = greedy("In the beginning", 40);
    body["stop"] = json!([stop]);
    let (text, end) = stack.run(&body);
    assert_eq!(
        (&end.data["finish_reason"], &end.data["stop"]),
        (&"stop".into(), &stop.as_str().into())
    );
    assert_eq!(text, whole[..whole.find(&stop).unwrap()]);
}

#[test]
fn messages_go_through_the_models_template() {
    let stack = Stack::start(1, 1_024);
    let chat = json!({"messages": [{"role": "user", "content": "In the beginning"}],
        "max_tokens": 16, "sampling": {"temperature": 0.0}});
    let (text, end) = stack.run(&chat);
    let plain = stack.run(&greedy("<|user|>In the beginning<|end|><|assistant|>", 16));
    assert_eq!((&text, &end.data["tokens_in"]), (&plain.0, &plain.1.data["tokens_in"]));
    assert_ne!(text, stack.run(&greedy("In the beginning", 16)).0);
}

// ORCH-3014
#[test]
fn a_prompt_beyond_the_context_is_refused_with_the_engines_own_count() {
    let stack = Stack::start(1, 256);
    let body = json!({"prompt": "word ".repeat(400), "max_tokens": 8});
    assert_eq!(stack.post("/v1/tasks", &body), 422);
}

// ORCH-2003, ORCH-3017, ORCH-3026
#[test]
fn a_cancel_mid_stream_stops_the_engine_and_frees_its_slot() {
    let stack = Stack::start(1, 1_024);
    let (task, mut events, before) = long_run(&stack);
    assert_eq!(stack.post(&format!("/v1/tasks/{task}/cancel"), &json!({})), 204);
    assert_eq!(events.until("end").data["finish_reason"], "cancelled");
    assert_eq!(events.next(), None);
    wait_until("the engine's slot is free", || stack.engine_busy() == 0);
    // It did not decode to the end for nobody.
    let decoded = stack.engine_decodes() - before;
    assert!(decoded < 900, "{decoded} tokens were decoded");
    wait_until("our slot is free", || stack.replica()["slots_busy"] == 0);
    let task = stack.get(&format!("/v1/tasks/{task}")).unwrap();
    assert_eq!((&task["state"], &task["usage"]["tokens_in"]), (&"cancelled".into(), &3.into()));
}

// ORCH-3017
#[test]
fn a_client_that_hangs_up_frees_the_slot() {
    let stack = Stack::start(1, 1_024);
    let (task, events, before) = long_run(&stack);
    drop(events);
    let path = format!("/v1/tasks/{task}");
    wait_until("the task is cancelled", || stack.get(&path).unwrap()["state"] == "cancelled");
    wait_until("the engine's slot is free", || stack.engine_busy() == 0);
    let decoded = stack.engine_decodes() - before;
    assert!(decoded < 900, "{decoded} tokens were decoded");
}

/// A run that has begun, and the engine's count of decodes before it. Most of its 1,000 tokens are to come. The model may end its text early;
/// of a few seeds, one goes on.
fn long_run(stack: &Stack) -> (String, Events, u64) {
    for seed in 0..8 {
        let before = stack.engine_decodes();
        let body = json!({"prompt": "And", "max_tokens": 1_000, "seed": seed,
            "disconnect_grace_ms": 0, "sampling": {"temperature": 1.2, "top_p": 1.0, "min_p": 0.0}});
        let mut events = stack.open(&body);
        let task = events.until("queued").data["task_id"].as_str().unwrap().to_owned();
        events.until("token");
        if stack.engine_busy() == 1 {
            return (task, events, before);
        }
    }
    panic!("every run ended at once");
}
