//! Two models that do not fit together, with a real engine each.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stack::{Stack, pool, wait_until};

const TASKS: usize = 200;
const CLIENTS: usize = 8;
const PATTERN: &[u8; 8] = b"ABAABABB";
const MAX_WAIT: Duration = Duration::from_secs(20);

fn on_demand(id: &str) -> Value {
    let mut pool = pool(id, id, 2, 256);
    pool["residency"] = json!("on_demand");
    pool["model"]["memory_mib"] = json!(300);
    pool
}

fn model(task: usize) -> char {
    PATTERN[task % PATTERN.len()].into()
}

/// Loads so far, by outcome.
fn swaps(stack: &Stack, outcome: &str) -> usize {
    let text = stack.text("/metrics");
    let counted = |it: &&str| it.starts_with("model_swaps_total") && it.contains(outcome);
    let lines = text.lines().filter(counted);
    lines.map(|it| it.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

// ORCH-4010, ORCH-4012, OC-CORE-1042
#[test]
fn tasks_for_two_models_all_run_with_few_swaps_and_in_bounded_time() {
    let manager = json!({
        "devices": [{"id": "small", "kind": "cpu", "memory_mib": 500}],
        "pools": [on_demand("A"), on_demand("B")],
    });
    let max_wait_ms = u64::try_from(MAX_WAIT.as_millis()).unwrap();
    let swap = json!({"min_resident_ms": 200, "max_wait_ms": max_wait_ms});
    let stack = Stack::with(&manager, &swap);
    wait_until("both models can be loaded", || {
        stack.get("/v1/pools").is_some_and(|it| {
            let replicas = it["pools"].as_array().unwrap().iter().map(|it| &it["replicas"][0]);
            replicas.filter(|it| it["state"] == "unloaded").count() == 2
        })
    });
    let next = Mutex::new(0);
    let longest = Mutex::new(Duration::ZERO);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let task = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    if TASKS <= task {
                        return;
                    }
                    let began = Instant::now();
                    let model = model(task).to_string();
                    let body = json!({"model_ref": model, "prompt": "Once", "max_tokens": 8});
                    let (text, end) = stack.run(&body);
                    assert_eq!(end.name, "end", "task {task}: {:?}", end.data);
                    assert!(!text.is_empty(), "task {task}");
                    let mut longest = longest.lock().unwrap();
                    *longest = longest.max(began.elapsed());
                }
            });
        }
    });
    let first_come = (1..TASKS).filter(|it| model(*it) != model(it - 1)).count() + 1;
    let (loaded, failed) = (swaps(&stack, "loaded"), swaps(&stack, "failed"));
    let longest = longest.into_inner().unwrap();
    println!("{loaded} swaps, first come {first_come}, longest {longest:?}");
    assert_eq!(failed, 0);
    assert!(2 <= loaded && loaded * 2 <= first_come, "{loaded} swaps of {first_come}");
    // Both models are waited for in turn: nobody waits for longer than for the right of way, the
    // one ahead, and the own load; a load here takes about a second.
    assert!(longest < MAX_WAIT + Duration::from_secs(10), "{longest:?}");
}
