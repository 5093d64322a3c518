//! A greedy answer of a real engine that is interrupted gives the bytes of one that is not.
//!
//! The weights are f16: with them prefill and decode round alike, with q8_0 they do not always.

use std::io::Read;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::stack::{Events, Stack, pool, program, root, signal, wait_until};

/// Prompts are tried until one is interrupted in its midst: the tiny model may end early.
const PROMPTS: [&str; 4] = ["In the beginning", "And the LORD said", "Now it came", "Blessed"];

fn stack(weights: &str) -> Stack {
    let mut pool = pool("real", "tiny-scribe", 1, 1_024);
    pool["model"]["path"] = json!(root().join(format!("models/tiny-scribe-{weights}.gguf")));
    let stack = Stack::with(&json!({"pools": [pool]}), &json!({}));
    stack.wait_ready();
    stack
}

fn greedy(prompt: &str) -> Value {
    json!({"prompt": prompt, "max_tokens": 900, "sampling": {"temperature": 0.0}})
}

/// What a reader has seen.
#[derive(Default)]
struct Seen {
    task: String,
    text: String,
    last: u64,
    resumed: usize,
    end: Option<Value>,
}

impl Seen {
    /// Reads until the stream breaks, ends, or `tokens` more are there.
    fn read(&mut self, events: &mut Events, tokens: usize) {
        let mut left = tokens;
        while 0 < left
            && let Some(event) = events.next()
        {
            if let Some(id) = event.id {
                assert_eq!(id, self.last + 1, "each event once and in order");
                self.last = id;
            }
            match event.name.as_str() {
                "queued" if self.task.is_empty() => {
                    self.task = event.data["task_id"].as_str().unwrap().to_owned();
                }
                "token" => {
                    self.text += event.data["t"].as_str().unwrap();
                    left -= 1;
                }
                "resumed" => self.resumed += 1,
                "end" | "error" => self.end = Some(event.data),
                _ => {}
            }
        }
    }
}

/// Runs prompts until one was interrupted by `interrupt`, and compares.
fn compare(interrupt: impl Fn(&mut Stack)) {
    let mut stack = stack("f16");
    for prompt in PROMPTS {
        let (expected, _) = stack.run(&greedy(prompt));
        let mut seen = Seen::default();
        let mut events = stack.open(&greedy(prompt));
        seen.read(&mut events, 10);
        interrupt(&mut stack);
        seen.read(&mut events, usize::MAX);
        if seen.end.is_none() {
            let mut events = stack.follow(&seen.task, seen.last);
            seen.read(&mut events, usize::MAX);
        }
        let end = seen.end.unwrap();
        assert_eq!(seen.text, expected, "{prompt}: {end}");
        assert!(end["finish_reason"].is_string(), "{end}");
        if 0 < seen.resumed {
            return;
        }
    }
    panic!("no answer was interrupted in its midst");
}

// ORCH-4003, ORCH-3038
#[test]
fn a_killed_engine_changes_no_byte_of_an_answer() {
    compare(|stack| {
        // The guard and the engine share the arguments; the engine alone is killed.
        signal(*stack.engine_pids().iter().max().unwrap(), Signal::KILL);
        wait_until("the replica was restarted", || stack.replica()["restarts"] != 0);
        stack.wait_ready();
    });
}

// ORCH-4001, ORCH-4002, ORCH-4003
#[test]
fn a_killed_daemon_changes_no_byte_of_an_answer() {
    compare(Stack::restart_orchestrator);
}

/// Answers that are cut at several places and sent on as a resumed attempt is, to an engine that knows
/// nothing of them: how many are whole answers in the end that nobody cut, and how many there were.
fn equal_after_cuts(weights: &str) -> (usize, usize) {
    const TOKENS: usize = 160;
    let stack = stack(weights);
    let (mut equal, mut cuts) = (0, 0);
    for prompt in PROMPTS {
        let mut body = greedy(prompt);
        (body["max_tokens"], body["kv_hint"]) = (json!(TOKENS), json!("cold"));
        let mut events = stack.open(&body);
        let mut pieces = Vec::new();
        let end = loop {
            let event = events.next().unwrap();
            match event.name.as_str() {
                "token" => pieces.push(event.data["t"].as_str().unwrap().to_owned()),
                "end" => break event.data,
                _ => {}
            }
        };
        let whole = pieces.concat();
        let made = usize::try_from(end["tokens_out"].as_u64().unwrap()).unwrap();
        // A piece may be several tokens: then a cut is not known in tokens.
        assert_eq!(made, pieces.len(), "{end}");
        for cut in (3..made).step_by(5) {
            let kept = pieces[..cut].concat();
            body["prompt"] = json!(format!("{prompt}{kept}"));
            body["max_tokens"] = json!(TOKENS - cut);
            cuts += 1;
            equal += usize::from(kept + &stack.run(&body).0 == whole);
        }
    }
    (equal, cuts)
}

// OC-TEST-7004
#[test]
fn a_greedy_answer_that_is_cut_anywhere_is_the_same_with_f16_and_mostly_with_q8_0() {
    let (same, cuts) = equal_after_cuts("f16");
    assert_eq!(same, cuts);
    let (equal, cuts) = equal_after_cuts("q8_0");
    assert!(60 <= cuts, "{cuts} cuts");
    // Counts, so that they add up over runs.
    let report = json!({
        "resume.greedy_equal_ratio": equal as f64 / cuts as f64, "equal": equal, "cuts": cuts,
    });
    let folder = root().join("target/determinism");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("resume-q8_0.json"), report.to_string()).unwrap();
    // About 0.93 by the engine's rounding; a seam that is wrong gives next to none.
    assert!(cuts * 7 < equal * 10, "{report}");
}

// ORCH-4002, ORCH-2003
#[test]
fn llorch_goes_on_by_itself_and_ctrl_c_ends_the_task() {
    let mut stack = stack("f16");
    let arguments = ["submit", "--temperature", "0", "--max-tokens", "900", PROMPTS[0]];
    let llorch = |stack: &Stack| {
        let mut command = Command::new(program("llorch"));
        command.args(["--url", &stack.url]).args(arguments).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let expected = llorch(&stack).wait_with_output().unwrap().stdout;
    let mut reading = llorch(&stack);
    let mut text = vec![0; 40];
    reading.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
    stack.restart_orchestrator();
    let rest = reading.wait_with_output().unwrap();
    assert!(rest.status.success(), "{rest:?}");
    text.extend(rest.stdout);
    assert_eq!(String::from_utf8(text), String::from_utf8(expected));
    let mut reading = llorch(&stack);
    reading.stdout.as_mut().unwrap().read_exact(&mut [0; 40]).unwrap();
    signal(reading.id().cast_signed(), Signal::INT);
    assert_eq!(reading.wait().unwrap().code(), Some(130));
    let newest = || stack.get("/v1/tasks?limit=1").unwrap()["tasks"][0]["state"].clone();
    assert_eq!(newest(), "cancelled");
}
