//! What tasks work on, what their answers look like, and what not every engine can do.

use pool_api::{Engine, TritonFields, TritonModel, Workload};
use serde_json::{Value, json};

use crate::client::names;
use crate::rig::{Rig, Setup};

fn rig(engines: &[Engine], change: fn(&mut Vec<pool_api::Pool>)) -> Rig {
    let slots = vec![1; engines.len()];
    Rig::start(Setup { slots, engines: engines.into(), pools: change, ..Setup::default() })
}

/// The pointers that a refused request is told.
fn pointers(rig: &Rig, body: &Value) -> Vec<String> {
    let answer = rig.client.post("/v1/tasks", &body.to_string(), &[]);
    assert_eq!(answer.status, 400, "{body} {:?}", answer.json());
    let details = answer.json()["details"].clone();
    let pointer = |it: &Value| it["pointer"].as_str().unwrap().to_owned();
    details.as_array().unwrap().iter().map(pointer).collect()
}

// OC-CTRL-2063, ORCH-2006
#[test]
fn each_workload_has_its_own_fields_and_no_others() {
    let rig = rig(&[Engine::Llamacpp], |_| {});
    let many = vec!["a"; 257];
    for (body, expected) in [
        (json!({"workload": "embedding"}), vec!["/inputs"]),
        (json!({"workload": "embedding", "inputs": []}), vec!["/inputs"]),
        (json!({"workload": "embedding", "inputs": many}), vec!["/inputs"]),
        (json!({"workload": "embedding", "inputs": ["a", ""]}), vec!["/inputs/1"]),
        (
            json!({"workload": "embedding", "inputs": ["a"], "prompt": "b", "max_tokens": 5}),
            vec!["/prompt", "/max_tokens"],
        ),
        (json!({"workload": "rerank", "documents": ["a"]}), vec!["/query"]),
        (json!({"workload": "rerank", "query": "a"}), vec!["/documents"]),
        (json!({"prompt": "a", "inputs": ["b"]}), vec!["/inputs"]),
        (json!({"prompt": "a", "output": {"json_schema": {}}}), vec!["/output/format"]),
        (
            json!({"prompt": "a", "output": {"format": "json", "json_schema": 5}}),
            vec!["/output/json_schema"],
        ),
        (
            json!({"prompt": "a", "output": {"format": "json", "grammar": "g"}}),
            vec!["/output/format"],
        ),
        (json!({"prompt": "a", "output": {"grammar": ""}}), vec!["/output/grammar"]),
        // The model is for something else.
        (json!({"workload": "embedding", "inputs": ["a"]}), vec!["/workload"]),
    ] {
        assert_eq!(pointers(&rig, &body), expected, "{body}");
    }
}

