//! Against pretence: an answer that nobody can have prepared, from an engine that says what it is, with
//! counters that move. What is checked of the text needs a model that follows instructions
//! (`cargo xtask haiku --model FILE.gguf`); the bundled one writes verse, and shows that all the rest is
//! connected. A simulator passes neither.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::stack::{Stack, pool, wait_until};

const TENS: [&str; 6] = ["", "", "twenty", "thirty", "forty", "fifty"];
const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];

/// In words, as the poem is to have it.
fn words(minute: usize) -> String {
    match (minute / 10, minute % 10) {
        (0 | 1, _) => ONES[minute].to_owned(),
        (tens, 0) => TENS[tens].to_owned(),
        (tens, ones) => format!("{}-{}", TENS[tens], ONES[ones]),
    }
}

/// Of the real clock, and of eight random letters: in no recording.
fn prompt() -> (String, String, String) {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let minute = words(usize::try_from(since.as_secs() / 60 % 60).unwrap());
    let random = uuid::Uuid::new_v4();
    let letters = random.as_bytes()[..8].iter().map(|it| char::from(b'a' + it % 26));
    let nonce: String = letters.collect();
    let text = format!(
        "Write a haiku about graphics cards. Use the words \"{minute}\" and \"{nonce}\" in it."
    );
    (text, minute, nonce)
}

fn tokens_out(stack: &Stack) -> u64 {
    let text = stack.text("/metrics");
    let counts = text.lines().filter(|it| it.starts_with("tokens_out_total{"));
    counts.map(|it| it.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// What is not as it would be if a model had written it just now.
fn pretence(stack: &Stack, capable: bool) -> Result<String, String> {
    let (ask, minute, nonce) = prompt();
    let (counted, decoded) = (tokens_out(stack), stack.engine_decodes());
    let body = json!({"messages": [{"role": "user", "content": ask}], "max_tokens": 96,
        "sampling": {"temperature": 0.7}});
    let mut events = stack.open(&body);
    let started = events.until("started").data;
    let mut text = String::new();
    let end = loop {
        let event = events.next().ok_or("the stream broke")?;
        match event.name.as_str() {
            "token" => text.push_str(event.data["t"].as_str().unwrap()),
            "end" => break event.data,
            "error" => return Err(event.data.to_string()),
            _ => {}
        }
    };
    let version = started["engine_version"].as_str().unwrap_or_default();
    if version.is_empty() || version == "unknown" {
        return Err(format!("the engine has no version: {started}"));
    }
    let told = end["tokens_out"].as_u64().unwrap();
    let moved = tokens_out(stack) - counted;
    if told == 0 || moved != told {
        return Err(format!("{told} tokens are told, {moved} are counted"));
    }
    if stack.engine_decodes() <= decoded {
        return Err("the engine itself has decoded nothing".into());
    }
    let letters = text.chars().filter(|it| it.is_alphabetic()).count();
    if letters * 2 < text.chars().count() {
        return Err(format!("this is no language: {text:?}"));
    }
    let lower = text.to_lowercase();
    if capable && !(lower.contains(&minute) && lower.contains(&nonce)) {
        return Err(format!("neither {minute} nor {nonce} were written down: {text:?}"));
    }
    Ok(text)
}

fn digest(path: &std::path::Path) -> String {
    let hash = Sha256::digest(std::fs::read(path).unwrap());
    let hex: String = hash.iter().map(|it| format!("{it:02x}")).collect();
    format!("sha256:{hex}")
}

// ORCH-4030
#[test]
#[expect(clippy::disallowed_methods, reason = "who runs the test names the model this way")]
fn a_poem_of_this_minute_comes_from_the_engine_that_is_named() {
    let own = std::env::var("LLAMA_ORCH_HAIKU_MODEL").ok();
    let mut pool = pool("poet", "poet", 1, 1_024);
    if let Some(path) = &own {
        pool["model"]["path"] = json!(path);
    }
    let stack = Stack::with(&json!({"pools": [pool.clone()]}), &json!({}));
    stack.wait_ready();
    let model: std::path::PathBuf = pool["model"]["path"].as_str().unwrap().into();
    let expected = digest(&model);
    wait_until("the model is what its digest says", || {
        stack.replica()["model_digest"] == json!(expected)
    });
    let poems: Vec<String> = (0..2).map(|_| pretence(&stack, own.is_some()).unwrap()).collect();
    assert_ne!(poems[0], poems[1], "another nonce is another poem");
}

#[test]
fn a_simulator_is_found_out() {
    let mut pool = pool("poet", "poet", 1, 1_024);
    pool["bin"] = json!(engine_sim::binary_path().unwrap());
    let stack = Stack::with(&json!({"pools": [pool]}), &json!({}));
    stack.wait_ready();
    let found = pretence(&stack, false);
    assert!(found.as_ref().is_err_and(|it| it.contains("no language")), "{found:?}");
}
