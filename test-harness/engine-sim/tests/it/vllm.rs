//! vLLM's dialect, against what was recorded from 0.32.0.

use std::net::TcpStream;

use engine_sim::SimProcess;
use serde_json::{Value, json};

use crate::every_fault::Dialect;
use crate::wire::{Answer, JSON, ask, begin, connect, eventually, get, post, read_until};

const NAME: &[&str] = &["--dialect", "vllm", "--served-model-name", "tiny"];

fn sim(args: &[&str]) -> SimProcess {
    SimProcess::spawn(NAME.iter().chain(args))
}

fn dev_sim(args: &[&str]) -> SimProcess {
    let env = [("VLLM_SERVER_DEV_MODE", "1")];
    SimProcess::try_spawn(NAME.iter().chain(args), &env).unwrap()
}

fn completion(prompt: &str, max_tokens: u32) -> Value {
    json!({ "model": "tiny", "prompt": prompt, "max_tokens": max_tokens, "stream": true })
}

fn complete(sim: &SimProcess, body: &Value) -> Answer {
    post(sim, "/v1/completions", body)
}

/// A stream that has its headers and, for as long as anybody waits, no token.
fn hold(sim: &SimProcess, id: &str) -> TcpStream {
    let mut socket = connect(sim);
    let extra = format!("{JSON}X-Request-Id: {id}\r\nConnection: close\r\n");
    let body = completion("[[sim:decode_us=3600000000]]", 5).to_string();
    crate::wire::send(&mut socket, "POST", "/v1/completions", &extra, &body);
    read_until(&mut socket, "\r\n\r\n");
    socket
}

fn rest_of(mut socket: TcpStream) -> String {
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut socket, &mut rest).unwrap();
    rest
}

fn text(answer: &Answer) -> String {
    let events = answer.events();
    events.iter().filter_map(|it| it["choices"][0]["text"].as_str()).collect()
}

fn metric(sim: &SimProcess, name: &str) -> String {
    let body = get(sim, "/metrics").body;
    let line = body.lines().find(|line| line.starts_with(&format!("vllm:{name}{{")));
    line.unwrap().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_stream_is_framed_as_recorded() {
    let sim = sim(&[]);
    let extra = format!("{JSON}X-Request-Id: req-123\r\n");
    let body = json!({
        "prompt": "ROMEO:", "max_tokens": 2, "stream": true, "return_token_ids": true,
        "stream_options": { "include_usage": true },
    });
    let answer = ask(&sim, "POST", "/v1/completions", &extra, &body.to_string());
    assert_eq!(
        answer.head,
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
         vary: Origin\r\ntransfer-encoding: chunked"
    );
    let created = answer.events()[0]["created"].clone();
    let start = format!(
        r#"data: {{"id":"cmpl-req-123","object":"text_completion","created":{created},"model":"tiny","choices":["#
    );
    let expected = [
        r#"{"index":0,"text":" 0","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":[1,310,140],"token_ids":[1000]}]}"#,
        r#"{"index":0,"text":" 1","logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_token_ids":null,"token_ids":[1001]}]}"#,
        r#"],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2},"system_fingerprint":"vllm-0.32.0-55bf8d20"}"#,
    ];
    let expected = expected.map(|event| format!("{start}{event}\n\n")).concat();
    assert_eq!(answer.body, format!("{expected}data: [DONE]\n\n"));
}

#[test]
fn without_usage_the_last_chunk_has_the_fingerprint() {
    let sim = sim(&[]);
    let answer = complete(&sim, &completion("ROMEO:", 1));
    let recorded = r#""choices":[{"index":0,"text":" 0","logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"system_fingerprint":"vllm-0.32.0-55bf8d20"}

data: [DONE]

"#;
    assert!(answer.body.ends_with(recorded), "{}", answer.body);
    let body = json!({
        "prompt": "x", "stream": true, "max_tokens": 2,
        "stream_options": { "include_usage": true, "continuous_usage_stats": true },
    });
    let events = complete(&sim, &body).events();
    let counts: Vec<_> = events.iter().map(|it| &it["usage"]["completion_tokens"]).collect();
    assert_eq!(counts, [1, 2, 2]);
}

#[test]
fn an_answer_in_one_piece_has_its_usage() {
    let sim = sim(&["--enable-prompt-tokens-details"]);
    let answer = complete(&sim, &json!({ "prompt": "ROMEO:" })).json();
    // 16 is what a request gets that does not say.
    assert_eq!(answer["usage"]["completion_tokens"], 16);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let ids = complete(&sim, &json!({ "prompt": [1, 5, 1003], "max_tokens": 2 })).json();
    assert_eq!(ids["choices"][0]["text"], " 4 5");
    assert_eq!(ids["usage"]["prompt_tokens"], 3);
}

#[test]
fn the_end_of_text_is_a_token_without_text() {
    let sim = sim(&[]);
    let answer = complete(&sim, &completion("[[sim:tokens=2]]", 9));
    assert_eq!(text(&answer), " 0 1");
    let choice = answer.events().pop().unwrap()["choices"][0].clone();
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(""), &json!("stop")));
    assert_eq!(choice["stop_reason"], Value::Null);
}

