//! What is vLLM's own, beyond the cases that every adapter passes: a recorded stream, the classes of
//! its errors, what it is asked.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use adapter_api::{
    Adapter, ChatMessage, Constraint, EngineError, FinishReason, Generate, Health, Load, Prompt,
    Properties, Timings, Usage,
};
use conformance::{Heard, hear, request, serve_all, serve_cut_everywhere, submit};
use serde_json::{Value, json};
use vllm::Vllm;

/// Three greedy tokens of `In the beginning`, from 0.32.0.
const RECORDED: &str = include_str!("recorded.sse");
const MODELS: &str = r#"{"object":"list","data":[{"id":"m","object":"model","owned_by":"vllm","root":"/m","parent":null,"max_model_len":256}]}"#;

/// A server that answers with each of `answers` in turn, whatever it is asked; what it was asked.
async fn dialogue(answers: &[(&str, &str)]) -> (Vllm, tokio::task::JoinHandle<Vec<String>>) {
    let (url, asked) = conformance::serve_each(answers).await;
    (Vllm::new(&url, None), asked)
}

async fn heard(adapter: &Vllm, request: Generate) -> Heard {
    hear(submit(adapter, request).await.unwrap()).await
}

/// The body of a request as it went over the wire.
fn body(asked: &str) -> Value {
    serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap()
}

// OC-ADAPT-5020, OC-ADAPT-5081
#[tokio::test]
async fn a_recorded_stream_cut_at_any_byte_gives_the_same_events() {
    let adapter = Vllm::new(&serve_cut_everywhere(Some(MODELS), RECORDED.as_bytes()).await, None);
    for cut in 0..=RECORDED.len() {
        let heard = heard(&adapter, request("In the beginning", 3)).await;
        assert_eq!((heard.text.as_str(), heard.count), (" of the Lord", 3), "{cut}");
        assert_eq!(heard.ids, [274, 264, 633], "{cut}");
        assert_eq!(heard.reason(), &FinishReason::Length, "{cut}");
        let usage = Usage { prompt_tokens: 6, cached_tokens: 0, output_tokens: 3 };
        assert_eq!(heard.usage(), usage, "{cut}");
    }
}

const CHUNK: &str = r#"data: {"choices":[{"index":0,"text":"abc","finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;

fn stream(frames: &[&str]) -> String {
    frames.iter().map(|it| format!("{it}\n\n")).collect()
}

// OC-ADAPT-5020
#[tokio::test]
async fn chunks_of_several_tokens_and_late_figures_are_counted_right() {
    let last = r#"data: {"choices":[{"index":0,"text":"","finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;
    let figures = r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":2}},"metrics":{"time_to_first_token_ms":7.5,"generation_time_ms":5.5}}"#;
    let text = stream(&[CHUNK, last, figures, "data: [DONE]"]);
    let (adapter, _asked) = dialogue(&[("200 OK", MODELS), ("200 OK", &text)]).await;
    let heard = heard(&adapter, request("x", 9)).await;
    assert_eq!((heard.text.as_str(), heard.count), ("abc", 5));
    assert_eq!(heard.reason(), &FinishReason::EndOfText);
    let usage = Usage { prompt_tokens: 3, cached_tokens: 2, output_tokens: 5 };
    let timings = Timings { prefill_ms: 7.5, decode_ms: 5.5 };
    assert_eq!(heard.finished.unwrap(), (FinishReason::EndOfText, usage, timings));
}

