//! What is TGI's own, beyond the cases that every adapter passes: recorded answers, the classes of its
//! errors, what it is asked.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use adapter_api::{
    Adapter, ChatMessage, Constraint, EngineError, FinishReason, Prompt, Properties, Usage,
};
use conformance::{hear, request, serve_all, serve_cut_everywhere, serve_each, submit};
use serde_json::{Value, json};
use tgi::Tgi;

/// Three greedy tokens, from 3.3.6-dev0.
const RECORDED: &str = include_str!("../../src/frames/recorded.sse");
const TOKENS: &str =
    r#"[{"id":0,"text":"","start":0,"stop":0},{"id":864,"text":"1","start":0,"stop":1}]"#;
const CHAT: &str = r#"{"tokenize_response":[{"id":0,"text":"<s>","start":0,"stop":3},{"id":4,"text":"<|user|>","start":3,"stop":11},{"id":378,"text":"hi","start":11,"stop":13},{"id":1,"text":"<|end|>","start":13,"stop":20},{"id":5,"text":"<|assistant|>","start":20,"stop":33}],"templated_text":"<s><|user|>hi<|end|><|assistant|>"}"#;

fn body(asked: &str) -> Value {
    serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap()
}

// OC-ADAPT-5040, OC-ADAPT-5081
#[tokio::test]
async fn a_recorded_stream_cut_at_any_byte_gives_the_same_events() {
    let adapter = Tgi::new(&serve_cut_everywhere(None, RECORDED.as_bytes()).await, None);
    for cut in 0..=RECORDED.len() {
        let mut asked = request("ROMEO:", 3);
        asked.answer_ids = true;
        let heard = hear(submit(&adapter, asked).await.unwrap()).await;
        assert_eq!((heard.text.as_str(), &heard.ids), ("\n\n\n", &vec![204, 204, 204]), "{cut}");
        assert_eq!(heard.reason(), &FinishReason::Length, "{cut}");
        let usage = Usage { prompt_tokens: 3, cached_tokens: 0, output_tokens: 3 };
        assert_eq!(heard.usage(), usage, "{cut}");
    }
}

// OC-ADAPT-5040
#[tokio::test]
async fn a_template_s_start_of_text_is_not_doubled() {
    let messages = [ChatMessage { role: "user".into(), content: "hi".into() }];
    // The router puts id 0 in front of every prompt, as the template has done.
    let (url, _asked) = serve_each(&[("200 OK", CHAT), ("200 OK", TOKENS)]).await;
    let prompt = Tgi::new(&url, None).apply_template(&messages, "I am").await;
    assert_eq!(prompt, Ok(Prompt::Text("<|user|>hi<|end|><|assistant|>I am".into())));
    // It puts nothing there.
    let bare = r#"[{"id":864,"text":"1","start":0,"stop":1}]"#;
    let (url, _asked) = serve_each(&[("200 OK", CHAT), ("200 OK", bare)]).await;
    let prompt = Tgi::new(&url, None).apply_template(&messages, "").await;
    assert_eq!(prompt, Ok(Prompt::Text("<s><|user|>hi<|end|><|assistant|>".into())));
}

// OC-ADAPT-5010
#[tokio::test]
async fn what_is_off_is_left_out_and_what_is_on_is_sent() {
    let (url, asked) = serve_each(&[("200 OK", RECORDED), ("200 OK", RECORDED)]).await;
    let adapter = Tgi::new(&url, None);
    hear(submit(&adapter, request("x", 3)).await.unwrap()).await;
    let mut sampled = request("x", 3);
    (sampled.sampling.temperature, sampled.sampling.top_k) = (0.5, 7);
    sampled.constraint = Some(Constraint::Grammar("a+".into()));
    hear(submit(&adapter, sampled).await.unwrap()).await;
    let asked = asked.await.unwrap();
    let greedy = json!({
        "max_new_tokens": 3, "do_sample": false, "details": true, "return_full_text": false,
        "stop": [],
    });
    assert_eq!(body(&asked[0]), json!({"inputs": "x", "parameters": greedy}));
    let parameters = &body(&asked[1])["parameters"];
    assert_eq!((&parameters["do_sample"], &parameters["seed"]), (&json!(true), &json!(7)));
    assert_eq!((&parameters["temperature"], &parameters["top_k"]), (&json!(0.5), &json!(7)));
    assert_eq!(parameters["grammar"], json!({"type": "regex", "value": "a+"}));
}

#[tokio::test]
async fn each_refusal_has_its_class() {
    let said = |message: &str| message.to_owned();
    let overflow = |prompt_tokens, context_tokens| EngineError::ContextOverflow {
        prompt_tokens,
        context_tokens,
    };
    let cases = [
        ("401 Unauthorized", "", EngineError::Unauthorized),
        (
            "429 Too Many Requests",
            r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
            EngineError::Overloaded { retry_after_ms: None },
        ),
        // The same inside a stream that was accepted.
        (
            "200 OK",
            "data: {\"error\":\"Model is overloaded\",\"error_type\":\"overloaded\"}\n\n",
            EngineError::Overloaded { retry_after_ms: None },
        ),
        (
            "200 OK",
            "data: {\"error\":\"Input validation error: `inputs` must have less than 200 tokens. Given: 803\",\"error_type\":\"validation\"}\n\n",
            overflow(803, 200),
        ),
        (
            "200 OK",
            "data: {\"error\":\"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1020. Given: 2 `inputs` tokens and 1020 `max_new_tokens`\",\"error_type\":\"validation\"}\n\n",
            overflow(2, 1020),
        ),
        (
            "422 Unprocessable Entity",
            r#"{"error":"Input validation error: `top_k` must be strictly positive","error_type":"validation"}"#,
            EngineError::BadRequest {
                message: said("Input validation error: `top_k` must be strictly positive"),
            },
        ),
        (
            "424 Failed Dependency",
            r#"{"error":"Request failed during generation","error_type":"generation"}"#,
            EngineError::Reset { message: said("Request failed during generation") },
        ),
        (
            "415 Unsupported Media Type",
            "Expected request with `Content-Type: application/json`",
            EngineError::BadRequest {
                message: said(
                    "status 415 Unsupported Media Type Expected request with `Content-Type: \
                     application/json`",
                ),
            },
        ),
    ];
    for (status, body, expected) in cases {
        let url = serve_all(status, &[body.as_bytes()]).await;
        let refused = submit(&Tgi::new(&url, None), request("x", 1)).await.err();
        assert_eq!(refused, Some(expected), "{status} {body}");
    }
}

// OC-ADAPT-5040, OC-ADAPT-5030
#[tokio::test]
async fn what_it_says_of_itself_is_read_as_it_says_it() {
    let info = r#"{"model_id":"m","model_sha":null,"max_concurrent_requests":2,"max_input_tokens":200,"max_total_tokens":1020,"version":"3.3.6-dev0","sha":"db931fcf"}"#;
    let (url, _asked) = serve_each(&[("200 OK", info), ("200 OK", CHAT)]).await;
    let expected = Properties {
        engine_version: "3.3.6-dev0".into(),
        model: "m".into(),
        context_tokens: Some(1_020),
        slots: Some(2),
        chat_template: true,
    };
    assert_eq!(Tgi::new(&url, None).properties().await, Ok(expected));
}
