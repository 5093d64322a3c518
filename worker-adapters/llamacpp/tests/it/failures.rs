//! Streams that end badly, and what is left when a caller goes.

use std::time::Instant;

use adapter_api::{Adapter, EngineError};
use conformance::{Heard, LIMIT, hear, request, run, serve_all, serve_once, submit};
use engine_sim::SimProcess;
use http::Method;
use llamacpp::LlamaCpp;

use crate::{at, sim};

async fn busy(adapter: &LlamaCpp) -> u32 {
    adapter.load().await.unwrap().running
}

async fn until_idle(adapter: &LlamaCpp) {
    let start = Instant::now();
    while busy(adapter).await > 0 {
        assert!(start.elapsed() < LIMIT, "the slot is still held");
    }
}

fn assert_broken(heard: &Heard, case: &str) {
    assert!(matches!(heard.error, Some(EngineError::Reset { .. })), "{case}: {heard:?}");
}

#[tokio::test]
async fn tokens_that_arrive_together_with_a_failure_are_not_lost() {
    let token = r#"data: {"content":" 0","tokens":[1000],"tokens_predicted":1,"stop":false}"#;
    for failure in ["data: {", r#"data: {"error":"m"}"#, "error: m"] {
        let chunk = format!("{token}\n\n{failure}\n\n");
        let (url, _asked) = serve_once("200 OK", &[chunk.as_bytes()]).await;
        let adapter = at(&url);
        let heard = run(&adapter, "x").await;
        assert_eq!((heard.text.as_str(), heard.error.is_some()), (" 0", true), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_arrive_while_the_stream_breaks_are_not_lost() {
    let (_sim, adapter) = sim(&[]);
    for _ in 0..300 {
        assert_eq!(run(&adapter, "[[sim:eof_after=3]]").await.text, " 0 1 2");
    }
}

#[tokio::test]
async fn an_error_frame_is_read_in_all_its_forms() {
    let overflow = EngineError::ContextOverflow { prompt_tokens: 300, context_tokens: 256 };
    let fault = |text: &str| EngineError::Reset { message: text.to_owned() };
    let cases = [
        (
            r#"data: {"error":{"code":400,"message":"m","type":"exceed_context_size_error","n_prompt_tokens":300,"n_ctx":256}}"#,
            overflow.clone(),
        ),
        (
            r#"error: {"code":400,"message":"m","type":"exceed_context_size_error","n_prompt_tokens":300,"n_ctx":256}"#,
            overflow,
        ),
        (r#"data: {"error":{"code":500,"message":"m","type":"server_error"}}"#, fault("m")),
        (r#"error: {"code":500,"message":"m","type":"server_error"}"#, fault("m")),
        (r#"data: {"error":"m"}"#, fault("m")),
        ("error: m", fault("m")),
    ];
    for (line, expected) in cases {
        let (url, _asked) = serve_once("200 OK", &[format!("{line}\n\n").as_bytes()]).await;
        let adapter = at(&url);
        assert_eq!(run(&adapter, "x").await.error, Some(expected), "{line}");
    }
}

#[tokio::test]
async fn comments_are_no_events_and_no_end() {
    let (_sim, adapter) = sim(&["-np", "1"]);
    let mut generation =
        submit(&adapter, request("[[sim:hang_after=1 hang_ping=1]]", 5)).await.unwrap();
    let mut heard = Heard::default();
    while heard.count < 1 {
        heard.step(generation.as_mut()).await;
    }
    // Four comments arrive in this time; `step` would refuse a poll that is ready with nothing.
    let more = tokio::time::timeout(
        std::time::Duration::from_millis(220),
        heard.step(generation.as_mut()),
    );
    assert!(more.await.is_err());
}

#[tokio::test]
async fn dropping_a_submission_leaves_nothing_behind() {
    let (_sim, adapter) = sim(&["-np", "1"]);
    let running = submit(&adapter, request("[[sim:hang_after=1]]", 5)).await.unwrap();
    let waiting = adapter.submit(request("[[sim:hang_after=1]]", 5));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(50), waiting);
    assert!(waited.await.is_err(), "the only slot is taken");
    drop(running);
    until_idle(&adapter).await;
}

#[tokio::test]
async fn a_prompt_beyond_the_context_is_told_with_both_numbers_and_not_repeated() {
    let (sim, adapter) = sim(&["-c", "128", "-np", "1"]);
    let refused = submit(&adapter, request(&"word".repeat(299), 1)).await.err();
    let expected = EngineError::ContextOverflow { prompt_tokens: 300, context_tokens: 256 };
    assert_eq!(refused, Some(expected));
    assert_eq!(requests(&sim).await, 1);
}

async fn requests(sim: &SimProcess) -> u64 {
    let http = adapter_api::EngineHttp::new(&sim.base_url(), None);
    let (_, body) = http.call(Method::GET, "/sim/stats", None).await.unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&body).unwrap();
    // The question itself is counted too.
    stats["requests"].as_u64().unwrap() - 1
}

#[tokio::test]
async fn each_refusal_has_its_class() {
    let said = |message: &str| message.to_owned();
    let cases = [
        (
            "401 Unauthorized",
            r#"{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}"#,
            EngineError::Unauthorized,
        ),
        (
            "404 Not Found",
            r#"{"error":{"message":"File Not Found","type":"not_found_error","code":404}}"#,
            EngineError::Unsupported { message: said("File Not Found") },
        ),
        (
            "501 Not Implemented",
            r#"{"error":{"code":501,"message":"m","type":"not_supported_error"}}"#,
            EngineError::Unsupported { message: said("m") },
        ),
        (
            "400 Bad Request",
            r#"{"error":{"code":400,"message":"m","type":"invalid_request_error"}}"#,
            EngineError::BadRequest { message: said("m") },
        ),
        (
            "500 Internal Server Error",
            r#"{"error":{"code":500,"message":"[json.exception.parse_error.101] m","type":"server_error"}}"#,
            EngineError::BadRequest { message: said("[json.exception.parse_error.101] m") },
        ),
        (
            "500 Internal Server Error",
            r#"{"error":{"code":500,"message":"the request exceeds the available context size. try increasing the context size or enable context shift","type":"server_error"}}"#,
            EngineError::ContextOverflow { prompt_tokens: 0, context_tokens: 0 },
        ),
        ("429 Too Many Requests", "busy", EngineError::Overloaded { retry_after_ms: None }),
        (
            "503 Service Unavailable",
            r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#,
            EngineError::NotReady { message: said("Loading model") },
        ),
        (
            "500 Internal Server Error",
            r#"{"error":{"code":500,"message":"m","type":"server_error"}}"#,
            EngineError::Reset { message: said("m") },
        ),
        ("502 Bad Gateway", "<html>", EngineError::Reset { message: said("<html>") }),
    ];
    for (status, body, expected) in cases {
        let adapter = at(&serve_all(status, &[body.as_bytes()]).await);
        assert_eq!(submit(&adapter, request("x", 1)).await.err(), Some(expected), "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_not_waited_for() {
    let (url, _asked) = serve_once("200 OK", &[b"{\"content\":\"x\"}"]).await;
    let adapter = at(&url);
    let heard = hear(submit(&adapter, request("x", 1)).await.unwrap()).await;
    assert_broken(&heard, "a body without events");
}