// OC-CTRL-2064
#[test]
fn what_an_engine_has_no_word_for_is_refused_by_name() {
    let rig = rig(&[Engine::Tgi], |_| {});
    for (body, expected) in [
        (json!({"prompt": [1, 2]}), "/prompt"),
        (json!({"prompt": "a", "sampling": {"min_p": 0.1}}), "/sampling/min_p"),
        (json!({"prompt": "a", "sampling": {"presence_penalty": 1}}), "/sampling/presence_penalty"),
        (json!({"prompt": "a", "output": {"format": "json"}}), "/output/format"),
        (json!({"prompt": "a", "engine": "vllm"}), "/engine"),
    ] {
        assert_eq!(pointers(&rig, &body), [expected], "{body}");
    }
    // Neutral values ask for nothing.
    let body = json!({"prompt": "a", "max_tokens": 3, "sampling": {"min_p": 0}});
    let mut stream = rig.client.open(&body.to_string());
    let started = stream.until("started").data;
    assert_eq!(started.get("settings_left_out"), None, "{started}");
    assert_eq!(stream.until("end").data["tokens_out"], 3);
    // The profile's own value is left out, and that is said.
    let mut stream = rig.client.open(r#"{"prompt": "a", "max_tokens": 3}"#);
    let started = stream.until("started").data;
    assert_eq!(started["settings_left_out"], json!(["min_p"]), "{started}");
    stream.until("end");
    let model = &rig.client.json("/v1/capabilities")["engines"][0]["models"][0];
    let features = model["features"].as_array().unwrap();
    assert!(!features.contains(&json!("min_p")) && features.contains(&json!("top_k")), "{model}");
    assert!(features.contains(&json!("grammar_regex")), "{model}");
}

// OC-CTRL-2064
#[test]
fn a_task_goes_where_it_can_be_done() {
    let rig = rig(&[Engine::Tgi, Engine::Llamacpp], |_| {});
    for _ in 0..4 {
        let body = json!({"prompt": "a", "max_tokens": 2, "sampling": {"min_p": 0.1}});
        let mut stream = rig.client.open(&body.to_string());
        assert_eq!(stream.until("started").data["engine"], "llamacpp");
        stream.until("end");
    }
    let pinned = json!({"prompt": "a", "sampling": {"min_p": 0.1},
        "placement": {"mode": "pin", "pool_ids": ["p0"]}});
    assert_eq!(pointers(&rig, &pinned), ["/sampling/min_p"]);
}

fn triton() -> Engine {
    let fields = TritonFields::Vllm;
    Engine::Triton(TritonModel { model: "tiny".into(), fields })
}

// ORCH-3055, ORCH-3056, ORCH-3057
#[test]
fn tasks_stream_from_every_engine() {
    let triton = triton();
    for engine in [Engine::Llamacpp, Engine::Vllm, Engine::Tgi, triton] {
        let rig = rig(std::slice::from_ref(&engine), |_| {});
        let body = json!({"prompt": "a 3", "max_tokens": 9, "stop": ["8 9"]});
        let mut stream = rig.client.open(&body.to_string());
        let id = stream.until("queued").data["task_id"].as_str().unwrap().to_owned();
        assert_eq!(stream.until("started").data["engine"], engine.name());
        let end = stream.until("end").data;
        assert_eq!((&end["finish_reason"], &end["stop"]), (&json!("stop"), &json!("8 9")));
        let task = rig.client.json(&format!("/v1/tasks/{id}"));
        assert_eq!(task["text"], " 4 5 6 7 ", "{}", engine.name());
    }
}

// OC-ADAPT-5012
#[test]
fn vectors_and_scores_are_results() {
    let setup = Setup {
        slots: vec![1],
        engines: vec![Engine::Vllm],
        sim_flags: vec!["--runner", "pooling"],
        pools: |pools| pools[0].workload = Workload::Embedding,
        config: "stream: {reader_lag_bytes: 1024}",
        ..Setup::default()
    };
    let rig = Rig::start(setup);
    // One event that is larger than a reader may lag behind.
    let many = json!({"workload": "embedding", "inputs": vec!["some text"; 64]});
    assert_eq!(names(&rig.client.run(&many.to_string())).last(), Some(&"end"));
    let body = json!({"workload": "embedding", "inputs": ["a beginning", "an end", "a beginning"]});
    let mut stream = rig.client.open(&body.to_string());
    let id = stream.until("queued").data["task_id"].as_str().unwrap().to_owned();
    let found = stream.until("result").data;
    let vectors = found["embeddings"].as_array().unwrap();
    assert_eq!((vectors.len(), &vectors[0]), (3, &vectors[2]));
    assert_ne!(vectors[0], vectors[1]);
    let end = stream.until("end").data;
    assert!(0 < end["tokens_in"].as_u64().unwrap(), "{end}");
    let task = rig.client.json(&format!("/v1/tasks/{id}"));
    assert_eq!((&task["result"], &task["state"]), (&found, &json!("completed")));
    assert_eq!(task.get("text"), None);
    assert_eq!(rig.client.json("/v1/models")["models"][0]["workloads"], json!(["embedding"]));
    rig.change(|pool| pool.workload = Workload::Rerank);
    crate::rig::wait_until("the model is known as a reranker", || {
        rig.client.json("/v1/models")["models"][0]["workloads"] == json!(["rerank"])
    });
    let documents = ["x", "to be found", "found"];
    let body = json!({"workload": "rerank", "query": "to found", "documents": documents});
    let mut stream = rig.client.open(&body.to_string());
    let scores = stream.until("result").data["scores"].clone();
    let score = |it: usize| scores[it].as_f64().unwrap();
    assert!(score(0) < score(2) && score(2) < score(1), "{scores}");
    stream.until("end");
}

// OC-CORE-1032
#[test]
fn a_strict_answer_that_has_begun_goes_on_nowhere_else() {
    let end = |determinism: &str| {
        let rig = self::rig(&[Engine::Llamacpp, Engine::Llamacpp], |pools| {
            for pool in pools {
                let recipe = "a recipe".into();
                pool.determinism = pool_api::Determinism::Proved { recipe };
            }
        });
        let body = json!({"prompt": "[[sim:decode_us=20000]]", "max_tokens": 60,
            "determinism": determinism});
        let mut stream = rig.client.open(&body.to_string());
        assert_eq!(stream.until("started").data["pool_id"], "p0");
        stream.until("token");
        // The engine under it is another one now.
        rig.change(|pool| pool.replicas[0].incarnation = 2);
        let mut names = Vec::new();
        while let Some(event) = stream.next() {
            if ["resumed", "end", "error"].contains(&event.name.as_str()) {
                names.push(event.name);
            }
        }
        names
    };
    // No pool at all is no matter of determinism.
    let rig = rig(&[Engine::Llamacpp], |_| {});
    let body = json!({"prompt": "a", "determinism": "strict",
        "placement": {"avoid_pool_ids": ["p0"]}});
    let refused = rig.client.post("/v1/tasks", &body.to_string(), &[]);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("REPLICA_EXHAUSTED")));
    assert_eq!(end("best_effort"), ["resumed", "end"]);
    assert_eq!(end("strict"), ["error"]);
}

