//! The determinism suite: what `determinism: strict` and [`pool_api`]'s recipes may claim. Two real
//! processes, started by our own manager, answer the same requests with the same bytes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::stack::{Stack, pool, root, wait_until};

const SEEDS: u32 = 64;
/// A constant answer, or one that hardly depends on the seed, proves nothing.
const DISTINCT_MIN: usize = 60;
const TOKENS: u32 = 48;
/// Compared first: a difference there is one of sampling, later ones may be of the cache.
const FIRST_TOKENS: usize = 32;

/// The text and token ids of one answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    text: String,
    ids: Vec<u64>,
}

/// From that pool and no other.
fn answer(stack: &Stack, pool: &str, seed: u32, determinism: &str) -> Answer {
    let body = json!({
        "model_ref": "m", "prompt": "And it came to pass", "max_tokens": TOKENS, "seed": seed,
        "sampling": {"temperature": 1.0}, "return_token_ids": true, "determinism": determinism,
        "placement": {"mode": "pin", "pool_ids": [pool]},
    });
    let mut events = stack.open(&body);
    assert_eq!(events.until("started").data["pool_id"], pool);
    let (mut text, mut ids) = (String::new(), Vec::new());
    loop {
        let event = events.next().unwrap();
        match event.name.as_str() {
            "token" => {
                text += event.data["t"].as_str().unwrap();
                ids.extend(
                    event.data["ids"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()),
                );
            }
            "end" => return Answer { text, ids },
            "metrics" => {}
            _ => panic!("{event:?}"),
        }
    }
}

fn answers(stack: &Stack, pool: &str, determinism: &str) -> Vec<Answer> {
    (0..SEEDS).map(|seed| answer(stack, pool, seed, determinism)).collect()
}

/// Writes down where answers differ, for whoever must find out why; the number that do.
fn differences(name: &str, one: &[Answer], other: &[Answer]) -> usize {
    let mut report = String::new();
    for (seed, (a, b)) in one.iter().zip(other).enumerate() {
        if a != b {
            let same = a.ids.iter().zip(&b.ids).take_while(|(a, b)| a == b).count();
            let early = if same < FIRST_TOKENS { ", within the first 32" } else { "" };
            writeln!(report, "seed {seed}: equal for {same} tokens{early}").unwrap();
            writeln!(report, "  {:?} {:?}", &a.ids[same.min(a.ids.len())..], a.text).unwrap();
            writeln!(report, "  {:?} {:?}", &b.ids[same.min(b.ids.len())..], b.text).unwrap();
        }
    }
    let differing = one.iter().zip(other).filter(|(a, b)| a != b).count();
    if differing != 0 {
        let folder = root().join("target/determinism");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.txt")), report).unwrap();
    }
    differing
}

/// Two pools of one template; each is a process of its own.
fn two(template: &Value) -> [Value; 2] {
    ["one", "two"].map(|id| {
        let mut pool = template.clone();
        pool["id"] = json!(id);
        pool["model"]["id"] = json!("m");
        pool
    })
}

fn ready(pools: &[Value]) -> Stack {
    let stack = Stack::with(&json!({ "pools": pools }), &json!({}));
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(240);
    let all = || {
        stack.get("/v1/pools").is_some_and(|it| {
            let replicas = it["pools"].as_array().unwrap().iter().map(|it| &it["replicas"][0]);
            replicas.filter(|it| it["state"] == "ready").count() == pools.len()
        })
    };
    while !all() && std::time::Instant::now() < limit {
        crate::stack::pause(std::time::Duration::from_millis(100));
    }
    wait_until("all engines are ready", all);
    stack
}

/// Both answer the same, and as differently as seeds differ.
fn prove(name: &str, stack: &Stack) -> Vec<Answer> {
    let one = answers(stack, "one", "strict");
    let two = answers(stack, "two", "strict");
    let differing = differences(name, &one, &two);
    assert_eq!(differing, 0, "{name}: see target/determinism/{name}.txt");
    let distinct: BTreeSet<&Answer> = one.iter().collect();
    assert!(DISTINCT_MIN <= distinct.len(), "{name}: only {} answers differ", distinct.len());
    one
}

// ORCH-3045, ORCH-3047, ORCH-3050, OC-TEST-7001, OC-TEST-7002, OC-TEST-7003, OC-CORE-1030
#[test]
fn two_real_processes_give_the_same_bytes_and_another_configuration_does_not() {
    let template = pool("", "m", 1, 512);
    let mut other = template.clone();
    (other["id"], other["flags"]) = (json!("other"), json!(["-ctk", "q8_0", "-ctv", "q8_0"]));
    let [one, two] = two(&template);
    let stack = ready(&[one, two, other]);
    let proved = prove("llamacpp", &stack);
    // The same model with its cache in fewer bits rounds in another way: the suite sees that.
    let rounded = answers(&stack, "other", "best_effort");
    assert_ne!(differences("llamacpp-q8_0-cache", &proved, &rounded), 0, "nothing was compared");
    // As strict says: a replica set is one version and one model.
    let sets = stack.get("/v1/replicasets").unwrap();
    let versions = &sets["replica_sets"][0]["engine_version"];
    assert!(versions.is_string(), "{sets}");
}

/// `cargo xtask test --engines` says which.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test runner passes its pools this way")]
fn other_engines_are_proved_where_they_are_given() {
    let Ok(templates) = std::env::var("LLAMA_ORCH_PROVE") else { return };
    let templates: Vec<Value> = serde_json::from_str(&templates).unwrap();
    for template in &templates {
        let name = template["engine"].as_str().unwrap();
        prove(name, &ready(&two(template)));
    }
}

// OC-CORE-1031, OC-CORE-1030, ORCH-3046
#[test]
fn strict_is_refused_with_the_reason_where_nothing_is_proved() {
    let stack = ready(&[pool("many", "m", 2, 512)]);
    let body = json!({"model_ref": "m", "prompt": "a", "determinism": "strict"});
    let (status, refused) = stack.refused(&body);
    assert_eq!((status, &refused["code"]), (422, &json!("DETERMINISM_UNAVAILABLE")), "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("many: its engines run 2 sequences at once"), "{message}");
    let model = &stack.get("/v1/capabilities").unwrap()["engines"][0]["models"][0];
    let features = model["features"].as_array().unwrap();
    assert!(!features.contains(&json!("determinism_strict")), "{model}");
}
