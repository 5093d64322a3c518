//! The frames of `generate_stream`: one JSON object each, with the model's outputs as its members.

use std::borrow::Cow;
use std::fmt;

use adapter_api::{EngineError, FinishReason, Frames, GenerationEvent, Timings, TokenPiece, Usage};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

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
    fn added(&mut self, text: Cow<'_, str>) -> Result<String, EngineError> {
        if !self.fields.cumulative {
            return Ok(text.into_owned());
        }
        let Some(added) = text.get(self.said..) else {
            let message = "the text so far is not repeated".into();
            return Err(EngineError::Protocol { message });
        };
        self.said = text.len();
        Ok(added.to_owned())
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

/// What is used of a frame, whose members the model's fields name.
#[derive(Default)]
struct Frame<'a> {
    text: Cow<'a, str>,
    finish_reason: Option<Cow<'a, str>>,
    prompt_tokens: Option<u32>,
    output_tokens: Option<u32>,
    error: Option<String>,
}

/// A text, or nothing; it is copied only where it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Named<'f>(&'f Fields);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Frame<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Frame<'de>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Frame<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the model's outputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame<'de>, A::Error> {
        let fields = self.0;
        let is = |name: &Option<String>, key: &str| name.as_deref() == Some(key);
        let mut frame = Frame::default();
        while let Some(Text(key)) = map.next_key()? {
            if *key == fields.text {
                frame.text = map.next_value::<Text<'de>>()?.0;
            } else if is(&fields.finish_reason, &key) {
                frame.finish_reason = map.next_value::<Option<Text<'de>>>()?.map(|it| it.0);
            } else if is(&fields.prompt_tokens, &key) {
                frame.prompt_tokens = Some(map.next_value()?);
            } else if is(&fields.output_tokens, &key) {
                frame.output_tokens = Some(map.next_value()?);
            } else if *key == *"error" {
                frame.error = Some(map.next_value::<Text<'de>>()?.0.into_owned());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(frame)
    }
}

impl Frames for GenerateFrames {
    fn read(&mut self, data: &[u8], events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        let mut json = serde_json::Deserializer::from_slice(data);
        let frame = Named(&self.fields)
            .deserialize(&mut json)
            .and_then(|frame| json.end().map(|()| frame))
            .map_err(|it| EngineError::protocol(&it, data))?;
        if let Some(message) = frame.error {
            return Err(from_frame(message));
        }
        let text = self.added(frame.text)?;
        let count = match &self.fields.output_tokens {
            Some(_) => frame.output_tokens.unwrap_or(0),
            None => u32::from(!text.is_empty()),
        };
        self.usage.output_tokens += count;
        // The same in every frame.
        self.usage.prompt_tokens = frame.prompt_tokens.unwrap_or(self.usage.prompt_tokens);
        if 0 < count || !text.is_empty() {
            events.push(GenerationEvent::Tokens(TokenPiece { text, count, ids: Vec::new() }));
        }
        match frame.finish_reason.as_deref() {
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

#[cfg(test)]
mod tests;
