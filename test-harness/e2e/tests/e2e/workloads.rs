//! What real engines do beside going on with a text: vectors, scores, and answers of a given form.

use serde_json::{Value, json};

use crate::stack::{Stack, pool, wait_until};

fn for_workload(workload: &str, flags: &[&str]) -> Value {
    let mut pool = pool(workload, workload, 2, 512);
    pool["model"]["workload"] = json!(workload);
    pool["flags"] = json!(flags);
    pool
}

fn stack() -> Stack {
    let pools = [
        for_workload("completion", &[]),
        for_workload("embedding", &["--pooling", "last"]),
        for_workload("rerank", &[]),
    ];
    let stack = Stack::with(&json!({ "pools": pools }), &json!({}));
    wait_until("all engines are ready", || {
        stack.get("/v1/pools").is_some_and(|it| {
            let replicas = it["pools"].as_array().unwrap().iter().map(|it| &it["replicas"][0]);
            replicas.filter(|it| it["state"] == "ready").count() == 3
        })
    });
    stack
}

/// The one result of a task, and its end.
fn result(stack: &Stack, body: &Value) -> (Value, Value) {
    let mut events = stack.open(body);
    events.until("started");
    (events.until("result").data, events.until("end").data)
}

fn cosine(a: &[Value], b: &[Value]) -> f64 {
    let numbers = |it: &[Value]| it.iter().map(|it| it.as_f64().unwrap()).collect::<Vec<_>>();
    let (a, b) = (numbers(a), numbers(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

// OC-ADAPT-5012
#[test]
fn texts_become_vectors_and_documents_are_scored() {
    let stack = stack();
    let texts = ["In the beginning", "In the beginning", "the king of France"];
    let ask = json!({"model_ref": "embedding", "workload": "embedding", "inputs": texts});
    let (found, end) = result(&stack, &ask);
    let vectors = found["embeddings"].as_array().unwrap();
    let [first, same, other] = [0, 1, 2].map(|it| vectors[it].as_array().unwrap());
    assert!(cosine(first, same) > 0.999, "equal texts are equal");
    assert!(cosine(first, other) < 0.99, "others are not");
    assert_eq!((&end["finish_reason"], &end["tokens_out"]), (&json!("stop"), &json!(0)));
    assert!(end["tokens_in"].as_u64().unwrap() > 12, "{end}");
    let documents = ["In the beginning", "the king", "In the beginning"];
    let ask = json!({"model_ref": "rerank", "workload": "rerank", "query": "the beginning",
        "documents": documents});
    let scores = result(&stack, &ask).0["scores"].clone();
    assert_eq!(scores.as_array().unwrap().len(), 3);
    assert_eq!(scores[0], scores[2], "equal documents have equal scores, in their places");
    assert_ne!(scores[0], scores[1]);
}

// OC-CTRL-2063
#[test]
fn an_answer_has_the_form_that_was_asked_for() {
    let stack = stack();
    for seed in 0..8 {
        let ask = json!({"model_ref": "completion", "prompt": "Answer: ", "max_tokens": 40,
            "seed": seed, "sampling": {"temperature": 1.0},
            "output": {"format": "json", "json_schema": {"enum": ["alpha", "beta"]}}});
        let (text, end) = stack.run(&ask);
        assert!(["\"alpha\"", "\"beta\""].contains(&text.as_str()), "{text:?}");
        assert_eq!(end.data["finish_reason"], "stop");
    }
    let ask = json!({"model_ref": "completion", "prompt": "Answer: ", "max_tokens": 40,
        "output": {"grammar": "root ::= \"yes\" | \"no\""}});
    assert!(["yes", "no"].contains(&stack.run(&ask).0.as_str()));
}
