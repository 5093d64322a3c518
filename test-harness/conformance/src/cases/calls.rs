//! The calls around a generation.

use adapter_api::{Adapter, ChatMessage, EngineError, Health, Prompt};
use pool_api::Engine;

use super::Support;
use crate::{Subject, hear, request, run, submit};

/// Version, context and slots, as far as the engine tells them.
pub async fn it_says_what_it_is(subject: &Subject) -> Support {
    let adapter = subject.adapter.as_ref();
    assert_eq!(adapter.kind().as_str(), subject.engine.name());
    assert_eq!(adapter.health().await, Ok(Health::Ready));
    let properties = adapter.properties().await.unwrap();
    assert!(!properties.engine_version.is_empty() && !properties.model.is_empty());
    let tells_context = !matches!(subject.engine, Engine::Triton(_));
    let context = tells_context.then_some(subject.context_tokens);
    assert_eq!(properties.context_tokens, context, "{properties:?}");
    match subject.engine {
        Engine::Llamacpp | Engine::Tgi => assert_eq!(properties.slots, Some(subject.slots)),
        Engine::Vllm | Engine::Triton(_) => assert_eq!(properties.slots, None),
    }
    if tells_context { Support::Yes } else { Support::No }
}

/// The tokenizer counts what the engine then counts.
pub async fn its_tokenizer_counts_as_it_does(subject: &Subject) -> Support {
    let adapter = subject.adapter.as_ref();
    if matches!(subject.engine, Engine::Triton(_)) {
        let refused = adapter.tokenize("x").await.err();
        assert!(matches!(refused, Some(EngineError::Unsupported { .. })), "{refused:?}");
        return Support::No;
    }
    for text in ["x", "a longer text \"with\" ☃"] {
        let ids = adapter.tokenize(text).await.unwrap();
        let told = run(adapter, text).await.usage().prompt_tokens;
        assert_eq!(told as usize, ids.len(), "{text:?}");
    }
    Support::Yes
}

/// A conversation becomes a prompt that ends where the assistant speaks, or has begun to.
pub async fn messages_go_through_its_template(subject: &Subject) -> Support {
    let adapter = subject.adapter.as_ref();
    let say =
        |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    let messages = [say("system", "You are terse."), say("user", "Who are you?")];
    if !adapter.properties().await.unwrap().chat_template {
        let refused = adapter.apply_template(&messages, "").await.err();
        assert!(
            matches!(
                refused,
                Some(EngineError::Unsupported { .. } | EngineError::BadRequest { .. })
            ),
            "{refused:?}"
        );
        return Support::No;
    }
    let size = async |prompt: Prompt| match prompt {
        Prompt::Text(text) => adapter.tokenize(&text).await.unwrap().len(),
        Prompt::TokenIds(ids) => ids.len(),
    };
    let bare = adapter.apply_template(&messages, "").await.unwrap();
    let begun = adapter.apply_template(&messages, "I am the").await.unwrap();
    let (shorter, longer) = (size(bare.clone()).await, size(begun).await);
    assert!(shorter < longer, "{shorter} {longer}");
    let mut asked = request("", 3);
    asked.prompt = bare;
    assert_eq!(hear(submit(adapter, asked).await.unwrap()).await.count, 3);
    Support::Yes
}

/// One vector for each text, in their order; equal for equal texts.
pub async fn texts_become_vectors(subject: &Subject) -> Support {
    let texts = ["a beginning", "an end", "a beginning"].map(str::to_owned);
    let found = match subject.adapter.embed(&texts).await {
        Err(EngineError::Unsupported { .. }) => return Support::No,
        found => found.unwrap(),
    };
    assert_eq!((found.vectors.len(), found.vectors[0] == found.vectors[1]), (3, false));
    let differ = |a: &f32, b: &f32| 1e-4 < (a - b).abs();
    let pairs = found.vectors[0].iter().zip(&found.vectors[2]);
    assert_eq!(pairs.filter(|(a, b)| differ(a, b)).count(), 0);
    assert!(0 < found.prompt_tokens && !found.vectors[0].is_empty());
    Support::Yes
}

/// One score for each document, in their order, whatever order the engine ranks them in.
pub async fn documents_are_scored_in_their_places(subject: &Subject) -> Support {
    let documents = ["nothing of it", "words to find", "words", "words to find"];
    let documents = documents.map(str::to_owned);
    let found = match subject.adapter.rerank("words to find", &documents).await {
        Err(EngineError::Unsupported { .. }) => return Support::No,
        found => found.unwrap(),
    };
    let scores = &found.scores;
    assert!(scores.len() == 4 && (scores[1] - scores[3]).abs() < 1e-3, "{scores:?}");
    assert!(scores[0] != scores[1], "{scores:?}");
    if subject.sim.is_some() {
        assert!(scores[0] < scores[2] && scores[2] < scores[1], "{scores:?}");
    }
    assert!(0 < found.prompt_tokens);
    Support::Yes
}

/// Calls one after another share a few connections.
pub async fn connections_are_kept(subject: &Subject) -> Support {
    for _ in 0..20 {
        run(subject.adapter.as_ref(), "[[sim:split=1]]").await;
        run(subject.adapter.as_ref(), "x").await;
    }
    // A call may start before the connection of the one before it is back, and this question has one
    // of its own; a connection for each of the 40 calls would be the failure.
    let stats = subject.stats().await;
    assert!(stats["connections"].as_u64().unwrap() <= 8, "{stats}");
    Support::Yes
}

/// A key that is wrong is told as such, and no key is ever shown.
pub async fn the_key_is_sent_and_never_shown(subject: &Subject, key: &str) -> Support {
    let connect = |key| engines::connect(&subject.engine, &subject.url, key);
    let (wrong, none) = (connect(Some("w-r-o-n-g")), connect(None));
    for adapter in [&wrong, &none] {
        let refused = submit(adapter.as_ref(), request("x", 1)).await.err();
        assert_eq!(refused, Some(EngineError::Unauthorized));
    }
    assert_eq!(run(subject.adapter.as_ref(), "x").await.count, 5);
    let refused = submit(wrong.as_ref(), request("x", 1)).await.err().unwrap();
    let shown = format!("{refused} {refused:?}");
    assert!(!shown.contains(key) && !shown.contains("w-r-o-n-g"), "{shown}");
    Support::Yes
}

/// Whoever started it is right, whatever it says while it loads.
pub async fn while_it_loads_it_is_not_ready(adapter: &dyn Adapter) -> Support {
    let health = adapter.health().await;
    assert!(
        matches!(health, Ok(Health::Loading) | Err(EngineError::Unreachable { .. })),
        "{health:?}"
    );
    Support::Yes
}
