//! The frames of `generate_stream`: one JSON object each, with the model's outputs as its members.

use adapter_api::{EngineError, FinishReason, Frames, GenerationEvent, Timings, TokenPiece, Usage};
use serde_json::{Map, Value};

use crate::errors::from_frame;
use crate::fields::Fields;

/// The frames of one generation.
#[derive(Debug)]
pub(crate) struct GenerateFrames {
    fields: Fields,
    max_tokens: u32,
    /// Bytes of the answer so far, where frames repeat it.
    said: usize,
    /// As of the latest frame.
    usage: Usage,
}

impl GenerateFrames {
    pub(crate) fn new(fields: &Fields, max_tokens: u32) -> Self {
        Self { fields: fields.clone(), max_tokens, said: 0, usage: Usage::default() }
    }

    /// What the frame adds to the answer.
    fn text(&mut self, frame: &mut Map<String, Value>) -> Result<String, EngineError> {
        let mut text = match frame.remove(&self.fields.text) {
            Some(Value::String(text)) => text,
            None => String::new(),
            Some(other) => {
                let message = format!("`{}` is {other}, expected a text", self.fields.text);
                return Err(EngineError::Protocol { message });
            }
        };
        if self.fields.cumulative {
            let Some(added) = text.get(self.said..) else {
                let message = "the text so far is not repeated".into();
                return Err(EngineError::Protocol { message });
            };
            let added = added.to_owned();
            self.said = text.len();
            text = added;
        }
        Ok(text)
    }

    fn finish(&self, told: Option<&str>) -> GenerationEvent {
        let full = self.max_tokens <= self.usage.output_tokens;
        let reason = match told {
            Some("length") if !full && self.fields.output_tokens.is_some() => {
                FinishReason::ContextFull
            }
            Some("length") => FinishReason::Length,
            // Without a word of its own, an answer as long as it may be has ended for that.
            None if full => FinishReason::Length,
            Some(_) | None => FinishReason::EndOfText,
        };
        GenerationEvent::Finished { reason, usage: self.usage, timings: Timings::default() }
    }
}

fn number(frame: &Map<String, Value>, name: Option<&String>) -> Option<u32> {
    let value = frame.get(name?)?.as_u64()?;
    Some(u32::try_from(value).unwrap_or(u32::MAX))
}

impl Frames for GenerateFrames {
    fn read(&mut self, data: &[u8], events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        let mut frame: Map<String, Value> =
            serde_json::from_slice(data).map_err(|it| EngineError::protocol(&it, data))?;
        if let Some(Value::String(message)) = frame.remove("error") {
            return Err(from_frame(message));
        }
        let text = self.text(&mut frame)?;
        let count = match &self.fields.output_tokens {
            Some(name) => number(&frame, Some(name)).unwrap_or(0),
            None => u32::from(!text.is_empty()),
        };
        self.usage.output_tokens += count;
        if let Some(prompt_tokens) = number(&frame, self.fields.prompt_tokens.as_ref()) {
            // The same in every frame.
            self.usage.prompt_tokens = prompt_tokens;
        }
        if 0 < count || !text.is_empty() {
            events.push(GenerationEvent::Tokens(TokenPiece { text, count, ids: Vec::new() }));
        }
        let told = self.fields.finish_reason.as_ref().and_then(|it| frame.get(it));
        match told.and_then(Value::as_str) {
            // The vLLM backend writes Python's word for nothing.
            None | Some("" | "None") => {}
            Some(told) => events.push(self.finish(Some(told))),
        }
        Ok(())
    }

    fn ended(&mut self, events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        if self.fields.finish_reason.is_some() {
            let message = "the stream ended without a finish reason".into();
            return Err(EngineError::Reset { message });
        }
        events.push(self.finish(None));
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.usage
    }
}
