//! The frames of `/generate_stream`.

use std::borrow::Cow;

use adapter_api::{EngineError, FinishReason, Frames, GenerationEvent, Timings, TokenPiece, Usage};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::errors::{WireError, classify};

/// What is used of a frame; text is borrowed where it needs no unescaping.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default)]
    token: Option<Token<'a>>,
    #[serde(default)]
    details: Option<Details<'a>>,
    /// Not the text: only whether this is the last frame.
    #[serde(default)]
    generated_text: Option<IgnoredAny>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    error_type: Option<String>,
}

#[derive(Deserialize)]
struct Token<'a> {
    id: u32,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow)]
    finish_reason: Cow<'a, str>,
    generated_tokens: u32,
    #[serde(default)]
    input_length: u32,
}

/// The frames of one generation; each is one token.
#[derive(Debug)]
pub(crate) struct StreamFrames {
    max_tokens: u32,
    ids: bool,
    /// As of the latest frame.
    usage: Usage,
}

impl StreamFrames {
    pub(crate) fn new(max_tokens: u32, prompt_tokens: u32, ids: bool) -> Self {
        Self { max_tokens, ids, usage: Usage { prompt_tokens, ..Usage::default() } }
    }

    fn reason(&self, told: &str) -> Result<FinishReason, EngineError> {
        match told {
            // Which stop sequence it was is found in the text, where it stands.
            "eos_token" | "stop_sequence" => Ok(FinishReason::EndOfText),
            "length" if self.usage.output_tokens < self.max_tokens => Ok(FinishReason::ContextFull),
            "length" => Ok(FinishReason::Length),
            other => {
                let message = format!("stream ended with finish reason `{other}`");
                Err(EngineError::Protocol { message })
            }
        }
    }
}

impl Frames for StreamFrames {
    fn read(&mut self, data: &[u8], events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        let frame: Frame<'_> =
            serde_json::from_slice(data).map_err(|it| EngineError::protocol(&it, data))?;
        if let Some(error) = frame.error {
            let error_type = frame.error_type.unwrap_or_default();
            return Err(classify(WireError { error, error_type }));
        }
        if let Some(token) = frame.token {
            self.usage.output_tokens += 1;
            // The end of text has a text too, which is none of the answer's.
            let text = if token.special { String::new() } else { token.text.into_owned() };
            let ids = if self.ids { vec![token.id] } else { Vec::new() };
            events.push(GenerationEvent::Tokens(TokenPiece { text, count: 1, ids }));
        }
        let Some(details) = frame.details else {
            if frame.generated_text.is_none() {
                return Ok(());
            }
            let message = "the last frame came without its details".into();
            return Err(EngineError::Protocol { message });
        };
        self.usage.output_tokens = details.generated_tokens;
        self.usage.prompt_tokens = details.input_length.max(self.usage.prompt_tokens);
        let reason = self.reason(&details.finish_reason)?;
        let timings = Timings::default();
        events.push(GenerationEvent::Finished { reason, usage: self.usage, timings });
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.usage
    }
}

#[cfg(test)]
mod tests;