#[tokio::test]
async fn each_end_of_a_stream_has_its_class() {
    let finish = |reason: &str| {
        format!(r#"data: {{"choices":[{{"index":0,"text":"","finish_reason":"{reason}"}}]}}"#)
    };
    let dead = r#"data: {"error": {"message": "m", "type": "InternalServerError", "param": null, "code": 500}}"#;
    let reset = |message: &str| EngineError::Reset { message: message.into() };
    let cases = [
        (stream(&[CHUNK, dead, "data: [DONE]"]), reset("m")),
        (
            stream(&[CHUNK, &finish("abort"), "data: [DONE]"]),
            reset("the engine aborted the request"),
        ),
        (stream(&[CHUNK, "data: [DONE]"]), reset("the stream ended without a finish reason")),
        (stream(&[CHUNK]), reset("the stream ended without a finish reason")),
        (stream(&[CHUNK, r#"data: {"error":"m"}"#]), reset("m")),
    ];
    for (text, expected) in cases {
        let (adapter, _asked) = dialogue(&[("200 OK", MODELS), ("200 OK", &text)]).await;
        let heard = heard(&adapter, request("x", 9)).await;
        assert_eq!((heard.text.as_str(), heard.error), ("abc", Some(expected)), "{text}");
    }
    // A finish reason is the evidence; what follows it are figures.
    for rest in ["", "data: [DONE]"] {
        let text = stream(&[CHUNK, &finish("length"), rest]);
        let (adapter, _asked) = dialogue(&[("200 OK", MODELS), ("200 OK", &text)]).await;
        let heard = heard(&adapter, request("x", 4)).await;
        assert_eq!(heard.reason(), &FinishReason::Length);
    }
}

#[tokio::test]
async fn each_refusal_has_its_class() {
    let said = |message: &str| message.to_owned();
    let cases = [
        ("401 Unauthorized", r#"{"error":"Unauthorized"}"#, EngineError::Unauthorized),
        (
            "404 Not Found",
            r#"{"detail":"Not Found"}"#,
            EngineError::Unsupported { message: said("\"Not Found\"") },
        ),
        (
            "400 Bad Request",
            r#"{"error":{"message":"This model's maximum context length is 256 tokens. However, your prompt contains 300 input tokens, which exceeds this limit even without any output tokens.","type":"BadRequestError","param":"input_tokens","code":400}}"#,
            EngineError::ContextOverflow { prompt_tokens: 300, context_tokens: 256 },
        ),
        (
            "400 Bad Request",
            r#"{"error":{"message":"This model's maximum context length is 256 tokens. However, your prompt contains 24000 characters (more than 3584 characters, which is the upper bound for 256 input tokens).","type":"BadRequestError","param":"input_text","code":400}}"#,
            EngineError::ContextOverflow { prompt_tokens: 24000, context_tokens: 256 },
        ),
        (
            "400 Bad Request",
            r#"{"error":{"message":"m","type":"BadRequestError","param":"top_p","code":400}}"#,
            EngineError::BadRequest { message: said("m") },
        ),
        (
            "503 Service Unavailable",
            r#"{"error":{"message":"The engine is currently busy","type":"Service Unavailable","param":null,"code":503}}"#,
            EngineError::Overloaded { retry_after_ms: None },
        ),
        (
            "500 Internal Server Error",
            r#"{"error":{"message":"m","type":"InternalServerError","param":null,"code":500}}"#,
            EngineError::Reset { message: said("m") },
        ),
        ("502 Bad Gateway", "<html>", EngineError::Reset { message: said("<html>") }),
    ];
    for (status, body, expected) in cases {
        let url = serve_all(status, &[body.as_bytes()]).await;
        let adapter = Vllm::new(&url, None);
        assert_eq!(submit(&adapter, request("x", 1)).await.err(), Some(expected), "{status}");
    }
}

// OC-ADAPT-5010
#[tokio::test]
async fn every_sampler_is_set_and_every_token_counted() {
    let (adapter, asked) = dialogue(&[("200 OK", MODELS), ("200 OK", RECORDED)]).await;
    let mut request = request("x", 3);
    request.stop = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
    request.constraint = Some(Constraint::JsonSchema(r#"{"type":"object"}"#.into()));
    heard(&adapter, request).await;
    let asked = asked.await.unwrap();
    assert!(asked[1].to_ascii_lowercase().contains("x-request-id: t-1\r\n"), "{}", asked[1]);
    let sent = body(&asked[1]);
    for (field, value) in [
        ("model", json!("m")),
        ("max_tokens", json!(3)),
        ("seed", json!(7)),
        ("stream", json!(true)),
        ("stream_options", json!({"include_usage": true, "continuous_usage_stats": true})),
        ("temperature", json!(0.0)),
        ("top_p", json!(1.0)),
        ("top_k", json!(0)),
        ("min_p", json!(0.0)),
        ("repetition_penalty", json!(1.0)),
        ("presence_penalty", json!(0.0)),
        ("frequency_penalty", json!(0.0)),
        // It takes four.
        ("stop", json!(["a", "b", "c", "d"])),
        ("include_stop_str_in_output", json!(true)),
        ("structured_outputs", json!({"json": {"type": "object"}})),
    ] {
        assert_eq!(sent[field], value, "{field}");
    }
    assert!(sent["cache_salt"].is_string(), "a prefix that must not be reused has a salt");
}

// OC-ADAPT-5021
#[tokio::test]
async fn a_conversation_is_templated_by_the_server_and_may_have_begun_its_answer() {
    let tokens = r#"{"count":3,"max_model_len":256,"tokens":[1,2,3]}"#;
    let (adapter, asked) =
        dialogue(&[("200 OK", MODELS), ("200 OK", tokens), ("200 OK", tokens)]).await;
    let messages = [ChatMessage { role: "user".into(), content: "u".into() }];
    for answer in ["", "I am"] {
        let prompt = adapter.apply_template(&messages, answer).await;
        assert_eq!(prompt, Ok(Prompt::TokenIds(vec![1, 2, 3])));
    }
    let asked = asked.await.unwrap();
    let (bare, begun) = (body(&asked[1]), body(&asked[2]));
    assert_eq!(
        (&bare["add_generation_prompt"], &bare["continue_final_message"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(begun["messages"][1], json!({"role": "assistant", "content": "I am"}));
    assert_eq!(
        (&begun["add_generation_prompt"], &begun["continue_final_message"]),
        (&json!(false), &json!(true))
    );
}

// OC-ADAPT-5020, OC-ADAPT-5030
#[tokio::test]
async fn what_it_says_of_itself_is_read_as_it_says_it() {
    let no_template = r#"{"error":{"message":"no chat template","type":"BadRequestError","param":null,"code":400}}"#;
    let (adapter, _asked) = dialogue(&[
        ("200 OK", r#"{"version":"0.32.0+cpu"}"#),
        ("200 OK", MODELS),
        ("400 Bad Request", no_template),
    ])
    .await;
    let expected = Properties {
        engine_version: "0.32.0+cpu".into(),
        model: "m".into(),
        context_tokens: Some(256),
        slots: None,
        chat_template: false,
    };
    assert_eq!(adapter.properties().await, Ok(expected));
    let metrics = "# TYPE vllm:num_requests_running gauge\n\
                   vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 2.0\n\
                   vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 1.0\n\
                   vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 4.0\n\
                   vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.25\n\
                   vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"m\"} 0.5\n";
    let (adapter, _asked) = dialogue(&[("200 OK", metrics)]).await;
    let load = Load { running: 3, waiting: Some(4), kv_cache_usage: Some(0.5) };
    assert_eq!(adapter.load().await, Ok(load));
    let (adapter, _asked) = dialogue(&[("200 OK", ""), ("503 Service Unavailable", "")]).await;
    assert_eq!(adapter.health().await, Ok(Health::Ready));
    assert!(matches!(adapter.health().await, Err(EngineError::Reset { .. })));
}

#[tokio::test]
async fn another_name_for_the_model_is_found_by_asking_again() {
    let unknown = r#"{"error":{"message":"The model `m` does not exist.","type":"NotFoundError","param":"model","code":404}}"#;
    let renamed = MODELS.replace("\"m\"", "\"n\"");
    let (adapter, asked) = dialogue(&[
        ("200 OK", MODELS),
        ("404 Not Found", unknown),
        ("200 OK", &renamed),
        ("200 OK", RECORDED),
    ])
    .await;
    let within = tokio::time::timeout(Duration::from_secs(10), heard(&adapter, request("x", 3)));
    assert_eq!(within.await.unwrap().count, 3);
    assert_eq!(body(&asked.await.unwrap()[3])["model"], "n");
    // A call that is not repeated asks the next time.
    let (adapter, asked) = dialogue(&[
        ("200 OK", MODELS),
        ("404 Not Found", unknown),
        ("200 OK", &renamed),
        ("200 OK", r#"{"tokens":[1]}"#),
    ])
    .await;
    assert!(matches!(adapter.tokenize("x").await, Err(EngineError::NotReady { .. })));
    assert_eq!(adapter.tokenize("x").await, Ok(vec![1]));
    assert_eq!(body(&asked.await.unwrap()[3])["model"], "n");
}