// ORCH-3058
#[test]
fn a_profile_of_the_operators_is_used_and_another_refused() {
    let config = "sampler_profiles: [{id: plain-1, temperature: 0, min_p: 0}]";
    let engines = vec![Engine::Tgi];
    let rig = Rig::start(Setup { config, slots: vec![1], engines, ..Setup::default() });
    let body = json!({"prompt": "a", "max_tokens": 2, "sampler_profile_version": "plain-1"});
    let started = rig.client.open(&body.to_string()).until("started").data;
    // `v1` would want min_p, which TGI does not have.
    assert_eq!(started.get("settings_left_out"), None, "{started}");
    let body = json!({"prompt": "a", "sampler_profile_version": "v2"});
    let answer = rig.client.post("/v1/tasks", &body.to_string(), &[]);
    let detail = &answer.json()["details"][0];
    assert_eq!((answer.status, &detail["expected"]), (400, &json!("v1, plain-1")), "{detail}");
    let told = &rig.client.json("/v1/capabilities")["sampler_profiles"];
    assert_eq!(*told, json!(["v1", "plain-1"]));
}

// ORCH-4003, ORCH-3058
#[test]
fn a_resumed_answer_names_the_penalties_that_its_engine_begins_anew() {
    let resumed = |engine: Engine, sampling: serde_json::Value| {
        // Triton does not tell when a slot is free.
        let config = "release_timeout_ms: 50";
        let (slots, engines) = (vec![1], vec![engine]);
        let rig = Rig::start(Setup { config, slots, engines, ..Setup::default() });
        let prompt = "[[sim:eof_after=3]]";
        let body = json!({"prompt": prompt, "max_tokens": 8, "sampling": sampling});
        let data = rig.client.open(&body.to_string()).until("resumed").data;
        data.get("settings_restarted").cloned()
    };
    let penalties = json!({"presence_penalty": 0.5, "repeat_penalty": 1.1});
    assert_eq!(resumed(Engine::Vllm, penalties.clone()), Some(json!(["presence_penalty"])));
    assert_eq!(resumed(triton(), penalties.clone()), Some(json!(["presence_penalty"])));
    assert_eq!(resumed(Engine::Vllm, json!({})), None);
    assert_eq!(resumed(Engine::Llamacpp, penalties), None);
}
