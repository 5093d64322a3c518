//! Engines and daemons killed with SIGKILL, and stopped politely.

use std::process::Child;

use rustix::process::Signal;
use serde_json::json;

use crate::stack::{Stack, pool, processes_with, signal, wait_until};

fn pid(child: &Child) -> i32 {
    child.id().cast_signed()
}

// OC-POOL-3040
#[test]
fn a_killed_manager_leaves_no_engine_and_its_return_heals_everything() {
    let mut stack = Stack::start(1, 1_024);
    let before = stack.managed_replica()["endpoint"].as_str().unwrap().to_owned();
    let port = before.rsplit(':').next().unwrap().to_owned();
    signal(pid(&stack.manager), Signal::KILL);
    stack.manager.wait().unwrap();
    wait_until("no engine is left", || processes_with(&["--port", &port]).is_empty());
    wait_until("the outage is seen", || {
        stack.get("/readyz").is_some_and(|it| it["ready"] == false)
    });
    let mut waiting = stack.open(&json!({"prompt": "And", "max_tokens": 4}));
    stack.restart_manager();
    assert_eq!(waiting.until("end").data["tokens_out"], 4);
}

// OC-POOL-3041
#[test]
fn a_stream_outlives_the_manager_where_engines_are_kept() {
    let manager = json!({
        "on_manager_exit": "keep",
        "pools": [pool("real", "tiny-scribe", 1, 1_024)],
    });
    let mut stack = Stack::with(&manager, &json!({}));
    stack.wait_ready();
    let before = stack.managed_replica();
    let mut running = stack.open(&json!({"prompt": "And", "max_tokens": 1_000,
        "sampling": {"temperature": 1.2, "top_p": 1.0, "min_p": 0.0}}));
    running.until("token");
    signal(pid(&stack.manager), Signal::KILL);
    stack.manager.wait().unwrap();
    stack.restart_manager();
    wait_until("the new manager answers", || stack.manager_answers());
    let after = stack.managed_replica();
    for field in ["pid", "incarnation", "endpoint", "engine_key"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let last = loop {
        let event = running.next().unwrap();
        if !["token", "metrics"].contains(&event.name.as_str()) {
            break event;
        }
    };
    assert_eq!(last.name, "end", "{:?}", last.data);
    stack.wait_ready();
    let (_, end) = stack.run(&json!({"prompt": "And", "max_tokens": 4}));
    assert_eq!(end.name, "end");
    stack.stop_kept_engines();
}

// OC-CTRL-2082
#[test]
fn both_daemons_stop_in_order_and_leave_nothing() {
    let mut stack = Stack::start(1, 1_024);
    let endpoint = stack.managed_replica()["endpoint"].as_str().unwrap().to_owned();
    let port = endpoint.rsplit(':').next().unwrap().to_owned();
    signal(pid(&stack.orchestrator), Signal::TERM);
    assert!(stack.orchestrator.wait().unwrap().success());
    signal(pid(&stack.manager), Signal::TERM);
    assert!(stack.manager.wait().unwrap().success());
    assert_eq!(processes_with(&["--port", &port]), Vec::<i32>::new());
}
