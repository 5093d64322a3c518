//! What the daemons log, and what they never do.

use serde_json::json;

use crate::stack::{Stack, wait_until};

// ORCH-3027, ORCH-3029, OC-CTRL-2041, OC-CTRL-2050
#[test]
fn a_task_is_one_line_without_its_prompt_its_tokens_or_a_key() {
    let stack = Stack::start(1, 1_024);
    let prompt = "Xylophone whispers";
    let (text, end) = stack.run(&json!({"prompt": prompt, "max_tokens": 12, "seed": 3}));
    assert_eq!(end.name, "end");
    let ended = || {
        let (_, lines) = stack.log("orchestratord");
        lines.into_iter().filter(|it| it["message"] == "task ended").collect::<Vec<_>>()
    };
    wait_until("the line is written", || !ended().is_empty());
    let lines = ended();
    let [line] = &lines[..] else { panic!("one line for one task: {lines:?}") };
    for field in [
        "task_id",
        "correlation_id",
        "tenant",
        "engine",
        "engine_version",
        "pool_id",
        "replica_id",
        "model_id",
        "priority",
        "sampler_profile_version",
        "decision",
    ] {
        assert!(line[field].is_string(), "{field}: {line}");
    }
    for field in ["queue_position", "predicted_start_ms", "queue_time_ms", "first_token_ms"] {
        assert!(line[field].is_u64(), "{field}: {line}");
    }
    assert_eq!((&line["seed"], &line["tokens_out"]), (&3.into(), &12.into()));
    assert_eq!((&line["outcome"], &line["attempt"]), (&"completed".into(), &1.into()));

    let key = stack.managed_replica()["engine_key"].as_str().unwrap().to_owned();
    for daemon in ["orchestratord", "pool-managerd"] {
        let (log, _) = stack.log(daemon);
        for secret in [prompt, text.trim(), &key] {
            assert!(!log.contains(secret), "{daemon} logged `{secret}`");
        }
    }
}
