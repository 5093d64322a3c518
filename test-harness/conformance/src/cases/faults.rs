//! What a simulated engine is made to do wrong.

use std::time::Duration;

use adapter_api::{EngineError, FinishReason};
use serde_json::json;

use super::Support;
use crate::{Heard, Setup, Subject, hear, request, run, submit};

/// A fresh engine for a fault that may end it.
fn another(subject: &Subject) -> Subject {
    let flags: Vec<&str> = subject.flags.iter().map(String::as_str).collect();
    Subject::simulated(&subject.engine, Setup { flags: &flags, ..Setup::default() })
}

/// Whatever way a stream is cut, it is broken, and its tokens are kept.
pub async fn a_cut_stream_is_broken_and_keeps_its_tokens(subject: &Subject) -> Support {
    for fault in ["eof_after=3", "half_close_after=3", "die_after=3", "error_after=3"] {
        for shape in ["", " merge=9", " split=5"] {
            let subject = another(subject);
            let case = format!("{fault}{shape}");
            let heard = run(subject.adapter.as_ref(), &format!("[[sim:{case}]]")).await;
            assert!(matches!(heard.error, Some(EngineError::Reset { .. })), "{case}: {heard:?}");
            assert_eq!((heard.text.as_str(), heard.count), (" 0 1 2", 3), "{case}");
        }
    }
    Support::Yes
}

/// A stream that ends properly where no engine tells its end cannot be told from a whole one; all
/// others are not whole without their last word.
pub async fn all_tokens_without_the_last_word_are_no_success(subject: &Subject) -> Support {
    let heard = run(subject.adapter.as_ref(), "[[sim:eof_after=5]]").await;
    assert!(matches!(heard.error, Some(EngineError::Reset { .. })), "{heard:?}");
    assert_eq!(heard.count, 5);
    Support::Yes
}

/// A reset may take what came just before it along, and never makes it something else.
pub async fn a_reset_is_broken_whatever_came_before(subject: &Subject) -> Support {
    let subject = another(subject);
    let heard = match submit(subject.adapter.as_ref(), request("[[sim:reset_after=3]]", 5)).await {
        Ok(generation) => hear(generation).await,
        // It took the head of the answer along.
        Err(error) => Heard { error: Some(error), ..Heard::default() },
    };
    assert!(matches!(heard.error, Some(EngineError::Reset { .. })), "{heard:?}");
    assert!(" 0 1 2".starts_with(&heard.text), "{heard:?}");
    Support::Yes
}

/// Behind whole frames, or among them.
pub async fn a_frame_that_is_not_json_breaks_the_protocol(subject: &Subject) -> Support {
    for shape in ["", " merge=9"] {
        let prompt = format!("[[sim:malformed_after=2{shape}]]");
        let heard = run(subject.adapter.as_ref(), &prompt).await;
        assert!(matches!(heard.error, Some(EngineError::Protocol { .. })), "{heard:?}");
        assert_eq!(heard.text, " 0 1", "{shape}");
    }
    Support::Yes
}

/// One byte at a time, in pieces of any size, or many frames at once.
pub async fn frames_cut_or_merged_anywhere_give_the_same_text(subject: &Subject) -> Support {
    let whole = run(subject.adapter.as_ref(), "[[sim:utf8=1]]").await.text;
    assert_eq!(whole, " ☃0é ☃1é ☃2é ☃3é ☃4é");
    for shape in (1..=40).map(|size| format!("split={size}")).chain(["merge=3".into()]) {
        let heard = run(subject.adapter.as_ref(), &format!("[[sim:utf8=1 {shape}]]")).await;
        assert_eq!((heard.text.as_str(), heard.count), (whole.as_str(), 5), "{shape}");
        assert_eq!(heard.reason(), &FinishReason::Length, "{shape}");
    }
    Support::Yes
}

