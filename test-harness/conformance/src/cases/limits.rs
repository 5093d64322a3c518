//! Where an engine's room ends, and how it is left.

use std::time::Instant;

use adapter_api::{EngineError, FinishReason, Load};
use pool_api::Engine;

use super::{PROMPT, Support};
use crate::{Heard, LIMIT, Subject, hear, request, run, submit};

/// A prompt that is too long is refused as that, once.
pub async fn a_prompt_beyond_the_context_is_told(subject: &Subject) -> Support {
    run(subject.adapter.as_ref(), "x").await;
    let before = match &subject.sim {
        Some(_) => subject.requests().await + 1,
        None => 0,
    };
    let words = "word ".repeat(subject.context_tokens as usize * 2);
    let generation = submit(subject.adapter.as_ref(), request(&words, 4)).await;
    let error = match generation {
        Err(error) => Some(error),
        Ok(generation) => hear(generation).await.error,
    };
    if matches!(subject.engine, Engine::Triton(_)) && subject.sim.is_none() {
        // What a model of one's own says of it is its own.
        assert!(error.is_some(), "it was taken");
        return Support::No;
    }
    assert!(matches!(error, Some(EngineError::ContextOverflow { .. })), "{error:?}");
    if subject.sim.is_some() {
        assert_eq!(subject.requests().await - before, 1, "it was sent again");
    }
    Support::Yes
}

/// An answer that fills the context ends with that reason, and not as if it were long enough.
pub async fn a_full_context_is_no_length(subject: &Subject) -> Support {
    if matches!(subject.engine, Engine::Triton(_)) {
        // It tells no context, nor its end.
        return Support::No;
    }
    let adapter = subject.adapter.as_ref();
    let mut prompt = PROMPT.to_owned();
    let left = |tokens: usize| (subject.context_tokens as usize).saturating_sub(tokens);
    // Up to some tokens before the end, so that no model ends by itself before.
    while let Ok(tokens) = adapter.tokenize(&prompt).await
        && 16 < left(tokens.len())
    {
        prompt.push_str(" and");
    }
    let heard = match submit(adapter, request(&prompt, subject.context_tokens - 1)).await {
        Ok(generation) => hear(generation).await,
        // Some refuse what they could not finish.
        Err(EngineError::ContextOverflow { .. }) => return Support::No,
        Err(error) => panic!("{error:?}"),
    };
    match heard.error {
        Some(EngineError::ContextOverflow { .. }) => Support::No,
        Some(error) => panic!("{error:?}"),
        None => {
            assert_eq!(heard.reason(), &FinishReason::ContextFull, "{:?}", heard.finished);
            Support::Yes
        }
    }
}

async fn until_idle(subject: &Subject) -> Support {
    let start = Instant::now();
    loop {
        match subject.adapter.load().await {
            Ok(Load { running: 0, .. }) => return Support::Yes,
            Ok(_) => assert!(start.elapsed() < LIMIT, "the slot is still held"),
            Err(EngineError::Unsupported { .. }) => break,
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // The engine does not tell: the simulator does.
    while subject.sim.is_some() && subject.stats().await["slots_busy"] != 0 {
        assert!(start.elapsed() < LIMIT, "the slot is still held");
    }
    Support::No
}

/// Dropping a generation ends it in the engine, whose own figures say so where it has any.
pub async fn dropping_a_generation_frees_its_slot(subject: &Subject) -> Support {
    let tokens = subject.context_tokens / 2;
    for _ in 0..3 {
        let prompt = "[[sim:decode_us=20000]] a long story";
        let mut generation =
            submit(subject.adapter.as_ref(), request(prompt, tokens)).await.unwrap();
        let mut heard = Heard::default();
        while heard.count == 0 {
            heard.step(generation.as_mut()).await;
        }
        drop(generation);
        until_idle(subject).await;
        assert!(heard.count < tokens, "it ended by itself");
    }
    until_idle(subject).await
}

/// As many at once as there are slots, each with its own answer.
pub async fn generations_run_side_by_side(subject: &Subject) -> Support {
    let alone = {
        let generation = submit(subject.adapter.as_ref(), request("x 4", 9)).await.unwrap();
        hear(generation).await.text
    };
    let mut running = Vec::new();
    for _ in 0..subject.slots {
        running.push(submit(subject.adapter.as_ref(), request("x 4", 9)).await.unwrap());
    }
    for generation in running {
        let heard = hear(generation).await;
        assert_eq!(heard.count, 9);
        if subject.sim.is_some() {
            assert_eq!(heard.text, alone);
        }
    }
    Support::Yes
}
