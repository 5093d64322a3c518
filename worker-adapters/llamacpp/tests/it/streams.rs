//! Streams that end well, in every shape the bytes can take.

use adapter_api::{FinishReason, Usage};
use llamacpp::LlamaCpp;
use serde_json::Value;

use conformance::{
    Heard, hear, request, run, serve_cut_everywhere, serve_once, serve_without_end, submit,
};

use crate::{at, sim};

const RECORDED: &str = include_str!("recorded.sse");

/// Five tokens, with their ids.
async fn with_ids(adapter: &LlamaCpp, prompt: &str) -> Heard {
    let mut asked = request(prompt, 5);
    asked.answer_ids = true;
    hear(submit(adapter, asked).await.unwrap()).await
}

// OC-ADAPT-5001
#[tokio::test]
async fn a_stream_gives_progress_tokens_and_its_end() {
    let (_sim, adapter) = sim(&["--prefill-us-per-token", "100"]);
    let heard = with_ids(&adapter, "hello").await;
    assert_eq!(heard.text, " 0 1 2 3 4");
    assert_eq!((heard.count, heard.ids), (5, vec![1000, 1001, 1002, 1003, 1004]));
    assert_eq!(heard.progress, [(0, 3), (3, 3)]);
    let (reason, usage, timings) = heard.finished.unwrap();
    assert_eq!(reason, FinishReason::Length);
    assert_eq!(usage, Usage { prompt_tokens: 3, cached_tokens: 0, output_tokens: 5 });
    assert!(timings.prefill_ms >= 0.3, "{timings:?}");
}

#[tokio::test]
async fn each_cause_of_the_end_is_told_apart() {
    let (_sim, adapter) = sim(&["-c", "256", "-np", "1"]);
    assert_eq!(run(&adapter, "[[sim:tokens=2]]").await.reason(), &FinishReason::EndOfText);
    let mut stopped = request("x", 9);
    stopped.stop = vec!["2 3".to_owned()];
    let heard = hear(submit(&adapter, stopped).await.unwrap()).await;
    assert_eq!(heard.reason(), &FinishReason::StopSequence("2 3".to_owned()));
    assert_eq!((heard.text.as_str(), heard.count), (" 0 1 ", 4));
    let heard = hear(submit(&adapter, request("x", 1000)).await.unwrap()).await;
    assert_eq!(heard.reason(), &FinishReason::ContextFull);
}

/// The recorded stream is cut in two at each of its bytes, and each part is a chunk of its own.
///
/// OC-ADAPT-5081
#[tokio::test]
async fn a_recorded_stream_cut_at_any_byte_gives_the_same_events() {
    let adapter = at(&serve_cut_everywhere(None, RECORDED.as_bytes()).await);
    for cut in 0..=RECORDED.len() {
        let heard = with_ids(&adapter, "ROMEO:").await;
        assert_eq!((heard.text.as_str(), heard.ids), ("\n\n\n", vec![204, 204, 204]), "{cut}");
        assert_eq!(heard.progress, [(0, 3), (3, 3)], "{cut}");
        let (reason, usage, timings) = heard.finished.unwrap();
        assert_eq!(reason, FinishReason::Length, "{cut}");
        assert_eq!(usage, Usage { prompt_tokens: 3, cached_tokens: 0, output_tokens: 3 });
        assert_eq!((timings.prefill_ms, timings.decode_ms), (1.471, 1.376));
    }
}

// OC-ADAPT-5010
#[tokio::test]
async fn every_sampler_is_set_and_nothing_makes_the_generation_outlive_us() {
    let (url, asked) = serve_once("200 OK", &[RECORDED.as_bytes()]).await;
    let adapter = at(&url);
    run(&adapter, "ROMEO:").await;
    let asked = asked.await.unwrap();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("x-conversation-id"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    for (field, value) in [
        ("stream", Value::from(true)),
        ("return_progress", true.into()),
        ("cache_prompt", false.into()),
        ("n_predict", 5.into()),
        ("seed", 7.into()),
        ("temperature", 0.0.into()),
        ("top_k", 0.into()),
        ("top_p", 1.0.into()),
        ("min_p", 0.0.into()),
        ("typical_p", 1.0.into()),
        ("top_n_sigma", (-1.0).into()),
        ("dynatemp_range", 0.0.into()),
        ("xtc_probability", 0.0.into()),
        ("repeat_penalty", 1.0.into()),
        ("presence_penalty", 0.0.into()),
        ("frequency_penalty", 0.0.into()),
        ("dry_multiplier", 0.0.into()),
        ("mirostat", 0.into()),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
}

#[tokio::test]
async fn a_connection_stays_until_the_end_that_follows_the_last_frame() {
    let (url, stays) = serve_without_end(RECORDED.as_bytes()).await;
    let adapter = at(&url);
    assert_eq!(run(&adapter, "ROMEO:").await.reason(), &FinishReason::Length);
    assert!(stays.await.unwrap(), "closed before the end of the body could come");
}
