//! TGI's dialect, against what was recorded from 3.3.6.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use engine_sim::SimProcess;
use serde_json::{Value, json};

use crate::every_fault::Dialect;
use crate::wire::{Answer, JSON, ask, begin, connect, eventually, get, post, read_until, send};

const NAME: &[&str] = &["--dialect", "tgi", "--model-id", "tiny"];

fn sim(args: &[&str]) -> SimProcess {
    SimProcess::spawn(NAME.iter().chain(args))
}

fn inputs(prompt: &str, max_new_tokens: u32) -> Value {
    json!({ "inputs": prompt, "parameters": { "max_new_tokens": max_new_tokens } })
}

fn detailed(prompt: &str, max_new_tokens: u32) -> Value {
    let mut body = inputs(prompt, max_new_tokens);
    body["parameters"]["details"] = json!(true);
    body
}

fn with(name: &str, value: Value) -> Value {
    let mut body = inputs("x", 9);
    body["parameters"][name] = value;
    body
}

fn stream(sim: &SimProcess, body: &Value) -> Answer {
    post(sim, "/generate_stream", body)
}

/// A stream that has its headers and, for as long as anybody waits, no token.
fn hold(sim: &SimProcess) -> TcpStream {
    let mut socket = begin(sim, "/generate_stream", &inputs("[[sim:decode_us=3600000000]]", 5));
    read_until(&mut socket, "\r\n\r\n");
    socket
}

#[test]
fn a_stream_is_framed_as_recorded() {
    let sim = sim(&[]);
    let mut socket = begin(&sim, "/generate_stream", &detailed("ROMEO:", 2));
    let mut raw = String::new();
    socket.read_to_string(&mut raw).unwrap();
    let first = r#"data: {"index":1,"token":{"id":1000,"text":" 0","logprob":-1.0,"special":false},"generated_text":null,"details":null}"#;
    let last = r#"data: {"index":2,"token":{"id":1001,"text":" 1","logprob":-1.0,"special":false},"generated_text":" 0 1","details":{"finish_reason":"length","generated_tokens":2,"seed":null,"input_length":3}}"#;
    let expected = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
         x-compute-type: gpu+optimized\r\nx-compute-characters: 6\r\nx-accel-buffering: no\r\n\
         vary: origin, access-control-request-method, access-control-request-headers\r\n\
         access-control-allow-origin: *\r\ntransfer-encoding: chunked\r\n\r\n\
         {:X}\r\n{first}\n\n\r\n{:X}\r\n{last}\n\n\r\n0\r\n\r\n",
        first.len() + 2,
        last.len() + 2,
    );
    assert_eq!(raw, expected);
}

