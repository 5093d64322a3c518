//! A daemon with a long queue that is killed: how soon is the next one ready, and is the order the same?

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::stack::{Caller, Stack, get};
use figures::Figures;

/// Connections that submit.
const SUBMITTERS: usize = 32;
/// Every so many tasks one is asked where it stands.
const SAMPLE_EVERY: usize = 997;

/// Queues `tasks` tasks behind one that occupies the only slot, kills the daemon and starts it again.
pub(crate) async fn restart(
    stack: &mut Stack,
    tasks: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let address = stack.relay.address;
    submit(stack, &json!({"prompt": "hello", "max_tokens": 900})).await?;
    let samples = queue(stack, tasks).await?;
    ensure!(depth(stack).await? == tasks, "the queue holds what was submitted");
    let before = positions(stack, &samples).await?;
    stack.kill_orchestrator()?;
    let spawned = Instant::now();
    stack.start_orchestrator()?;
    loop {
        ensure!(spawned.elapsed() < Duration::from_secs(60), "the daemon does not come back");
        if get(address, "/healthz").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ready_ms = spawned.elapsed().as_secs_f64() * 1e3;
    // Until the one that ran goes on.
    while depth(stack).await? != tasks {
        ensure!(spawned.elapsed() < Duration::from_secs(60), "the queue is not what it was");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after = positions(stack, &samples).await?;
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();

    figures.add("restart.ready_ms", ready_ms, "ms", Some(("<=", 2_000.)));
    figures.add("restart.positions_moved", moved as f64, "tasks", Some(("<=", 0.)));
    figures.add("restart.resident_mib", stack.resident_kib()? / 1024., "MiB", None);
    Ok(())
}

async fn queue(stack: &Stack, tasks: usize) -> anyhow::Result<Vec<String>> {
    let mut submitters = JoinSet::new();
    for first in 0..SUBMITTERS {
        let address = stack.relay.address;
        submitters.spawn(async move {
            let mut samples = Vec::new();
            let mut connection = Caller::open(address).await?;
            for index in (first..tasks).step_by(SUBMITTERS) {
                let body = json!({
                    "prompt": format!("task {index}"),
                    "max_tokens": 5,
                    "priority": if index % 3 == 0 { "batch" } else { "interactive" },
                });
                let answer = connection.send("/v1/tasks", &body).await?;
                let task = answer["task_id"].as_str().with_context(|| answer.to_string())?;
                if index % SAMPLE_EVERY == 0 {
                    samples.push(task.to_owned());
                }
            }
            anyhow::Ok(samples)
        });
    }
    let mut samples = Vec::new();
    while let Some(done) = submitters.join_next().await {
        samples.extend(done??);
    }
    Ok(samples)
}

async fn submit(stack: &Stack, body: &Value) -> anyhow::Result<()> {
    let answer = Caller::open(stack.relay.address).await?.send("/v1/tasks", body).await?;
    ensure!(answer["task_id"].is_string(), "{answer}");
    Ok(())
}

async fn depth(stack: &Stack) -> anyhow::Result<usize> {
    let queue = body_of(&get(stack.relay.address, "/v1/queue").await?)?;
    usize::try_from(queue["depth"].as_u64().context("a depth")?).context("a small depth")
}

async fn positions(stack: &Stack, samples: &[String]) -> anyhow::Result<Vec<u64>> {
    let mut positions = Vec::with_capacity(samples.len());
    for task in samples {
        let path = format!("/v1/tasks/{task}/explain");
        let explained = body_of(&get(stack.relay.address, &path).await?)?;
        let position = explained["waiting"]["queue_position"].as_u64();
        positions.push(position.with_context(|| explained.to_string())?);
    }
    Ok(positions)
}

fn body_of(answer: &str) -> anyhow::Result<Value> {
    let (_, body) = answer.split_once("\r\n\r\n").context("a body")?;
    Ok(serde_json::from_str(body)?)
}
