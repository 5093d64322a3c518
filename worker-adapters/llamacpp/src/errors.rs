//! llama-server's error answers, as the classes that callers tell apart.

use adapter_api::{EngineError, quote};
use http::StatusCode;
use serde::Deserialize;

#[derive(Deserialize)]
struct Envelope {
    error: WireError,
}

/// The value of an `error` key: an object, or a bare text as other servers in front of it write.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum WireError {
    Body(ErrorBody),
    Text(String),
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ErrorBody {
    code: u16,
    message: String,
    #[serde(rename = "type")]
    kind: String,
    n_prompt_tokens: u32,
    n_ctx: u32,
}

impl From<WireError> for ErrorBody {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Body(body) => body,
            WireError::Text(message) => Self { message, ..Self::default() },
        }
    }
}

pub(crate) fn from_answer(status: StatusCode, body: &[u8]) -> EngineError {
    let error = serde_json::from_slice(body).map_or_else(
        |_| ErrorBody { message: quote(body), ..ErrorBody::default() },
        |it: Envelope| it.error.into(),
    );
    classify(status.as_u16(), error)
}

/// An error inside a stream; its own code stands for the status.
pub(crate) fn from_frame(error: WireError) -> EngineError {
    let error = ErrorBody::from(error);
    classify(error.code, error)
}

/// The value of an `error:` line, which servers before October 2025 sent instead of a frame.
pub(crate) fn from_line(value: &[u8]) -> EngineError {
    let error = serde_json::from_slice(value).unwrap_or_else(|_| WireError::Text(quote(value)));
    from_frame(error)
}

fn classify(status: u16, error: ErrorBody) -> EngineError {
    let message = error.message;
    match (status, error.kind.as_str()) {
        (_, "exceed_context_size_error") => EngineError::ContextOverflow {
            prompt_tokens: error.n_prompt_tokens,
            context_tokens: error.n_ctx,
        },
        // Before the type existed, the text alone told.
        (400 | 500, _) if message.contains("exceeds the available context size") => {
            EngineError::ContextOverflow { prompt_tokens: 0, context_tokens: 0 }
        }
        (401 | 403, _) => EngineError::Unauthorized,
        // Not the server's own; a proxy in front of it may say so.
        (429, _) => EngineError::Overloaded { retry_after_ms: None },
        (501 | 404, _) => EngineError::Unsupported { message },
        (503, _) => EngineError::NotReady { message },
        (400..=499, _) => EngineError::BadRequest { message },
        // 0.5.0 answers malformed JSON with 500.
        (500, _) if message.contains("parse_error") => EngineError::BadRequest { message },
        _ => EngineError::Reset { message },
    }
}