#[test]
fn details_are_only_there_when_asked_for() {
    let sim = sim(&[]);
    let last = stream(&sim, &inputs("x", 1)).events().pop().unwrap();
    assert_eq!((&last["generated_text"], &last["details"]), (&json!(" 0"), &Value::Null));
    let whole = post(&sim, "/generate", &detailed("ROMEO:", 2));
    assert_eq!(
        whole.body,
        r#"{"generated_text":" 0 1","details":{"finish_reason":"length","generated_tokens":2,"seed":null,"prefill":[],"tokens":[{"id":1000,"text":" 0","logprob":-1.0,"special":false},{"id":1001,"text":" 1","logprob":-1.0,"special":false}]}}"#
    );
    assert!(whole.head.contains("x-prompt-tokens: 3\r\nx-generated-tokens: 2"));
    let plain = post(&sim, "/generate", &inputs("x", 1));
    assert_eq!(plain.body, r#"{"generated_text":" 0"}"#);
}

#[test]
fn a_stop_sequence_stays_in_the_text_and_wants_the_end_of_a_token() {
    let sim = sim(&[]);
    let stopped = |stop: &str| {
        let mut body = detailed("x", 9);
        body["parameters"]["stop"] = json!([stop]);
        let last = stream(&sim, &body).events().pop().unwrap();
        (last["generated_text"].clone(), last["details"]["finish_reason"].clone())
    };
    assert_eq!(stopped("2 3"), (json!(" 0 1 2 3"), json!("stop_sequence")));
    // It is inside the text, but no token ends in it.
    assert_eq!(stopped("2 "), (json!(" 0 1 2 3 4 5 6 7 8"), json!("length")));
}

#[test]
fn the_end_of_text_is_a_special_token() {
    let sim = sim(&[]);
    let last = stream(&sim, &detailed("[[sim:tokens=2]]", 9)).events().pop().unwrap();
    assert_eq!(
        last["token"],
        json!({ "id": 2, "text": "<|end|>", "logprob": -1.0, "special": true })
    );
    assert_eq!(last["generated_text"], " 0 1");
    assert_eq!(last["details"]["finish_reason"], "eos_token");
    assert_eq!(last["details"]["generated_tokens"], 3);
}

#[test]
fn parameters_are_refused_in_two_ways() {
    let sim = sim(&[]);
    for (body, message) in [
        (with("top_p", json!(1.0)), "`top_p` must be > 0.0 and < 1.0"),
        (with("temperature", json!(0.0)), "`temperature` must be strictly positive"),
        (with("top_k", json!(0)), "`top_k` must be strictly positive"),
        (
            with("stop", json!(["a", "b", "c", "d", "e"])),
            "`stop` supports up to 4 stop sequences. Given: 5",
        ),
        (json!({ "inputs": "" }), "`inputs` cannot be empty"),
        (
            with("grammar", json!({ "type": "json", "value": {} })),
            "grammar is not valid: Grammar must have a 'properties' field",
        ),
    ] {
        let json =
            format!(r#"{{"error":"Input validation error: {message}","error_type":"validation"}}"#);
        let whole = post(&sim, "/generate", &body);
        assert_eq!((whole.status, &whole.body), (422, &json));
        let streamed = stream(&sim, &body);
        assert_eq!((streamed.status, streamed.body), (200, format!("data: {json}\n\n")));
    }
    assert_eq!(post(&sim, "/generate", &with("min_p", json!(0.1))).status, 200);
}

#[test]
fn the_context_is_a_limit_in_two_ways() {
    let sim = sim(&["--max-input-tokens", "200", "--max-total-tokens", "1020"]);
    let long = stream(&sim, &inputs(&"word".repeat(802), 1));
    assert_eq!(
        long.body,
        "data: {\"error\":\"Input validation error: `inputs` must have less than 200 tokens. Given: 803\",\"error_type\":\"validation\"}\n\n"
    );
    let total = post(&sim, "/generate", &inputs("x", 1020));
    assert_eq!(
        (total.status, total.body.as_str()),
        (
            422,
            r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1020. Given: 2 `inputs` tokens and 1020 `max_new_tokens`","error_type":"validation"}"#
        )
    );
    // Without a limit the rest of the budget is used.
    let rest =
        post(&sim, "/generate", &json!({ "inputs": "x", "parameters": { "details": true } }));
    assert_eq!(rest.json()["details"]["generated_tokens"], 1018);
}

#[test]
fn the_framework_refuses_in_plain_text() {
    let sim = sim(&[]);
    let refused = |extra: &str, body: &str| {
        let answer = ask(&sim, "POST", "/generate_stream", extra, body);
        assert!(answer.head.contains("content-type: text/plain; charset=utf-8"));
        (answer.status, answer.body)
    };
    assert_eq!(
        refused(JSON, r#"{"inputs":"x","parameters":{"max_new_tokens":"abc"}}"#),
        (422, "Failed to deserialize the JSON body into the target type: parameters.max_new_tokens: invalid type: string \"abc\", expected u32 at line 1 column 50".into())
    );
    assert_eq!(
        refused(JSON, "{b"),
        (
            400,
            "Failed to parse the request body as JSON: key must be a string at line 1 column 2"
                .into()
        )
    );
    assert_eq!(
        refused("", "{}"),
        (415, "Expected request with `Content-Type: application/json`".into())
    );
    for (answer, status) in [(get(&sim, "/nothing"), 404), (get(&sim, "/generate"), 405)] {
        assert_eq!((answer.status, answer.body.as_str()), (status, ""));
    }
}

#[test]
fn only_what_is_posted_wants_the_key() {
    let sim = sim(&["--api-key", "k1"]);
    for path in ["/generate", "/generate_stream", "/tokenize"] {
        let refused = post(&sim, path, &inputs("x", 1));
        assert_eq!((refused.status, refused.body.as_str()), (401, ""), "{path}");
    }
    let extra = format!("{JSON}Authorization: Bearer k1\r\n");
    let body = inputs("x", 1).to_string();
    assert_eq!(ask(&sim, "POST", "/generate", &extra, &body).status, 200);
    for path in ["/health", "/info", "/metrics", "/v1/models"] {
        assert_eq!(get(&sim, path).status, 200, "{path}");
    }
}

#[test]
fn a_request_too_many_is_overload() {
    let sim = sim(&["--max-concurrent-requests", "2", "--max-batch-size", "1"]);
    let (running, waiting) = (hold(&sim), hold(&sim));
    eventually("one waits", || get(&sim, "/metrics").body.contains("tgi_queue_size 1\n"));
    let json = r#"{"error":"Model is overloaded","error_type":"overloaded"}"#;
    let whole = post(&sim, "/generate", &inputs("x", 1));
    assert_eq!((whole.status, whole.body.as_str()), (429, json));
    let streamed = stream(&sim, &inputs("x", 1));
    assert_eq!((streamed.status, streamed.body), (200, format!("data: {json}\n\n")));
    drop(waiting);
    drop(running);
    let dropped = "tgi_request_failure{err=\"dropped\"} 2\n";
    eventually("both are forgotten", || get(&sim, "/metrics").body.contains(dropped));
    assert_eq!(stream(&sim, &inputs("x", 2)).events().len(), 2);
}

#[test]
fn silence_is_filled_with_comments() {
    let sim =
        sim(&["--keep-alive-ms", "5", "--max-concurrent-requests", "2", "--max-batch-size", "1"]);
    let mut running = hold(&sim);
    read_until(&mut running, "3\r\n:\n\n\r\n3\r\n:\n\n\r\n");
    let mut waiting = hold(&sim);
    read_until(&mut waiting, "3\r\n:\n\n\r\n3\r\n:\n\n\r\n");
}

#[test]
fn health_fails_and_hangs_on_demand() {
    let sim = sim(&[]);
    let health = get(&sim, "/health");
    assert_eq!((health.status, health.body.as_str()), (200, ""));
    post(&sim, "/sim/fault", &json!({ "unready": true }));
    let health = get(&sim, "/health");
    assert_eq!(
        (health.status, health.body.as_str()),
        (503, r#"{"error":"unhealthy","error_type":"healthcheck"}"#)
    );
    assert_eq!(post(&sim, "/generate", &inputs("x", 1)).status, 424);
    post(&sim, "/sim/fault", &json!({ "unready": false, "health_hangs": true }));
    let mut hung = connect(&sim);
    send(&mut hung, "GET", "/health", "", "");
    // The same worker has answered this by the time the next answer is there.
    assert_eq!(get(&sim, "/info").status, 200);
    hung.set_nonblocking(true).unwrap();
    assert_eq!(hung.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn sigterm_drains() {
    let mut sim = sim(&[]);
    let mut socket = begin(&sim, "/generate_stream", &inputs("[[sim:decode_us=20000]]", 9));
    read_until(&mut socket, "\"index\":1,");
    crate::faults::terminate(&sim);
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"generated_text\":\" 0 1 2 3 4 5 6 7 8\""), "{rest}");
    assert!(sim.wait().unwrap().success());
}

#[test]
fn the_limits_are_told() {
    let sim = sim(&[
        "--max-concurrent-requests",
        "2",
        "--max-input-tokens",
        "200",
        "--max-total-tokens",
        "1020",
    ]);
    let info = get(&sim, "/info").json();
    for (key, value) in [
        ("model_id", json!("tiny")),
        ("max_concurrent_requests", json!(2)),
        ("max_input_tokens", json!(200)),
        ("max_total_tokens", json!(1020)),
        ("version", json!("3.3.6-dev0")),
    ] {
        assert_eq!(info[key], value, "{key}");
    }
    assert_eq!(get(&sim, "/v1/models").json()["data"][0]["id"], "tiny");
    let tokens = post(&sim, "/tokenize", &json!({ "inputs": "ROMEO:" })).json();
    assert_eq!(tokens[1], json!({ "id": 310, "text": "ROME", "start": 0, "stop": 4 }));
    assert_eq!(tokens.as_array().unwrap().len(), 3);
    assert_eq!(get(&sim, "/metrics").body, "");
    let schema = json!({ "properties": { "n": { "type": "number" } } });
    let grammar = with("grammar", json!({ "type": "json", "value": schema }));
    assert_eq!(post(&sim, "/generate", &grammar).json()["generated_text"], r#"{"n":1}"#);
}

#[test]
fn every_fault_can_be_asked_for() {
    Dialect {
        args: NAME,
        path: "/generate_stream",
        body: |prompt| inputs(prompt, 5),
        token: "\"logprob\":-1.0",
        last: &["\"generated_text\":\""],
        error: "data: {\"error\":\"Request failed during generation: Server error: transport error\",\"error_type\":\"generation\"}\n\n",
        done: false,
        watches: true,
    }
    .check_all();
}

#[test]
fn flags_are_those_of_the_real_engine() {
    sim(&["--num-shard=2", "--quantize", "awq", "--max-batch-prefill-tokens", "4096"]);
    assert!(SimProcess::try_spawn(["--dialect", "tgi", "--nope"], &[]).is_err());
}
