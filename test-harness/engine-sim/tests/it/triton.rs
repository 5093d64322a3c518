//! Triton's dialect: the server as it was recorded, the backends as their sources say.

use std::net::TcpStream;

use engine_sim::SimProcess;
use serde_json::{Value, json};

use crate::every_fault::Dialect;
use crate::wire::{Answer, ask, begin, connect_to, eventually, get, post, read_until, send};

const STREAM: &str = "/v2/models/tiny/generate_stream";
const WHOLE: &str = "/v2/models/tiny/generate";

fn sim(args: &[&str]) -> SimProcess {
    SimProcess::spawn(["--dialect", "triton"].iter().chain(args))
}

/// A streamed request to the vLLM backend that asks for everything.
fn full(prompt: &str, sampling: &Value) -> Value {
    json!({
        "text_input": prompt, "stream": true, "exclude_input_in_output": true,
        "return_finish_reason": true, "return_num_input_tokens": true,
        "return_num_output_tokens": true, "sampling_parameters": sampling.to_string(),
    })
}

fn five(prompt: &str) -> Value {
    full(prompt, &json!({ "max_tokens": 5 }))
}

/// A stream that has a slot and, for as long as anybody waits, no token.
fn hold(sim: &SimProcess) -> TcpStream {
    begin(sim, STREAM, &five("[[sim:decode_us=3600000000]]"))
}

fn stats(sim: &SimProcess, key: &str) -> Value {
    get(sim, "/sim/stats").json()[key].clone()
}

fn metrics(sim: &SimProcess) -> String {
    let url = sim.metrics_url().unwrap();
    let port = url.strip_prefix("http://127.0.0.1:").unwrap().strip_suffix("/metrics").unwrap();
    let mut socket = connect_to(port.parse().unwrap());
    send(&mut socket, "GET", "/metrics", "Connection: close\r\n", "");
    let mut raw = Vec::new();
    std::io::Read::read_to_end(&mut socket, &mut raw).unwrap();
    crate::wire::decode(&raw).body
}

