//! The calls around a generation.

use adapter_api::{Adapter, ChatMessage, EngineError, EngineKind, Health, Load};
use engine_sim::SimProcess;
use llamacpp::LlamaCpp;

use crate::generation::{request, run, sim, submit};

// OC-ADAPT-5001, OC-ADAPT-5011
#[tokio::test]
async fn properties_and_load_are_read() {
    let (_sim, adapter) = sim(&["-c", "1024", "-np", "2", "--alias", "m"]);
    assert_eq!(adapter.kind(), EngineKind::Llamacpp);
    let properties = adapter.properties().await.unwrap();
    assert_eq!((properties.slots, properties.context_tokens), (2, 512));
    assert_eq!((properties.model.as_str(), properties.chat_template), ("m", true));
    assert_eq!(properties.engine_version, "b1-0c1e570");
    let _running = submit(&adapter, request("[[sim:hang_after=0]]", 5)).await.unwrap();
    assert_eq!(adapter.load().await, Ok(Load { running: 1, waiting: None }));
}

#[tokio::test]
async fn an_engine_that_loads_is_alive_but_not_ready() {
    let (_sim, adapter) = sim(&["--load-ms", "3600000"]);
    assert_eq!(adapter.health().await, Ok(Health::Loading));
    assert!(matches!(adapter.properties().await, Err(EngineError::NotReady { .. })));
    let (_sim, adapter) = sim(&[]);
    assert_eq!(adapter.health().await, Ok(Health::Ready));
}

#[tokio::test]
async fn tokens_are_counted_as_the_engine_does() {
    let (_sim, adapter) = sim(&[]);
    for text in ["", "x", "a longer text \"with\" ☃"] {
        let ids = adapter.tokenize(text).await.unwrap();
        let heard = run(&adapter, text).await;
        assert_eq!(heard.finished.unwrap().1.prompt_tokens as usize, ids.len(), "{text:?}");
    }
}

#[tokio::test]
async fn the_template_is_the_engines() {
    let (_sim, adapter) = sim(&[]);
    let say =
        |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    let prompt = adapter.apply_template(&[say("system", "s"), say("user", "u")]).await;
    assert_eq!(prompt, Ok("<|system|>s<|end|><|user|>u<|end|><|assistant|>".to_owned()));
}

#[tokio::test]
async fn a_route_that_is_off_is_unsupported() {
    let (_sim, adapter) = sim(&["--no-slots"]);
    assert!(matches!(adapter.load().await, Err(EngineError::Unsupported { .. })));
}

// OC-ADAPT-5083
#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let sim = SimProcess::try_spawn(["--api-key", "k-e-y"], &[]).unwrap();
    let wrong = LlamaCpp::new(&sim.base_url(), Some("w-r-o-n-g"));
    let refused = submit(&wrong, request("x", 1)).await.err().unwrap();
    assert_eq!(refused, EngineError::Unauthorized);
    assert_eq!(wrong.load().await, Err(EngineError::Unauthorized));
    let right = LlamaCpp::new(&sim.base_url(), Some("k-e-y"));
    assert_eq!(run(&right, "x").await.text, " 0 1 2 3 4");
    drop(sim);
    let gone = submit(&right, request("x", 1)).await.err().unwrap();
    let shown = format!("{wrong:?} {right:?} {refused} {refused:?} {gone} {gone:?}");
    assert!(!shown.contains("k-e-y") && !shown.contains("w-r-o-n-g"), "{shown}");
}

#[tokio::test]
async fn a_connection_that_the_engine_closed_in_between_is_no_error() {
    let (_sim, adapter) = sim(&["--keep-alive-requests", "1"]);
    for round in 0..50 {
        assert_eq!(adapter.health().await, Ok(Health::Ready), "{round}");
        assert!(adapter.tokenize("x").await.is_ok(), "{round}");
        assert_eq!(run(&adapter, "x").await.count, 5, "{round}");
    }
}
