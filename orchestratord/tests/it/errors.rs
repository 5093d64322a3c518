//! Each error code, as a client gets it before a stream began.

use crate::client::Answer;
use crate::rig::{Rig, Setup, wait_until};

/// Status, code and the parts that every error has.
fn check(answer: &Answer, status: u16, code: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["code"]), (status, &code.into()), "{body}");
    assert!(!body["message"].as_str().unwrap().is_empty());
    assert!(body["retriable"].is_boolean());
    assert_eq!(body["correlation_id"], answer.header("x-correlation-id"));
    let advised = matches!(status, 429 | 503);
    assert_eq!(body["retry_after_ms"].is_u64(), advised, "{body}");
    assert_eq!(!answer.header("retry-after").is_empty(), advised);
}

// ORCH-2006, OC-CTRL-2030, OC-CTRL-2031
#[test]
fn a_body_that_is_wrong_is_told_where() {
    let rig = Rig::with_slots(1);
    let post = |body: &str| rig.client.post("/v1/tasks", body, &[]);
    check(&post("{"), 400, "INVALID_PARAMS");
    let answer = post(r#"{"prompt":"a","max_tokens":"ten"}"#);
    check(&answer, 400, "INVALID_PARAMS");
    let detail = &answer.json()["details"][0];
    assert_eq!(detail["pointer"], "/max_tokens");
    assert_eq!(detail["expected"], "u32");
    // Far above any context: told before anything is queued.
    let answer = post(r#"{"prompt":"a","expected_tokens":1000000000}"#);
    assert_eq!(answer.json()["details"][0]["expected"], "1 to 1048576");
    assert_eq!(post(r#"{"prompt":"a","deadline_ms":0}"#).status, 400);
    assert_eq!(post(r#"{"prompt":"a","session_id":"a b"}"#).status, 400);
    let answer = post(r#"{"prompt":"a","ctx":5}"#);
    assert!(answer.json()["message"].as_str().unwrap().contains("not supported yet"));
}

// OC-CTRL-2033, OC-CTRL-2034
#[test]
fn routes_methods_and_types_that_do_not_exist_are_typed_errors() {
    let rig = Rig::with_slots(1);
    check(&rig.client.get("/v1/nothing", &[]), 404, "NOT_FOUND");
    check(&rig.client.get("/v1/tasks/nothing", &[]), 404, "NOT_FOUND");
    check(&rig.client.get("/v1/tasks/nothing/stream", &[]), 404, "NOT_FOUND");
    check(&rig.client.get("/v1/pools/nothing/health", &[]), 404, "NOT_FOUND");
    check(&rig.client.post("/v1/models", "{}", &[]), 405, "METHOD_NOT_ALLOWED");
    let plain = [("content-type", "text/plain")];
    check(&rig.client.post("/v1/tasks", "{}", &plain), 415, "UNSUPPORTED_MEDIA_TYPE");
}

// OC-CTRL-2083
#[test]
fn web_pages_of_others_are_refused() {
    let rig = Rig::with_slots(1);
    check(&rig.client.get("/v1/models", &[("host", "evil.example")]), 403, "FORBIDDEN");
    check(&rig.client.get("/v1/models", &[("origin", "http://evil.example")]), 403, "FORBIDDEN");
}

#[test]
fn bodies_and_heads_that_are_too_large_are_refused() {
    let config = "limits: {body_bytes: 2000, header_bytes: 8192}";
    let rig = Rig::start(Setup { config, ..Setup::default() });
    let body = format!(r#"{{"prompt":"{}"}}"#, "a".repeat(2_000));
    check(&rig.client.post("/v1/tasks", &body, &[]), 413, "PAYLOAD_TOO_LARGE");
    let long = "a".repeat(9_000);
    check(&rig.client.get("/v1/models", &[("x-long", &long)]), 431, "HEADERS_TOO_LARGE");
    let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(40_000));
    assert!(rig.client.raw(&request).rest().starts_with("HTTP/1.1 431"));
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let config = "limits: {body_timeout_ms: 100}";
    let rig = Rig::start(Setup { config, ..Setup::default() });
    let head = "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 10\r\nconnection: close\r\n\r\n{";
    assert!(rig.client.raw(head).rest().contains("was not complete within 100 ms"));
}

// OC-CTRL-2040
#[test]
fn where_there_are_keys_one_is_needed() {
    // SHA-256 of "secret".
    let config = "keys: [{name: me, sha256: \
                  2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b}]";
    let rig = Rig::start(Setup { config, ..Setup::default() });
    check(&rig.client.get("/v1/models", &[]), 401, "UNAUTHENTICATED");
    let wrong = [("authorization", "Bearer guess")];
    check(&rig.client.get("/v1/models", &wrong), 401, "UNAUTHENTICATED");
    let key = [("authorization", "Bearer secret")];
    assert_eq!(rig.client.get("/v1/models", &key).status, 200);
    assert_eq!(rig.client.get("/healthz", &[]).status, 200);
}

// ORCH-3018, OC-CTRL-2032
#[test]
fn an_outage_is_503_with_advice() {
    let rig = Rig::start(Setup {
        pools: |pools| pools[0].replicas[0].state = pool_api::ReplicaState::Unready,
        ..Setup::default()
    });
    let answer = rig.client.post("/v1/tasks", r#"{"prompt":"a"}"#, &[]);
    check(&answer, 503, "POOL_UNAVAILABLE");
}

#[test]
fn an_engine_that_nobody_runs_is_refused() {
    let rig = Rig::with_slots(1);
    let answer = rig.client.post("/v1/tasks", r#"{"prompt":"a","engine":"vllm"}"#, &[]);
    check(&answer, 400, "INVALID_PARAMS");
}

// OC-CTRL-2082
#[test]
fn a_daemon_that_drains_finishes_what_runs_and_admits_nothing() {
    let config = "drain_ms: 5000";
    let mut rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let body = r#"{"prompt":"[[sim:decode_us=5000]]","max_tokens":60}"#;
    let mut stream = rig.client.open(body);
    stream.until("token");
    let client = crate::client::Client::new(rig.client.address);
    let refused = std::thread::spawn(move || {
        let mut codes = Vec::new();
        wait_until("admission is refused", || {
            let answer = client.post("/v1/tasks", r#"{"prompt":"a","max_tokens":1}"#, &[]);
            codes.push(answer.status);
            answer.status == 503 && answer.json()["code"] == "SHUTTING_DOWN"
        });
    });
    rig.shut_down();
    assert_eq!(stream.until("end").data["tokens_out"], 60);
    refused.join().unwrap();
}

// OC-CTRL-2082
#[test]
fn what_outlasts_the_drain_ends_with_a_typed_error() {
    let config = "drain_ms: 100";
    let mut rig = Rig::start(Setup { config, slots: vec![1], ..Setup::default() });
    let mut running = rig.client.open(r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":60}"#);
    running.until("token");
    let mut waiting = rig.client.open(r#"{"prompt":"a","max_tokens":1}"#);
    waiting.until("queued");
    rig.shut_down();
    for stream in [&mut running, &mut waiting] {
        let error = stream.until("error");
        assert_eq!(error.data["code"], "SHUTTING_DOWN");
        assert_eq!(error.data["retriable"], true);
    }
}

// OC-CTRL-2052
#[test]
fn every_answer_has_a_correlation_id_and_keeps_the_callers() {
    let rig = Rig::with_slots(1);
    let mine = [("x-correlation-id", "abc.1")];
    let task = rig.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    for path in
        ["/healthz", "/metrics", "/nothing", "/v1/pools", &format!("/v1/tasks/{task}/stream")]
    {
        assert_eq!(rig.client.get(path, &mine).header("x-correlation-id"), "abc.1", "{path}");
        assert_eq!(rig.client.get(path, &[]).header("x-correlation-id").len(), 16, "{path}");
    }
    let cancelled = rig.client.post(&format!("/v1/tasks/{task}/cancel"), "{}", &mine);
    assert_eq!((cancelled.status, cancelled.header("x-correlation-id")), (204, "abc.1"));
}