fn texts(answer: &Answer) -> Vec<String> {
    answer.events().iter().map(|it| it["text_output"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_stream_of_the_vllm_backend_is_deltas() {
    let sim = sim(&[]);
    let mut body = full("Hello", &json!({ "max_tokens": 2, "temperature": 0 }));
    body["id"] = json!("r1");
    let answer = post(&sim, STREAM, &body);
    assert_eq!(
        answer.head,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked"
    );
    let expected = [
        r#"{"finish_reason":"None","id":"r1","model_name":"tiny","model_version":"1","num_input_tokens":3,"num_output_tokens":1,"text_output":" 0"}"#,
        r#"{"finish_reason":"length","id":"r1","model_name":"tiny","model_version":"1","num_input_tokens":3,"num_output_tokens":1,"text_output":" 1"}"#,
    ];
    assert_eq!(answer.body, expected.map(|event| format!("data: {event}\n\n")).concat());
    let stopped = post(&sim, STREAM, &full("x", &json!({ "max_tokens": 9, "stop": ["2"] })));
    assert_eq!(texts(&stopped).concat(), " 0 1 ");
    assert_eq!(stopped.events().pop().unwrap()["finish_reason"], "stop");
}

#[test]
fn a_single_response_repeats_the_prompt_unless_told_otherwise() {
    let sim = sim(&[]);
    let sampling = json!({ "max_tokens": 2 }).to_string();
    let body = json!({ "text_input": "Hello", "sampling_parameters": sampling });
    let whole = post(&sim, WHOLE, &body);
    assert_eq!(
        whole.body,
        r#"{"model_name":"tiny","model_version":"1","text_output":"Hello 0 1"}"#
    );
    // The same request as a stream is one event.
    assert_eq!(texts(&post(&sim, STREAM, &body)), ["Hello 0 1"]);
    // And a stream is nothing for the other route, which says so with 200.
    let many = post(&sim, WHOLE, &full("x", &json!({ "max_tokens": 2 })));
    assert_eq!(many.status, 200);
    assert!(
        many.body.starts_with(r#"{"error":"generate expects model to produce exactly 1 response"#)
    );
}

#[test]
fn tensorrt_llm_repeats_itself_and_the_ensemble_does_not() {
    let cumulative = sim(&["--backend", "trtllm"]);
    let body = json!({
        "text_input": "x", "streaming": true, "sampling_param_max_tokens": 3,
        "sampling_param_stop": ["zzz"], "return_finish_reason": true,
    });
    let answer = post(&cumulative, STREAM, &body);
    // What could begin a stop string is held back.
    assert_eq!(texts(&answer).pop().unwrap(), " 0 1 2");
    assert_eq!(answer.events().pop().unwrap()["finish_reason"], "length");
    let body = json!({ "text_input": "x", "streaming": true, "sampling_param_max_tokens": 3 });
    assert_eq!(texts(&post(&cumulative, STREAM, &body)), [" 0", " 0 1", " 0 1 2"]);

    let ensemble = sim(&["--backend", "ensemble", "--load-model", "ensemble"]);
    let body = json!({ "text_input": "x", "stream": true, "max_tokens": 1 });
    let answer = post(&ensemble, "/v2/models/ensemble/versions/1/generate_stream", &body);
    assert_eq!(
        answer.body,
        "data: {\"batch_index\":0,\"context_logits\":0.0,\"cum_log_probs\":0.0,\"generation_logits\":0.0,\"model_name\":\"ensemble\",\"model_version\":\"1\",\"output_log_probs\":[0.0],\"text_output\":\" 0\"}\n\n"
    );

    let python = sim(&["--backend", "python"]);
    let body = json!({ "text_input": "x", "stream": true, "max_tokens": 2 });
    let answer = post(&python, STREAM, &body);
    assert_eq!(texts(&answer), [" 0", " 1"]);
    let none = json!({ "text_input": "[[sim:tokens=0]]", "stream": true, "max_tokens": 2 });
    let answer = post(&python, STREAM, &none);
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

#[test]
fn tensorrt_llm_cancels_by_id() {
    let sim = sim(&["--backend", "trtllm"]);
    let prompt = "[[sim:decode_us=3600000000]]";
    let body = json!({ "id": "r1", "text_input": prompt, "streaming": true });
    let mut running = begin(&sim, STREAM, &body);
    eventually("it runs", || stats(&sim, "slots_busy") == 1);
    let stop = json!({ "id": "r1", "text_input": "", "streaming": true, "stop": true });
    assert_eq!(post(&sim, STREAM, &stop).status, 200);
    let raw = read_until(&mut running, "\r\n0\r\n\r\n");
    assert!(
        raw.starts_with("HTTP/1.1 400 ")
            && raw.contains("data: {\"error\":\"Request cancelled by client\"}"),
        "{raw}"
    );
}

#[test]
fn the_first_event_decides_the_status() {
    let sim = sim(&["--max-model-len", "256"]);
    let first = post(&sim, STREAM, &five("[[sim:error_after=0]]"));
    assert_eq!(first.status, 400);
    assert!(first.head.contains("Content-Type: text/event-stream"));
    let event = "data: {\"error\":\"Error generating stream: failure on demand\"}\n\n";
    assert_eq!(first.body, event);
    let later = post(&sim, STREAM, &five("[[sim:error_after=1]]"));
    assert_eq!(later.status, 200);
    assert!(later.body.ends_with(event));

    let long = post(&sim, STREAM, &five(&"word".repeat(299)));
    assert_eq!(long.status, 400);
    assert!(long.body.contains("(length 300) is longer than the maximum model length of 256"));
    let mut broken = five("x");
    broken["sampling_parameters"] = json!("{");
    assert!(
        post(&sim, STREAM, &broken)
            .body
            .starts_with("data: {\"error\":\"Error generating stream: ")
    );
    let mut repeating = five("x");
    repeating["exclude_input_in_output"] = json!(false);
    assert_eq!(post(&sim, STREAM, &repeating).status, 400);
}

#[test]
fn bodies_are_refused_as_recorded() {
    let sim = sim(&[]);
    let refused = |key: &str, value: Value| {
        let mut body = five("x");
        body[key] = value;
        let answer = post(&sim, STREAM, &body);
        assert!(answer.head.contains("application/json"));
        (answer.status, answer.body)
    };
    let parameter = r#"{"error":"parameter 'stop' has invalid type. It should be either 'int', 'bool', or 'string'."}"#;
    assert_eq!(refused("stop", json!(["a"])), (400, parameter.to_owned()));
    assert_eq!(refused("parameters", json!({ "stop": {} })), (400, parameter.to_owned()));
    let text = r#"{"error":"Unable to parse 'data': attempt to access JSON non-string as string"}"#;
    assert_eq!(refused("text_input", Value::Null), (500, text.to_owned()));
    assert_eq!(refused("stream", json!(1)).0, 500);
    let broken = ask(&sim, "POST", STREAM, "", "{b");
    assert_eq!(broken.status, 500);
    assert!(broken.body.contains("failed to parse the request JSON buffer"));
    assert_eq!(post(&sim, STREAM, &json!({})).status, 400);
    let unknown = post(&sim, "/v2/models/nope/generate_stream", &five("x"));
    assert_eq!(
        (unknown.status, unknown.body.as_str()),
        (404, r#"{"error":"Request for unknown model: 'nope' is not found"}"#)
    );
    assert_eq!(get(&sim, STREAM).status, 405);
}

#[test]
fn a_full_queue_is_unavailable() {
    let sim = sim(&["--max-num-seqs", "1", "--max-queue-size", "1"]);
    let running = hold(&sim);
    eventually("it runs", || stats(&sim, "slots_busy") == 1);
    let waiting = hold(&sim);
    eventually("it waits", || stats(&sim, "deferred") == 1);
    assert!(
        metrics(&sim)
            .contains("nv_inference_pending_request_count{model=\"tiny\",version=\"1\"} 1\n")
    );
    let refused = post(&sim, STREAM, &five("x"));
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("Exceeds maximum queue size"));
    drop((running, waiting));
}

#[test]
fn a_client_that_goes_is_noticed_by_the_next_write() {
    let sim = sim(&["--max-num-seqs", "1"]);
    let mut socket =
        begin(&sim, STREAM, &full("[[sim:decode_us=10000]]", &json!({ "max_tokens": 8000 })));
    read_until(&mut socket, "\" 0\"");
    drop(socket);
    eventually("the slot is free", || stats(&sim, "slots_busy") == 0);
    assert_eq!(stats(&sim, "disconnects_seen"), 1);
}

#[test]
fn generate_runs_to_its_end_without_its_client() {
    let sim = sim(&["--max-num-seqs", "1"]);
    let sampling = json!({ "max_tokens": 5 }).to_string();
    let body = json!({
        "text_input": "[[sim:decode_us=40000]]", "sampling_parameters": sampling,
    });
    let socket = begin(&sim, WHOLE, &body);
    let has_run = || stats(&sim, "tokens_sent") == 5;
    eventually("it runs", || stats(&sim, "slots_busy") == 1 || has_run());
    drop(socket);
    eventually("it has run", has_run);
}

#[test]
fn a_model_is_loaded_and_unloaded_by_request() {
    let sim = sim(&["--model-control-mode=explicit"]);
    let not_ready = get(&sim, "/v2/health/ready");
    assert_eq!((not_ready.status, not_ready.body.as_str()), (400, ""));
    assert_eq!(get(&sim, "/v2/health/live").status, 200);
    let gone = post(&sim, STREAM, &five("x"));
    assert_eq!(
        (gone.status, gone.body.as_str()),
        (404, r#"{"error":"Request for unknown model: 'tiny' has no available versions"}"#)
    );
    assert_eq!(post(&sim, "/v2/repository/models/tiny/load", &json!({})).status, 200);
    assert_eq!(get(&sim, "/v2/models/tiny/ready").status, 200);
    let index = post(&sim, "/v2/repository/index", &json!({})).json();
    assert_eq!(index, json!([{ "name": "tiny", "version": "1", "state": "READY" }]));
    assert_eq!(post(&sim, STREAM, &five("x")).status, 200);
    assert_eq!(post(&sim, "/v2/repository/models/tiny/unload", &json!({})).status, 200);
    assert_eq!(get(&sim, "/v2/models/tiny/ready").status, 400);
    assert_eq!(post(&sim, "/v2/repository/models/nope/load", &json!({})).status, 500);

    let fixed = self::sim(&[]);
    assert_eq!(post(&fixed, "/v2/repository/models/tiny/unload", &json!({})).status, 503);
    assert_eq!(get(&fixed, "/v2").json()["version"], "2.51.0");
    assert_eq!(get(&fixed, "/v2/models/tiny").json()["inputs"][0]["name"], "text_input");
    let config = get(&fixed, "/v2/models/tiny/config").json();
    assert_eq!(config["model_transaction_policy"]["decoupled"], true);
    assert_eq!(get(&fixed, "/v2/models/nope").status, 404);
}

#[test]
fn metrics_have_a_port_of_their_own() {
    let sim = sim(&[]);
    post(&sim, STREAM, &five("x"));
    assert!(
        metrics(&sim).contains("nv_inference_request_success{model=\"tiny\",version=\"1\"} 1\n")
    );
    assert_eq!(get(&sim, "/metrics").status, 404);
    assert_eq!(SimProcess::spawn::<&str>([]).metrics_url(), None);
}

#[test]
fn every_fault_can_be_asked_for() {
    Dialect {
        args: &["--dialect", "triton"],
        path: STREAM,
        body: five,
        token: "\"text_output\":",
        last: &["\"finish_reason\":\"length\"", "\"finish_reason\":\"stop\""],
        error: "data: {\"error\":\"Error generating stream: failure on demand\"}\n\n",
        done: false,
        watches: false,
    }
    .check_all();
}

#[test]
fn flags_are_those_of_the_real_engine() {
    sim(&["--model-repository=/models", "--strict-readiness=true", "--log-verbose=1"]);
    assert!(SimProcess::try_spawn(["--dialect", "triton", "--nope"], &[]).is_err());
}