/// What failed before the first token is sent three times at most, and what came later never.
pub async fn nothing_is_sent_again_after_the_first_token(subject: &Subject) -> Support {
    // What must be asked once is asked now.
    run(subject.adapter.as_ref(), "x").await;
    for (status, expected) in [(500, 3), (503, 3), (400, 1)] {
        let before = subject.requests().await;
        let prompt = format!("[[sim:status={status}]]");
        assert!(submit(subject.adapter.as_ref(), request(&prompt, 5)).await.is_err(), "{status}");
        // The first question is counted by now.
        assert_eq!(subject.requests().await - before - 1, expected, "{status}");
    }
    let before = subject.requests().await;
    assert!(run(subject.adapter.as_ref(), "[[sim:eof_after=1]]").await.error.is_some());
    assert_eq!(subject.requests().await - before - 1, 1);
    Support::Yes
}

/// An engine that says it has no room is asked three times in all, and then that is what is told.
pub async fn no_room_is_told_as_that(subject: &Subject) -> Support {
    let adapter = subject.adapter.as_ref();
    let mut running = Vec::new();
    // Slots, and what waits in front of them.
    for _ in 0..subject.slots * 2 {
        let hangs = request("[[sim:hang_after=1]]", 5);
        let submitted = tokio::time::timeout(Duration::from_millis(300), adapter.submit(hangs));
        if let Ok(Ok(generation)) = submitted.await {
            running.push(generation);
        }
    }
    let before = subject.requests().await;
    let refused = submit(adapter, request("x", 1)).await.err();
    assert!(matches!(refused, Some(EngineError::Overloaded { .. })), "{refused:?}");
    assert_eq!(subject.requests().await - before - 1, 3);
    Support::Yes
}

/// Connections that are closed at the door are tried again.
pub async fn a_closed_door_is_tried_again(subject: &Subject) -> Support {
    let subject = another(subject);
    // What must be asked once is asked now.
    run(subject.adapter.as_ref(), "x").await;
    subject.order(&json!({"refuse": 1})).await;
    let fresh = engines::connect(&subject.engine, &subject.url, None);
    assert_eq!(run(fresh.as_ref(), "x").await.text, " 0 1 2 3 4");
    Support::Yes
}

/// An engine that is gone cannot be reached.
pub async fn an_engine_that_is_gone_is_unreachable(subject: &Subject) -> Support {
    let mut subject = another(subject);
    run(subject.adapter.as_ref(), "x").await;
    subject.sim.as_mut().unwrap().kill();
    let gone = |error: EngineError| matches!(error, EngineError::Unreachable { .. });
    let submitted = submit(subject.adapter.as_ref(), request("x", 1)).await.err();
    assert!(submitted.clone().is_some_and(gone), "{submitted:?}");
    assert!(subject.adapter.health().await.is_err_and(gone));
    Support::Yes
}

/// A generation that hangs is nobody's to end but its caller's, who frees the slot by leaving.
pub async fn a_hung_generation_is_left_by_dropping_it(subject: &Subject) -> Support {
    let prompt = "[[sim:hang_after=2]]";
    let mut generation = submit(subject.adapter.as_ref(), request(prompt, 5)).await.unwrap();
    let mut heard = Heard::default();
    while heard.count < 2 {
        heard.step(generation.as_mut()).await;
    }
    let more = heard.step(generation.as_mut());
    assert!(tokio::time::timeout(Duration::from_millis(100), more).await.is_err());
    drop(generation);
    assert_eq!(run(subject.adapter.as_ref(), "x").await.count, 5);
    Support::Yes
}

/// Many streams that break off do not cost one of their tokens.
pub async fn tokens_that_arrive_while_the_stream_breaks_are_not_lost(subject: &Subject) -> Support {
    for _ in 0..100 {
        let generation =
            submit(subject.adapter.as_ref(), request("[[sim:eof_after=3]]", 5)).await.unwrap();
        assert_eq!(hear(generation).await.text, " 0 1 2");
    }
    Support::Yes
}
