//! The frames of a completion stream.

use std::borrow::Cow;

use adapter_api::{EngineError, FinishReason, Frames, GenerationEvent, Timings, TokenPiece, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::errors::{WireError, from_frame, from_line};

/// What is used of a frame; text is borrowed where it needs no unescaping.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default)]
    content: Cow<'a, str>,
    /// There in every frame, whether they are wanted or not.
    #[serde(borrow, default)]
    tokens: Option<&'a RawValue>,
    #[serde(default)]
    stop: bool,
    #[serde(default)]
    tokens_predicted: u32,
    #[serde(default)]
    tokens_evaluated: u32,
    #[serde(default)]
    truncated: bool,
    #[serde(borrow, default)]
    stop_type: Cow<'a, str>,
    #[serde(borrow, default)]
    stopping_word: Cow<'a, str>,
    #[serde(default)]
    timings: Option<FrameTimings>,
    #[serde(default)]
    prompt_progress: Option<PromptProgress>,
    #[serde(default)]
    error: Option<WireError>,
}

#[derive(Deserialize, Default, Clone, Copy)]
struct FrameTimings {
    #[serde(default)]
    cache_n: u32,
    #[serde(default)]
    prompt_ms: f64,
    #[serde(default)]
    predicted_ms: f64,
}

#[derive(Deserialize)]
struct PromptProgress {
    total: u32,
    processed: u32,
}

/// The frames of one completion. They may tell of no token or of several.
#[derive(Debug)]
pub(crate) struct CompletionFrames {
    ids: bool,
    /// As of the latest frame.
    usage: Usage,
}

impl CompletionFrames {
    /// `ids`: whether the tokens' ids are wanted.
    pub(crate) fn new(ids: bool) -> Self {
        Self { ids, usage: Usage::default() }
    }
}

impl Frames for CompletionFrames {
    fn read(&mut self, data: &[u8], events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        let frame: Frame<'_> =
            serde_json::from_slice(data).map_err(|it| EngineError::protocol(&it, data))?;
        if let Some(error) = frame.error {
            return Err(from_frame(error));
        }
        if let Some(progress) = frame.prompt_progress {
            // Its `tokens` hold a made-up id.
            let PromptProgress { total, processed } = progress;
            events.push(GenerationEvent::PromptProgress { processed, total });
            return Ok(());
        }
        let count = frame.tokens_predicted.saturating_sub(self.usage.output_tokens);
        self.usage.output_tokens += count;
        self.usage.prompt_tokens = frame.tokens_evaluated;
        // The last frame has all tokens counted again but may flush held-back text.
        if !frame.content.is_empty() || (count > 0 && !frame.stop) {
            let text = frame.content.into_owned();
            let ids = match frame.tokens.filter(|_| self.ids) {
                Some(ids) => serde_json::from_str(ids.get())
                    .map_err(|it| EngineError::protocol(&it, data))?,
                None => Vec::new(),
            };
            events.push(GenerationEvent::Tokens(TokenPiece { text, count, ids }));
        }
        if frame.stop {
            let timings = frame.timings.unwrap_or_default();
            self.usage.cached_tokens = timings.cache_n;
            events.push(GenerationEvent::Finished {
                reason: reason(&frame.stop_type, &frame.stopping_word, frame.truncated)?,
                usage: self.usage,
                timings: Timings { prefill_ms: timings.prompt_ms, decode_ms: timings.predicted_ms },
            });
        }
        Ok(())
    }

    fn error_line(&self, value: &[u8]) -> EngineError {
        from_line(value)
    }

    fn usage(&self) -> Usage {
        self.usage
    }
}

fn reason(stop_type: &str, word: &str, truncated: bool) -> Result<FinishReason, EngineError> {
    match stop_type {
        "eos" => Ok(FinishReason::EndOfText),
        "word" => Ok(FinishReason::StopSequence(word.to_owned())),
        "limit" if truncated => Ok(FinishReason::ContextFull),
        "limit" => Ok(FinishReason::Length),
        other => {
            let message = format!("stream ended with stop type `{other}`");
            Err(EngineError::Protocol { message })
        }
    }
}

#[cfg(test)]
mod tests;
