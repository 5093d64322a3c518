//! The chunks of a completion stream.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use adapter_api::{EngineError, FinishReason, Frames, GenerationEvent, Timings, TokenPiece, Usage};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::errors::{WireError, from_frame};

/// What is used of a chunk; text is borrowed where it needs no unescaping.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "first")]
    choices: Option<Choice<'a>>,
    #[serde(default)]
    usage: Option<ChunkUsage>,
    #[serde(default)]
    metrics: Option<Metrics>,
    #[serde(default)]
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize, Clone, Copy)]
struct ChunkUsage {
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize, Clone, Copy)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

/// There with `--enable-per-request-metrics`. The time to the first token is without the queue.
#[derive(Deserialize, Clone, Copy)]
struct Metrics {
    #[serde(default)]
    time_to_first_token_ms: f64,
    #[serde(default)]
    generation_time_ms: f64,
}

/// The only choice that is asked for, without a list around it.
fn first<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Choice<'de>>, D::Error> {
    struct First<'de>(PhantomData<&'de ()>);
    impl<'de> Visitor<'de> for First<'de> {
        type Value = Option<Choice<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of choices")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let first = list.next_element()?;
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }
    from.deserialize_seq(First(PhantomData))
}

/// The chunks of one completion.
#[derive(Debug)]
pub(crate) struct CompletionFrames {
    max_tokens: u32,
    /// As of the latest chunk.
    usage: Usage,
    /// Told with the last token; the final figures follow it.
    reason: Option<FinishReason>,
}

impl CompletionFrames {
    pub(crate) fn new(max_tokens: u32) -> Self {
        Self { max_tokens, usage: Usage::default(), reason: None }
    }

    fn finish(&mut self, metrics: Option<Metrics>) -> Option<GenerationEvent> {
        let reason = self.reason.take()?;
        let timings = metrics.map(|it| Timings {
            prefill_ms: it.time_to_first_token_ms,
            decode_ms: it.generation_time_ms,
        });
        let (usage, timings) = (self.usage, timings.unwrap_or_default());
        Some(GenerationEvent::Finished { reason, usage, timings })
    }

    /// `length` is told for a full context as well, which 0.32 caps the request to without a word.
    fn reason(&self, told: &str) -> Result<FinishReason, EngineError> {
        match told {
            // Which stop sequence it was is found in the text.
            "stop" => Ok(FinishReason::EndOfText),
            "length" if self.usage.output_tokens < self.max_tokens => Ok(FinishReason::ContextFull),
            "length" => Ok(FinishReason::Length),
            // Not by us, who would have closed the connection: the engine sleeps, or an operator did.
            "abort" => Err(EngineError::Reset { message: "the engine aborted the request".into() }),
            other => {
                let message = format!("stream ended with finish reason `{other}`");
                Err(EngineError::Protocol { message })
            }
        }
    }
}

impl Frames for CompletionFrames {
    fn read(&mut self, data: &[u8], events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        if data == b"[DONE]" {
            return self.ended(events);
        }
        let chunk: Chunk<'_> =
            serde_json::from_slice(data).map_err(|it| EngineError::protocol(&it, data))?;
        if let Some(error) = chunk.error {
            return Err(from_frame(error));
        }
        let mut count = 0;
        if let Some(told) = chunk.usage {
            count = told.completion_tokens.saturating_sub(self.usage.output_tokens);
            let cached = told.prompt_tokens_details.and_then(|it| it.cached_tokens);
            self.usage.prompt_tokens = told.prompt_tokens;
            self.usage.output_tokens += count;
            self.usage.cached_tokens = cached.unwrap_or(self.usage.cached_tokens);
        }
        let Some(choice) = chunk.choices else {
            events.extend(self.finish(chunk.metrics));
            return Ok(());
        };
        if 0 < count || !choice.text.is_empty() {
            events.push(GenerationEvent::Tokens(TokenPiece {
                text: choice.text.into_owned(),
                count,
                ids: choice.token_ids.unwrap_or_default(),
            }));
        }
        // Servers that speak the same dialect write an empty one for none.
        if let Some(reason) = choice.finish_reason.filter(|it| !it.is_empty()) {
            self.reason = Some(self.reason(&reason)?);
        }
        Ok(())
    }

    fn ended(&mut self, events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        let message = "the stream ended without a finish reason".to_owned();
        events.push(self.finish(None).ok_or(EngineError::Reset { message })?);
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.reason.is_some()
    }

    fn usage(&self) -> Usage {
        self.usage
    }
}

#[cfg(test)]
mod tests;
