//! Admission: ids, positions, predictions and the context.

use crate::client::{names, text};
use crate::rig::{Rig, Setup, wait_until};

const HANG: &str = r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#;

// ORCH-2001
#[test]
fn an_admission_says_where_the_task_stands_and_where_it_is_found() {
    let rig = Rig::with_slots(1);
    rig.client.submit(HANG);
    let positions = (0..3).map(|_| {
        let answer = rig.client.post("/v1/tasks", r#"{"prompt":"a"}"#, &[]);
        assert_eq!(answer.status, 202);
        let body = answer.json();
        let id = body["task_id"].as_str().unwrap();
        assert_eq!(answer.header("location"), format!("/v1/tasks/{id}"));
        assert_eq!(answer.header("x-queue-position"), body["queue_position"].to_string());
        assert_eq!(answer.header("x-queue-eta-ms"), body["predicted_start_ms"].to_string());
        assert_eq!(body["state"], "queued");
        assert_eq!(body["ephemeral"], true);
        assert!(body["predicted_start_ms"].as_u64() <= body["predicted_start_p90_ms"].as_u64());
        body["queue_position"].as_u64().unwrap()
    });
    assert_eq!(positions.collect::<Vec<_>>(), [0, 1, 2]);
    let queue = rig.client.json("/v1/queue");
    assert_eq!((&queue["depth"], &queue["lanes"][0]["running"]), (&3.into(), &1.into()));
}

#[test]
fn a_prediction_grows_with_the_queue_and_follows_what_was_measured() {
    let rig = Rig::with_slots(1);
    for _ in 0..5 {
        rig.client.run(r#"{"prompt":"a","max_tokens":1}"#);
    }
    rig.client.submit(HANG);
    let predicted = |_| {
        let answer = rig.client.post("/v1/tasks", r#"{"prompt":"a"}"#, &[]);
        answer.json()["predicted_start_ms"].as_u64().unwrap()
    };
    let starts: Vec<u64> = (0..20).map(predicted).collect();
    assert!(starts.is_sorted(), "{starts:?}");
    // Measured turnovers take a few ms; the guess without any would be over 25 s each.
    assert!(*starts.last().unwrap() < 20 * 25_000, "{starts:?}");
}

// ORCH-3024
#[test]
fn a_repeated_task_id_is_the_same_task() {
    let rig = Rig::with_slots(1);
    let body = r#"{"task_id":"6f9a1d5e-0000-4000-8000-000000000001","prompt":"a","max_tokens":3}"#;
    let first = rig.client.run(body);
    let again = rig.client.run(body);
    assert_eq!(first[1..], again[1..]);
    let seed = &first[0].data["seed"];
    let explicit = body.replace("\"prompt\"", &format!("\"seed\":{seed},\"prompt\""));
    assert_eq!(rig.client.post("/v1/tasks", &explicit, &[]).status, 202, "a default made explicit");
    let other = body.replace("\"a\"", "\"b\"");
    let conflict = rig.client.post("/v1/tasks", &other, &[]);
    assert_eq!((conflict.status, &conflict.json()["code"]), (409, &"TASK_ID_CONFLICT".into()));
    let metrics = rig.client.get("/metrics", &[]).body;
    assert!(
        metrics.contains(r#"tasks_enqueued_total{engine="llamacpp",priority="interactive"} 1"#)
    );
}

// ORCH-3024
#[test]
fn concurrent_repetitions_generate_once() {
    let rig = Rig::with_slots(4);
    let body = r#"{"task_id":"6f9a1d5e-0000-4000-8000-000000000002","prompt":"a","max_tokens":5}"#;
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(names(&rig.client.run(body)).last(), Some(&"end")));
        }
    });
    let metrics = rig.client.get("/metrics", &[]).body;
    assert!(
        metrics.contains(r#"tasks_enqueued_total{engine="llamacpp",priority="interactive"} 1"#)
    );
}

// ORCH-3014, ORCH-3015, OC-CTRL-2010
#[test]
fn a_prompt_that_may_not_fit_is_counted_by_the_engine() {
    let rig = Rig::with_slots(1);
    // 2,000 bytes are 500 tokens here: the byte bound is over the context of 1,024, the count is not.
    let prompt = "word".repeat(500);
    let end = rig.client.run(&format!(r#"{{"prompt":"{prompt}","max_tokens":5}}"#)).pop().unwrap();
    assert_eq!(end.data["tokens_out"], 5);
    // What is left of the context is the default of max_tokens.
    let prompt = "word".repeat(1_000);
    let end = rig.client.run(&format!(r#"{{"prompt":"{prompt}"}}"#)).pop().unwrap();
    assert_eq!(end.data["tokens_out"], 23);
    let overflow =
        rig.client.post("/v1/tasks", &format!(r#"{{"prompt":"{prompt}","max_tokens":24}}"#), &[]);
    assert_eq!((overflow.status, &overflow.json()["code"]), (422, &"CONTEXT_OVERFLOW".into()));
    assert!(overflow.json()["message"].as_str().unwrap().contains("1001 tokens"));
}

#[test]
fn token_ids_and_messages_are_prompts_too() {
    let rig = Rig::with_slots(1);
    let ids = rig.client.run(r#"{"prompt":[1,2,3,4],"max_tokens":2,"return_token_ids":true}"#);
    assert_eq!(ids[2].data["ids"], serde_json::json!([1000]));
    let chat = r#"{"messages":[{"role":"system","content":"be brief"},
        {"role":"user","content":"hello"}],"max_tokens":2}"#;
    assert_eq!(text(&rig.client.run(chat)), " 0 1");
}

#[test]
fn models_are_found_by_id_alias_and_digest() {
    let rig = Rig::with_slots(1);
    let digest = format!("sha256:{}", "a".repeat(64));
    for name in ["tiny", "tiny-alias", &digest] {
        let body = format!(r#"{{"model_ref":"{name}","prompt":"a","max_tokens":1}}"#);
        assert_eq!(rig.client.run(&body).pop().unwrap().name, "end", "{name}");
    }
    let missing = rig.client.post("/v1/tasks", r#"{"model_ref":"huge","prompt":"a"}"#, &[]);
    assert_eq!((missing.status, &missing.json()["code"]), (404, &"MODEL_NOT_FOUND".into()));
}

// ORCH-3004, ORCH-2007, OC-CTRL-2011
#[test]
fn a_full_queue_is_429_with_advice_and_nothing_admitted_is_lost() {
    let config = "queue: {capacity: 2}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let hanging = rig.client.submit(HANG);
    let waiting: Vec<_> =
        (0..2).map(|_| rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#)).collect();
    let refused = rig.client.post("/v1/tasks", r#"{"prompt":"a"}"#, &[]);
    let body = refused.json();
    assert_eq!((refused.status, &body["code"]), (429, &"ADMISSION_REJECT".into()));
    assert_eq!(body["policy_label"], "reject");
    let ms = body["retry_after_ms"].as_u64().unwrap();
    assert_eq!(refused.header("x-backoff-ms"), ms.to_string());
    assert_eq!(refused.header("retry-after"), ms.div_ceil(1_000).to_string());
    rig.client.cancel(&hanging);
    for task in waiting {
        assert_eq!(rig.client.stream(&task).last().unwrap().name, "end");
    }
}

// ORCH-3005
#[test]
fn a_task_pushed_out_of_a_full_queue_is_told_why() {
    let config = "queue: {capacity: 1, full_policy: shed-low-priority}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    rig.client.submit(HANG);
    let batch = rig.client.submit(r#"{"prompt":"a","priority":"batch"}"#);
    rig.client.submit(r#"{"prompt":"a"}"#);
    let error = rig.client.stream(&batch).pop().unwrap();
    assert_eq!((error.name.as_str(), &error.data["code"]), ("error", &"ADMISSION_REJECT".into()));
    assert_eq!(error.data["policy_label"], "shed-low-priority");

    let config = "queue: {capacity: 1, full_policy: drop-lru}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    rig.client.submit(HANG);
    let oldest = rig.client.submit(r#"{"prompt":"a"}"#);
    rig.client.submit(r#"{"prompt":"a"}"#);
    let error = rig.client.stream(&oldest).pop().unwrap();
    assert_eq!(error.data["code"], "QUEUE_FULL_DROP_LRU");
}

// ORCH-3008, ORCH-3019
#[test]
fn tasks_spread_over_replicas_by_their_free_slots() {
    let rig = Rig::start(Setup { slots: vec![1, 3], ..Setup::default() });
    wait_until("both pools are known", || {
        rig.client.json("/v1/pools")["pools"].as_array().unwrap().len() == 2
    });
    for _ in 0..4 {
        rig.client.submit(HANG);
    }
    let pools = rig.client.json("/v1/pools");
    let busy = |it: usize| pools["pools"][it]["replicas"][0]["slots_busy"].as_u64().unwrap();
    assert_eq!((busy(0), busy(1)), (1, 3));
    assert_eq!(rig.client.json("/v1/queue")["depth"], 0);
}

#[test]
fn finished_tasks_are_forgotten_oldest_first() {
    let config = "retention: {tasks: 2}";
    let rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let task = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
            rig.client.stream(&task);
            task
        })
        .collect();
    let status = |task: &str| rig.client.get(&format!("/v1/tasks/{task}"), &[]).status;
    wait_until("the first are forgotten", || status(&tasks[1]) == 404);
    assert_eq!((status(&tasks[0]), status(&tasks[2]), status(&tasks[3])), (404, 200, 200));
}
