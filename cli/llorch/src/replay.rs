//! `llorch replay`: is the answer the same again, and if not, what is different?

use std::process::ExitCode;

use anyhow::{Context, bail};
use api_types::{Task, TaskPlacement, TaskRequest, TaskState};
use uuid::Uuid;

use crate::client::Client;
use crate::stream;

/// Runs a finished task's request again and compares.
///
/// # Errors
/// A task that did not complete, and whatever befalls the second run.
pub(crate) fn run(client: &Client, task: Uuid) -> anyhow::Result<ExitCode> {
    let first: Task = client.get(&format!("/v1/tasks/{task}"))?;
    if first.state != TaskState::Completed {
        bail!("task {task} did not complete: there is no whole answer to compare with");
    }
    let record = first.record.clone().context("the server keeps no record of it")?;
    let id = Uuid::new_v4();
    let request = TaskRequest { task_id: Some(id), deadline_ms: None, ttl_ms: None, ..*record };
    let response = client.post("/v1/tasks", "text/event-stream", &request)?;
    stream::wait(client, id, response.into_body())?;
    let second: Task = client.get(&format!("/v1/tasks/{id}"))?;
    Ok(report(&first, &second))
}

fn report(first: &Task, second: &Task) -> ExitCode {
    let (before, after) = (answer(first), answer(second));
    if before == after {
        println!("the same: {} tokens", second.usage.tokens_out);
        return ExitCode::SUCCESS;
    }
    let same = before.chars().zip(after.chars()).take_while(|(one, other)| one == other).count();
    println!("different from character {same} on");
    for reason in reasons(first, second) {
        println!("  {reason}");
    }
    ExitCode::FAILURE
}

/// The text, or vectors and scores as they are written.
fn answer(task: &Task) -> String {
    match (&task.text, &task.result) {
        (Some(text), _) => text.clone(),
        (None, Some(result)) => serde_json::to_string(result).unwrap_or_default(),
        (None, None) => String::new(),
    }
}

/// What made the answer and is not the same; where all is, what else it may be.
fn reasons(first: &Task, second: &Task) -> Vec<String> {
    let field = |name: &str, of: fn(&TaskPlacement) -> Option<String>| {
        let value = |it: &Task| it.placement.as_ref().and_then(of).unwrap_or_else(|| "?".into());
        let (before, after) = (value(first), value(second));
        (before != after).then(|| format!("{name}: was {before}, is {after}"))
    };
    let mut found: Vec<String> = [
        field("engine", |it| Some(it.engine.clone())),
        field("engine_version", |it| Some(it.engine_version.clone())),
        field("model_digest", |it| it.model_digest.clone()),
        field("pool_id", |it| Some(it.pool_id.clone())),
    ]
    .into_iter()
    .flatten()
    .collect();
    for (which, task) in [("first", first), ("second", second)] {
        if 1 < task.attempt {
            let attempt = task.attempt;
            found.push(format!("the {which} run went on in attempt {attempt}, with another seed"));
        }
    }
    if found.is_empty() {
        found.push(
            "engine, model and settings are the same: they do not determine the answer".into(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(text: &str, digest: &str, attempt: u32) -> Task {
        let document = serde_json::json!({
            "task_id": "00000000-0000-4000-8000-000000000001", "state": "completed",
            "attempt": attempt, "model_id": "m", "tenant": "default", "timings": {},
            "usage": {"tokens_in": 1, "tokens_out": 2}, "seed": 7, "text": text,
            "placement": {
                "pool_id": "p", "replica_id": "p-0", "engine": "llamacpp", "engine_version": "b1",
                "model_digest": digest,
            },
        });
        serde_json::from_value(document).expect("a task")
    }

    // ORCH-4030
    #[test]
    fn what_is_different_is_named() {
        let first = task("one", "sha256:a", 1);
        assert_eq!(report(&first, &task("one", "sha256:b", 1)), ExitCode::SUCCESS);
        assert_eq!(report(&first, &task("two", "sha256:b", 1)), ExitCode::FAILURE);
        let changed = reasons(&first, &task("two", "sha256:b", 2));
        assert_eq!(changed[0], "model_digest: was sha256:a, is sha256:b");
        assert!(changed[1].starts_with("the second run went on in attempt 2"), "{changed:?}");
        assert!(reasons(&first, &task("two", "sha256:a", 1))[0].contains("do not determine"));
    }
}
