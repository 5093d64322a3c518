//! Embeddings, ranks and constrained text: the same numbers in every dialect that has them.

use engine_sim::SimProcess;
use serde_json::{Value, json};

use crate::wire::{get, post};

const VLLM: &[&str] = &["--dialect", "vllm", "--served-model-name", "tiny", "--runner", "pooling"];

fn length(vector: &Value) -> f64 {
    let numbers = vector.as_array().unwrap().iter().map(|it| it.as_f64().unwrap());
    numbers.map(|it| it * it).sum::<f64>().sqrt()
}

#[test]
fn embeddings_are_unit_vectors_that_follow_from_the_text() {
    let vllm = SimProcess::spawn(VLLM);
    let llama = SimProcess::spawn(["--embeddings"]);
    let ask = json!({ "model": "tiny", "input": ["hello", "world"] });
    let one = post(&vllm, "/v1/embeddings", &ask).json();
    assert_eq!(one["usage"]["prompt_tokens"], 6);
    let vector = &one["data"][1]["embedding"];
    assert_eq!((&one["data"][1]["index"], vector.as_array().unwrap().len()), (&json!(1), 8));
    assert!((length(vector) - 1.0).abs() < 1e-9);
    assert_ne!(vector, &one["data"][0]["embedding"]);

    let other = post(&llama, "/v1/embeddings", &ask).json();
    assert_eq!(other["data"], one["data"]);
    assert_eq!(other["usage"], json!({ "prompt_tokens": 6, "total_tokens": 6 }));
    let nested = post(&llama, "/embedding", &json!({ "content": "world" })).json();
    assert_eq!(nested, json!([{ "index": 0, "embedding": [vector] }]));
    // Such a server still completes.
    assert_eq!(post(&llama, "/completion", &json!({ "prompt": "x", "n_predict": 1 })).status, 200);
}

#[test]
fn ranks_are_shares_of_the_querys_words() {
    let body = json!({
        "model": "tiny", "query": "red fox", "documents": ["a dog", "the red fox", "red"],
        "top_n": 2,
    });
    let vllm = SimProcess::spawn(VLLM);
    for path in ["/rerank", "/v1/rerank"] {
        let results = post(&vllm, path, &body).json()["results"].clone();
        assert_eq!(
            results,
            json!([
                { "index": 1, "document": { "text": "the red fox" }, "relevance_score": 1.0 },
                { "index": 2, "document": { "text": "red" }, "relevance_score": 0.5 },
            ])
        );
    }
    let llama = SimProcess::spawn(["--reranking"]);
    for path in ["/rerank", "/v1/rerank"] {
        let results = post(&llama, path, &body).json()["results"].clone();
        let expected = json!([
            { "index": 1, "relevance_score": 1.0 }, { "index": 2, "relevance_score": 0.5 },
        ]);
        assert_eq!(results, expected);
    }
    let tei = json!({ "query": "red", "texts": ["blue", "red"] });
    let expected = json!([{ "index": 1, "score": 1.0 }, { "index": 0, "score": 0.0 }]);
    assert_eq!(post(&llama, "/rerank", &tei).json(), expected);
    let pair = json!({ "text_1": "red fox", "text_2": ["fox"] });
    assert_eq!(post(&vllm, "/score", &pair).json()["data"][0]["score"], 0.5);
}

#[test]
fn a_pooling_model_does_nothing_else_and_others_do_not_pool() {
    let vllm = SimProcess::spawn(VLLM);
    assert_eq!(post(&vllm, "/v1/completions", &json!({ "prompt": "x" })).status, 404);
    assert_eq!(get(&vllm, "/health").status, 200);
    let busy = json!({ "input": "[[sim:status=503]]" });
    assert_eq!(post(&vllm, "/v1/embeddings", &busy).status, 503);
    let failed = json!({ "input": "[[sim:error_after=0]]" });
    assert_eq!(post(&vllm, "/v1/embeddings", &failed).status, 500);
    assert_eq!(post(&vllm, "/v1/embeddings", &json!({})).status, 400);

    let llama = SimProcess::spawn::<&str>([]);
    let embeddings = post(&llama, "/v1/embeddings", &json!({ "input": "x" }));
    assert_eq!(embeddings.status, 501);
    assert_eq!(
        embeddings.body,
        r#"{"error":{"code":501,"message":"This server does not support embeddings. Start it with `--embeddings`","type":"not_supported_error"}}"#
    );
    let rerank = post(&llama, "/v1/rerank", &json!({}));
    assert_eq!(
        rerank.body,
        r#"{"error":{"code":501,"message":"This server does not support reranking. Start it with `--reranking`","type":"not_supported_error"}}"#
    );
}

#[test]
fn an_input_beyond_the_batch_or_the_context_is_refused() {
    let llama = SimProcess::spawn(["--embeddings", "-ub", "16"]);
    let long = json!({ "input": "word".repeat(16) });
    assert_eq!(post(&llama, "/v1/embeddings", &long).status, 500);
    let vllm = SimProcess::spawn(VLLM.iter().chain(&["--max-model-len", "16"]));
    let refused = post(&vllm, "/v1/embeddings", &long);
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("input_tokens")));
}

#[test]
fn llama_answers_a_schema_and_checks_a_grammar() {
    let sim = SimProcess::spawn::<&str>([]);
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "n": { "$ref": "#/$defs/count" } },
        "$defs": { "count": { "type": "integer" } },
    });
    let ask = json!({ "prompt": "x", "n_predict": 64, "stream": true, "json_schema": schema });
    let answer = post(&sim, "/completion", &ask);
    assert_eq!(answer.text().parse::<Value>().unwrap(), json!({ "name": "s", "n": 1 }));
    let last = answer.events().pop().unwrap();
    assert_eq!((&last["stop_type"], answer.events().len() > 3), (&json!("eos"), true));

    let refused = |key: &str, value: Value| {
        let answer =
            post(&sim, "/completion", &json!({ "prompt": "x", "n_predict": 1, key: value }));
        (answer.status, answer.json()["error"]["message"].clone())
    };
    assert_eq!(
        refused("grammar", json!("root ::= [[bad]]")),
        (400, json!("Failed to initialize samplers: failed to parse grammar"))
    );
    assert_eq!(
        refused("json_schema", json!({ "type": "nonsense" })),
        (
            400,
            json!(
                "Field 'json_schema': \"json_schema\": JSON schema conversion failed:\nJSON schema error at #: unrecognized type nonsense"
            )
        )
    );
    let unconstrained = json!({ "prompt": "x", "n_predict": 1, "grammar": "root ::= \"x\"" });
    assert_eq!(post(&sim, "/completion", &unconstrained).json()["content"], " 0");
}
