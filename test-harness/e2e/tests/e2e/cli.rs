//! llorch as a user types it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::stack::{Stack, program, wait_until};

fn llorch(stack: &Stack, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("llorch"));
    command.args(["--url", &stack.url]).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_user_submits_follows_cancels_and_looks() {
    let stack = Stack::start(1, 1_024);
    let greedy = ["submit", "--temperature", "0", "--max-tokens", "12", "--timings"];
    let shown = llorch(&stack, &[&greedy[..], &["In", "the", "beginning"]].concat());
    assert!(shown.status.success(), "{shown:?}");
    let answer = text(&shown.stdout);
    assert!(answer.split_whitespace().count() > 3, "{answer:?}");
    assert!(text(&shown.stderr).contains("6 tokens in, 12 out"), "{shown:?}");

    let mut piped = Command::new(program("llorch"))
        .args(["--url", &stack.url])
        .args(greedy)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(b"In the beginning").unwrap();
    assert_eq!(text(&piped.wait_with_output().unwrap().stdout), answer);

    let detached = llorch(&stack, &["submit", "--detach", "--max-tokens", "4", "And"]);
    let task = text(&detached.stdout).trim().to_owned();
    let followed = llorch(&stack, &["stream", "--raw", &task]);
    assert!(text(&followed.stdout).contains("event: end"), "{followed:?}");
    assert!(llorch(&stack, &["cancel", &task]).status.success());

    let pools = text(&llorch(&stack, &["pools"]).stdout);
    assert!(pools.contains("real-0") && pools.contains("ready"), "{pools}");
    assert!(text(&llorch(&stack, &["queue"]).stdout).contains("0 queued"));
}

// OC-CTRL-2002, OC-CTRL-2005
#[test]
fn an_operator_looks_at_memory_and_drains() {
    let stack = Stack::start(1, 1_024);
    let shown = |arguments: &[&str]| {
        let output = llorch(&stack, arguments);
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    let models = shown(&["models"]);
    assert!(models.lines().nth(1).unwrap().starts_with("tiny-scribe  yes"), "{models}");
    let row = shown(&["gpus"]).lines().nth(1).unwrap().to_owned();
    assert!(row.starts_with("cpu0") && row.contains("healthy"), "{row}");
    // What the model takes is known, and is not nothing.
    let models = row.split_whitespace().nth(5).unwrap();
    assert!(models.parse::<u64>().is_ok_and(|it| it > 10), "{row}");
    shown(&["drain", "real", "--within", "1"]);
    wait_until("the pool drains", || shown(&["pools"]).contains("(draining)"));
    shown(&["undrain", "real"]);
    wait_until("it serves again", || !shown(&["pools"]).contains("(draining)"));
    let missing = llorch(&stack, &["drain", "nothing"]);
    assert!(text(&missing.stderr).contains("NOT_FOUND: there is no pool `nothing`"));
}

#[test]
fn a_user_is_told_what_is_wrong_in_one_sentence() {
    let stack = Stack::start(1, 1_024);
    let unknown = llorch(&stack, &["cancel", "00000000-0000-4000-8000-000000000000"]);
    assert!(!unknown.status.success());
    assert!(
        text(&unknown.stderr).starts_with("llorch: NOT_FOUND: there is no task"),
        "{unknown:?}"
    );
    let model = llorch(&stack, &["submit", "--model", "huge", "hello"]);
    assert!(text(&model.stderr).contains("no model is called `huge`"), "{model:?}");
    let nobody = Command::new(program("llorch"))
        .args(["--url", "http://127.0.0.1:1", "pools"])
        .output()
        .unwrap();
    assert!(text(&nobody.stderr).contains("does orchestratord run?"), "{nobody:?}");
}

#[test]
fn a_new_key_comes_with_its_digest() {
    let output = Command::new(program("llorch")).args(["key", "new"]).output().unwrap();
    let printed = text(&output.stdout);
    let words: Vec<&str> = printed.split_whitespace().collect();
    let key = words.iter().find(|it| it.starts_with("llo_")).unwrap();
    assert_eq!(key.len(), 4 + 64);
    assert!(words.iter().any(|it| it.len() == 64 && !it.starts_with("llo_")));
}

// ORCH-4030
#[test]
fn a_finished_task_is_replayed_and_compared() {
    let stack = Stack::start(1, 1_024);
    let replay = |task: &str| {
        let output = llorch(&stack, &["replay", task]);
        (output.status.success(), text(&output.stdout))
    };
    let submit = ["submit", "--detach", "--temperature", "1", "--max-tokens", "24", "And"];
    let task = text(&llorch(&stack, &submit).stdout).trim().to_owned();
    llorch(&stack, &["stream", &task]);
    let record = stack.get(&format!("/v1/tasks/{task}")).unwrap()["record"].clone();
    for field in ["seed", "max_tokens", "model_ref", "sampler_profile_version"] {
        assert!(!record[field].is_null(), "{field}: {record}");
    }
    assert_eq!(record["sampling"]["top_k"], 40);
    let (same, said) = replay(&task);
    assert!(same && said.starts_with("the same: "), "{said}");
    // An answer that has other bytes than its record would give: a cancelled one has none.
    let running =
        text(&llorch(&stack, &["submit", "--detach", "--max-tokens", "900", "And"]).stdout);
    llorch(&stack, &["cancel", running.trim()]);
    let refused = llorch(&stack, &["replay", running.trim()]);
    assert!(text(&refused.stderr).contains("did not complete"), "{refused:?}");
}
