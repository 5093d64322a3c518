//! The calls around a generation.

use adapter_api::{Adapter, ChatMessage, EngineError, EngineKind, Health, Load, Prompt};

use conformance::{request, run, submit};

use crate::sim;

// OC-ADAPT-5001, OC-ADAPT-5011
#[tokio::test]
async fn properties_and_load_are_read() {
    let (_sim, adapter) = sim(&["-c", "1024", "-np", "2", "--alias", "m"]);
    assert_eq!(adapter.kind(), EngineKind::Llamacpp);
    let properties = adapter.properties().await.unwrap();
    assert_eq!((properties.slots, properties.context_tokens), (Some(2), Some(512)));
    assert_eq!((properties.model.as_str(), properties.chat_template), ("m", true));
    assert_eq!(properties.engine_version, "b1-0c1e570");
    let _running = submit(&adapter, request("[[sim:hang_after=0]]", 5)).await.unwrap();
    let load = Load { running: 1, waiting: None, kv_cache_usage: None };
    assert_eq!(adapter.load().await, Ok(load));
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
async fn the_template_is_the_engines() {
    let (_sim, adapter) = sim(&[]);
    let say =
        |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    let prompt = adapter.apply_template(&[say("system", "s"), say("user", "u")], "A").await;
    assert_eq!(
        prompt,
        Ok(Prompt::Text("<|system|>s<|end|><|user|>u<|end|><|assistant|>A".to_owned()))
    );
}

#[tokio::test]
async fn a_route_that_is_off_is_unsupported() {
    let (_sim, adapter) = sim(&["--no-slots"]);
    assert!(matches!(adapter.load().await, Err(EngineError::Unsupported { .. })));
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
