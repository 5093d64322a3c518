//! Routes, bodies and framing.

use engine_sim::SimProcess;
use serde_json::{Value, json};

use crate::wire::{ask, connect, get, post, read_until, send, stream};

fn sim(args: &[&str]) -> SimProcess {
    SimProcess::spawn(args)
}

#[test]
fn a_stream_is_framed_as_recorded() {
    let sim = sim(&["--alias", "tiny", "-np", "2"]);
    let answer = stream(&sim, "hello", 2);
    assert_eq!(
        answer.head,
        "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n\
         X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
         Keep-Alive: timeout=5, max=100"
    );
    let (first, rest) = answer.body.split_once("\n\n").unwrap();
    assert_eq!(
        first,
        r#"data: {"index":0,"content":" 0","tokens":[1000],"stop":false,"id_slot":-1,"tokens_predicted":1,"tokens_evaluated":3}"#
    );
    assert!(rest.contains(r#","stop_type":"limit","stopping_word":"","tokens_cached":4,"timings":{"cache_n":0,"prompt_n":3,"#));
    let last = answer.events().pop().unwrap();
    assert_eq!(last["stop"], true);
    assert_eq!(last["tokens"], json!([]));
    assert_eq!(last["model"], "tiny");
    assert_eq!(last["prompt"], "<s>hello");
    assert_eq!(last["id_slot"], 0);
    assert_eq!(last["generation_settings"]["temperature"], 0.800000011920929);
}

#[test]
fn tokens_are_numbered_and_a_resumed_prompt_goes_on() {
    let sim = sim(&[]);
    assert_eq!(stream(&sim, "hello", 4).text(), " 0 1 2 3");
    assert_eq!(stream(&sim, "hello 0 1", 2).text(), " 2 3");
    assert_eq!(stream(&sim, "[[sim:utf8=1]] ☃7é", 1).text(), " ☃8é");
    let by_ids = post(&sim, "/completion", &json!({ "prompt": [1, 5, 1003], "n_predict": 2 }));
    assert_eq!(by_ids.json()["content"], " 4 5");
    assert_eq!(by_ids.json()["tokens_evaluated"], 3);
}

#[test]
fn progress_carries_a_made_up_token() {
    let sim = sim(&[]);
    let ask = json!({ "prompt": "hi", "n_predict": 1, "stream": true, "return_progress": true });
    let events = post(&sim, "/completion", &ask).events();
    for (event, processed) in [(&events[0], 0), (&events[1], 2)] {
        assert_eq!(event["tokens"], json!([0]));
        assert_eq!(event["content"], "");
        let progress = &event["prompt_progress"];
        assert_eq!((&progress["total"], &progress["processed"]), (&json!(2), &json!(processed)));
    }
    assert_eq!(events[2]["content"], " 0");
}

#[test]
fn a_stop_sequence_ends_the_text_before_it() {
    let sim = sim(&[]);
    let ask = json!({ "prompt": "x", "n_predict": 9, "stream": true, "stop": ["3 4"] });
    let answer = post(&sim, "/completion", &ask);
    assert_eq!(answer.text(), " 0 1 2 ");
    let last = answer.events().pop().unwrap();
    assert_eq!((&last["stop_type"], &last["stopping_word"]), (&json!("word"), &json!("3 4")));
    assert_eq!(last["tokens_predicted"], 5);
}

#[test]
fn the_end_of_a_stream_names_its_cause() {
    let sim = sim(&["-c", "256", "-np", "1"]);
    let last = |prompt: &str, limit| stream(&sim, prompt, limit).events().pop().unwrap();
    let eos = last("[[sim:tokens=3]]", 9);
    assert_eq!((&eos["stop_type"], &eos["tokens_predicted"]), (&json!("eos"), &json!(3)));
    let zero = last("x", 0);
    assert_eq!((&zero["stop_type"], &zero["tokens_predicted"]), (&json!("limit"), &json!(1)));
    let full = last("x", -1);
    assert_eq!((&full["truncated"], &full["tokens_predicted"]), (&json!(true), &json!(254)));
}

#[test]
fn a_prompt_beyond_the_context_is_refused_with_both_numbers() {
    let sim = sim(&["-c", "128", "-np", "1"]);
    let answer = stream(&sim, &"word".repeat(299), 1);
    assert_eq!(answer.status, 400);
    assert!(answer.head.contains("Connection: close"));
    assert_eq!(
        answer.body,
        r#"{"error":{"code":400,"message":"request (300 tokens) exceeds the available context size (256 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":300,"n_ctx":256}}"#
    );
}

#[test]
fn errors_have_the_recorded_shapes() {
    let sim = sim(&["--no-slots"]);
    let unknown = r#"{"error":{"message":"File Not Found","type":"not_found_error","code":404}}"#;
    assert_eq!(get(&sim, "/nothing").body, unknown);
    assert_eq!(get(&sim, "/completion").body, unknown);
    let no_prompt = r#"{"error":{"code":400,"message":"[json.exception.out_of_range.403] key 'prompt' not found","type":"invalid_request_error"}}"#;
    assert_eq!(post(&sim, "/completion", &json!({})).body, no_prompt);
    let bad_type = post(&sim, "/completion", &json!({ "prompt": "x", "n_predict": "x" }));
    assert_eq!(
        bad_type.body,
        r#"{"error":{"code":400,"message":"Field 'n_predict': [json.exception.type_error.302] type must be number, but is string","type":"invalid_request_error"}}"#
    );
    let bad_token = post(&sim, "/completion", &json!({ "prompt": [-4] }));
    assert!(bad_token.body.contains("Prompt contains invalid tokens"));
    assert_eq!(ask(&sim, "POST", "/completion", "", "{b").status, 500);
    for off in ["/slots", "/metrics"] {
        let answer = get(&sim, off);
        assert_eq!(
            (answer.status, &answer.json()["error"]["type"]),
            (501, &json!("not_supported_error"))
        );
    }
    let typo = stream(&sim, "[[sim:dei_after=1]]", 1);
    assert_eq!(typo.status, 400);
}

#[test]
fn every_route_but_health_wants_the_key() {
    let sim = SimProcess::try_spawn(["--metrics"], &[("LLAMA_API_KEY", "k1,k2")]).unwrap();
    let refusal =
        r#"{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}"#;
    for path in ["/props", "/slots", "/metrics", "/v1/models", "/nothing"] {
        let answer = get(&sim, path);
        assert_eq!((answer.status, answer.body.as_str()), (401, refusal), "{path}");
    }
    assert_eq!(get(&sim, "/health").status, 200);
    assert_eq!(ask(&sim, "GET", "/props", "Authorization: Bearer k2\r\n", "").status, 200);
    assert_eq!(ask(&sim, "GET", "/props", "X-Api-Key: k1\r\n", "").status, 200);
    assert_eq!(ask(&sim, "GET", "/props", "Authorization: Bearer k3\r\n", "").status, 401);
}

#[test]
fn while_loading_every_route_says_so() {
    let sim = sim(&["--load-ms", "3600000"]);
    let loading = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
    for path in ["/health", "/props", "/slots", "/v1/models"] {
        let answer = get(&sim, path);
        assert_eq!((answer.status, answer.body.as_str()), (503, loading), "{path}");
    }
    assert_eq!(stream(&sim, "x", 1).status, 503);
}

#[test]
fn properties_tell_slots_context_and_version() {
    let sim = sim(&["-c", "1024", "-np", "2", "--alias", "m"]);
    let props = get(&sim, "/props").json();
    assert_eq!(props["default_generation_settings"]["n_ctx"], 512);
    assert_eq!(props["total_slots"], 2);
    assert_eq!(props["build_info"], "b1-0c1e570");
    assert_eq!(get(&sim, "/v1/models").json()["data"][0]["id"], "m");
}

#[test]
fn tokenize_agrees_with_the_tokens_evaluated() {
    let sim = sim(&[]);
    for text in ["", "x", "four", "fives", "☃☃☃"] {
        let tokens = post(&sim, "/tokenize", &json!({ "content": text, "add_special": true }));
        let count = tokens.json()["tokens"].as_array().unwrap().len();
        let evaluated = stream(&sim, text, 1).events()[0]["tokens_evaluated"].clone();
        assert_eq!(evaluated, json!(count), "{text:?}");
    }
}

#[test]
fn a_template_is_applied_as_recorded() {
    let sim = sim(&[]);
    let ask = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    let answer = post(&sim, "/apply-template", &ask);
    assert_eq!(answer.body, r#"{"prompt":"<|user|>hi<|end|><|assistant|>"}"#);
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let sim = sim(&[]);
    let mut socket = connect(&sim);
    for _ in 0..3 {
        let body = json!({ "prompt": "x", "n_predict": 1, "stream": true }).to_string();
        send(&mut socket, "POST", "/completion", "", &body);
        read_until(&mut socket, "\r\n0\r\n\r\n");
    }
    // This one and the one that asks.
    assert_eq!(get(&sim, "/sim/stats").json()["connections"], 2);
}

#[test]
fn flags_are_those_of_the_real_engine() {
    let absent = SimProcess::try_spawn(["--no-mmap"], &[]);
    assert!(absent.is_err(), "an unknown flag ends the engine");
    sim(&["-ngl", "all", "--jinja", "--no-ui", "-t", "4", "--sse-ping-interval", "2", "--slots"]);
    let status = std::process::Command::new(engine_sim::binary_path().unwrap())
        .args(["-m", "/nowhere/m.gguf", "--port", "0"])
        .output()
        .unwrap();
    assert_eq!(status.status.code(), Some(1));
    assert!(matches!(get(&sim(&[]), "/health").json(), Value::Object(_)));
}