#[test]
fn a_stop_string_is_the_first_of_the_list_and_cut() {
    let sim = sim(&[]);
    let stopped = |stop: Value, include: bool| {
        let answer = complete(
            &sim,
            &json!({
                "prompt": "x", "max_tokens": 9, "stream": true, "stop": stop,
                "include_stop_str_in_output": include,
            }),
        );
        let choice = answer.events().pop().unwrap()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], "stop");
        (text(&answer), choice["stop_reason"].clone())
    };
    assert_eq!(stopped(json!(["3 4"]), false), (" 0 1 2 ".to_owned(), json!("3 4")));
    assert_eq!(stopped(json!(["3 4"]), true), (" 0 1 2 3 4".to_owned(), json!("3 4")));
    // Both are complete with the same token; the list decides, not the place.
    assert_eq!(stopped(json!(["2", " 2"]), false), (" 0 1 ".to_owned(), json!("2")));
    assert_eq!(stopped(json!(" 0"), false), (String::new(), json!(" 0")));
}

#[test]
fn a_chat_starts_with_the_role() {
    let sim = sim(&[]);
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let body = json!({ "messages": messages, "max_tokens": 2, "stream": true });
    let answer = post(&sim, "/v1/chat/completions", &body);
    let (first, rest) = answer.body.split_once("\n\n").unwrap();
    assert!(first.ends_with(r#""choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}"#));
    assert!(rest.contains(r#""choices":[{"index":0,"delta":{"content":" 0"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#));
    assert!(rest.contains(r#""choices":[{"index":0,"delta":{"content":" 1"},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}],"system_fingerprint":"vllm-0.32.0-55bf8d20"}"#));
    let whole =
        post(&sim, "/v1/chat/completions", &json!({ "messages": messages, "max_tokens": 1 }));
    assert_eq!(whole.json()["choices"][0]["message"]["content"], " 0");
}

#[test]
fn a_schema_is_answered_with_the_least_that_it_admits() {
    let sim = sim(&[]);
    let schema = json!({ "type": "object", "properties": {
        "name": { "type": "string" }, "n": { "type": "integer" }, "ok": { "type": "boolean" },
        "list": { "type": "array" },
        "in": { "type": "object", "properties": { "kind": { "enum": ["a", "b"] } } },
    } });
    let expected = json!({ "name": "s", "n": 1, "ok": true, "list": [], "in": { "kind": "a" } });
    for (key, value) in [
        ("structured_outputs", json!({ "json": schema })),
        ("response_format", json!({ "type": "json_schema", "json_schema": { "schema": schema } })),
    ] {
        let mut body = completion("x", 99);
        body[key] = value;
        let answer = complete(&sim, &body);
        assert!(answer.events().len() > 5);
        assert_eq!(serde_json::from_str::<Value>(&text(&answer)).unwrap(), expected, "{key}");
        assert_eq!(answer.events().pop().unwrap()["choices"][0]["finish_reason"], "stop");
    }
    let mut bad = completion("x", 9);
    bad["structured_outputs"] = json!({ "regex": "[[bad]]" });
    assert_eq!(complete(&sim, &bad).status, 400);
}

#[test]
fn errors_have_the_recorded_shapes() {
    let sim = sim(&["--max-model-len", "256"]);
    let refused = |body: Value| {
        let answer = complete(&sim, &body);
        (answer.status, answer.body)
    };
    assert_eq!(
        refused(json!({ "prompt": "x", "model": "nope" })),
        (404, r#"{"error":{"message":"The model `nope` does not exist. Valid aliases: tiny.","type":"NotFoundError","param":"model","code":404}}"#.into())
    );
    assert_eq!(
        refused(json!({ "prompt": "x", "temperature": -1 })),
        (400, r#"{"error":{"message":"temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)","type":"BadRequestError","param":"temperature","code":400}}"#.into())
    );
    assert_eq!(
        refused(json!({ "prompt": "x", "max_tokens": "abc" })),
        (400, r#"{"error":{"message":"1 validation error:\n  {'type': 'int_parsing', 'loc': 'body.max_tokens', 'msg': 'Input should be a valid integer, unable to parse string as an integer', 'input': 'abc'}","type":"Bad Request","param":"body.max_tokens","code":400}}"#.into())
    );
    assert_eq!(
        refused(json!({ "prompt": "x", "max_tokens": 0 })),
        (400, r#"{"error":{"message":"max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)","type":"BadRequestError","param":"max_tokens","code":400}}"#.into())
    );
    assert_eq!(
        refused(json!({ "prompt": [-4] })),
        (400, r#"{"error":{"message":"Token id -4 is out of vocabulary","type":"BadRequestError","param":null,"code":400}}"#.into())
    );
    let untyped = ask(&sim, "POST", "/v1/completions", "", "{}");
    assert_eq!(
        untyped.body,
        r#"{"error":{"message":"1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed","type":"Bad Request","param":null,"code":400}}"#
    );
    let broken = ask(&sim, "POST", "/v1/completions", JSON, "{b");
    assert!(broken.body.contains("'type': 'json_invalid'"));
    assert_eq!(get(&sim, "/nothing").body, r#"{"detail":"Not Found"}"#);
    assert_eq!(get(&sim, "/sleep").status, 404);
    assert_eq!(post(&sim, "/v1/embeddings", &json!({})).body, r#"{"detail":"Not Found"}"#);
    let method = get(&sim, "/v1/completions");
    assert_eq!((method.status, method.body.as_str()), (405, r#"{"detail":"Method Not Allowed"}"#));
    assert!(method.head.contains("allow: POST"));
    assert_eq!(refused(json!({ "prompt": "x", "min_o": 1 })).0, 200);
}

#[test]
fn the_context_is_a_limit_in_three_ways() {
    let sim = sim(&["--max-model-len", "256"]);
    let ids = complete(&sim, &json!({ "prompt": vec![5; 300] }));
    assert_eq!(
        (ids.status, ids.body.as_str()),
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 256 tokens. However, your prompt contains 300 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=300)","type":"BadRequestError","param":"input_tokens","code":400}}"#
        )
    );
    let text = complete(&sim, &json!({ "prompt": "x".repeat(24_000) }));
    assert_eq!(
        text.body,
        r#"{"error":{"message":"This model's maximum context length is 256 tokens. However, your prompt contains 24000 characters (more than 3584 characters, which is the upper bound for 256 input tokens). Please reduce the length of the input prompt. (parameter=input_text, value=24000)","type":"BadRequestError","param":"input_text","code":400}}"#
    );
    // Recorded: what does not fit is cut off without a word.
    let capped = complete(&sim, &json!({ "prompt": vec![5; 250], "max_tokens": 30 })).json();
    assert_eq!(capped["usage"]["completion_tokens"], 6);
    assert_eq!(capped["choices"][0]["finish_reason"], "length");
}

#[test]
fn only_the_api_wants_the_key() {
    let env = [("VLLM_API_KEY", "k1")];
    let sim = SimProcess::try_spawn(NAME, &env).unwrap();
    let refused = get(&sim, "/v1/models");
    assert_eq!((refused.status, refused.body.as_str()), (401, r#"{"error":"Unauthorized"}"#));
    assert_eq!(post(&sim, "/v1/completions", &completion("x", 1)).status, 401);
    assert_eq!(ask(&sim, "GET", "/v1/models", "Authorization: Bearer k1\r\n", "").status, 200);
    for path in ["/health", "/version", "/metrics", "/load"] {
        assert_eq!(get(&sim, path).status, 200, "{path}");
    }
}

#[test]
fn a_full_queue_is_busy() {
    let sim = sim(&["--max-num-seqs", "1", "--max-num-queued-reqs", "1"]);
    let running = hold(&sim, "a");
    let waiting = hold(&sim, "b");
    eventually("the second waits", || metric(&sim, "num_requests_waiting") == "1.0");
    assert_eq!(metric(&sim, "num_requests_running"), "1.0");
    let refused = complete(&sim, &completion("x", 1));
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (
            503,
            r#"{"error":{"message":"The engine is currently busy and cannot accept new requests. Please try again later or on a different instance.","type":"Service Unavailable","param":null,"code":503}}"#
        )
    );
    drop(waiting);
    eventually("nobody waits", || metric(&sim, "num_requests_waiting") == "0.0");
    drop(running);
    eventually("nobody runs", || metric(&sim, "num_requests_running") == "0.0");
    assert_eq!(text(&complete(&sim, &completion("x", 2))), " 0 1");
}

#[test]
fn a_sleeping_engine_aborts_and_then_says_nothing() {
    let sim = dev_sim(&["--enable-sleep-mode"]);
    let running = hold(&sim, "a");
    let slept = post(&sim, "/sleep?level=1", &json!({}));
    assert_eq!(slept.body, r#"{"status":"sleeping","level":1}"#);
    let rest = rest_of(running);
    assert!(rest.contains(r#""finish_reason":"abort""#) && rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(get(&sim, "/is_sleeping").body, r#"{"is_sleeping":true}"#);
    assert_eq!(get(&sim, "/health").status, 200);
    let mut silent = begin(&sim, "/v1/completions", &completion("x", 2));
    read_until(&mut silent, "HTTP/1.1 200 OK");
    assert_eq!(metric(&sim, "num_requests_waiting"), "0.0");
    assert!(get(&sim, "/metrics").body.contains("sleep_state=\"awake\"} 0.0"));
    let woken = post(&sim, "/wake_up", &json!({}));
    assert_eq!(woken.body, r#"{"status":"awake","tags":null}"#);
    read_until(&mut silent, "data: [DONE]");
}

#[test]
fn a_request_is_aborted_by_its_id() {
    let sim = dev_sim(&[]);
    let (one, other) = (hold(&sim, "ab1"), hold(&sim, "ab2"));
    let ids = json!({ "request_ids": ["cmpl-ab1-0", "cmpl-none-0"] });
    let answer = post(&sim, "/abort_requests", &ids);
    assert_eq!(answer.body, r#"{"status":"aborted","aborted":1}"#);
    assert!(rest_of(one).contains(r#""finish_reason":"abort""#));
    assert_eq!(metric(&sim, "num_requests_running"), "1.0");
    drop(other);
}

#[test]
fn a_dead_engine_takes_its_process_along() {
    let mut sim = sim(&[]);
    let running = hold(&sim, "a");
    post(&sim, "/sim/fault", &json!({ "engine_dead": true, "linger_ms": 3_600_000 }));
    let recorded = "data: {\"error\": {\"message\": \"EngineCore encountered an issue. See stack trace (above) for the root cause.\", \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}\n\n";
    let rest = rest_of(running);
    assert!(rest.contains(recorded) && rest.contains("data: [DONE]"), "{rest}");
    let health = get(&sim, "/health");
    assert_eq!((health.status, health.body.as_str()), (503, ""));
    let refused = complete(&sim, &completion("x", 1));
    assert_eq!(
        (refused.status, refused.json()["error"]["type"].clone()),
        (500, json!("InternalServerError"))
    );

    let mut mortal = self::sim(&[]);
    post(&mortal, "/sim/fault", &json!({ "engine_dead": true, "linger_ms": 0 }));
    mortal.wait().unwrap();
    sim.kill();
}

#[test]
fn the_version_the_models_and_the_tokens_are_told() {
    let sim = sim(&["--max-model-len", "256"]);
    assert_eq!(get(&sim, "/version").body, r#"{"version":"0.32.0"}"#);
    let models = get(&sim, "/v1/models").json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][0]["max_model_len"]),
        (&json!("tiny"), &json!(256))
    );
    let tokens = post(&sim, "/tokenize", &json!({ "model": "tiny", "prompt": "ROMEO:" }));
    assert_eq!(
        tokens.json(),
        json!({ "count": 3, "max_model_len": 256, "tokens": [1, 310, 140], "token_strs": null })
    );
    let chat = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(post(&sim, "/tokenize", &chat).json()["count"], 9);
    let text = post(&sim, "/detokenize", &json!({ "tokens": [5, 1000, 1001] }));
    assert_eq!(text.body, r#"{"prompt":"? 0 1"}"#);
    complete(&sim, &completion("x", 3));
    assert_eq!(metric(&sim, "generation_tokens_total"), "3.0");
    assert_eq!(metric(&sim, "prompt_tokens_total"), "2.0");
}

#[test]
fn every_fault_can_be_asked_for() {
    Dialect {
        args: NAME,
        path: "/v1/completions",
        body: |prompt| completion(prompt, 5),
        token: "\"index\":0,\"text\":",
        last: &["\"finish_reason\":\""],
        error: "data: {\"error\": {\"message\": \"EngineCore",
        done: true,
        watches: true,
    }
    .check_all();
}

#[test]
fn flags_are_those_of_the_real_engine() {
    let serve =
        ["serve", "some/model", "--dialect=vllm", "--tensor-parallel-size=2", "--seed", "0"];
    let models = get(&SimProcess::spawn(serve), "/v1/models").json();
    assert_eq!(models["data"][0]["id"], "some/model");
    let module = ["-m", "vllm.entrypoints.openai.api_server", "--dialect", "vllm", "--model", "m"];
    assert_eq!(get(&SimProcess::spawn(module), "/health").status, 200);
    assert!(SimProcess::try_spawn(["--dialect", "vllm", "--nope"], &[]).is_err());
    assert!(SimProcess::try_spawn(["--dialect", "nope"], &[]).is_err());
}

#[test]
fn a_loading_engine_refuses_connections() {
    // The port is only told once it listens, so a test can do no more than come after it.
    let sim = sim(&["--load-ms", "30"]);
    assert_eq!(get(&sim, "/health").status, 200);
}

#[test]
fn sigterm_aborts_or_drains() {
    let mut hasty = sim(&["--shutdown-timeout", "0"]);
    let socket = hold(&hasty, "a");
    crate::faults::terminate(&hasty);
    assert!(rest_of(socket).contains("\"finish_reason\":\"abort\""));
    assert!(hasty.wait().unwrap().success());

    let mut patient = sim(&["--shutdown-timeout", "60"]);
    let body = completion("[[sim:decode_us=20000]]", 9);
    let mut socket = begin(&patient, "/v1/completions", &body);
    read_until(&mut socket, "\"text\":\" 0\"");
    crate::faults::terminate(&patient);
    assert!(rest_of(socket).contains("\"finish_reason\":\"length\""));
    assert!(patient.wait().unwrap().success());
}
