//! llama-server's error answers, as the classes that callers tell apart.

use adapter_api::EngineError;
use http::StatusCode;
use serde::Deserialize;

/// Longest piece of a foreign answer that is quoted in a message.
const QUOTE_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
struct Envelope {
    error: ErrorBody,
}

#[derive(Deserialize, Default)]
pub(crate) struct ErrorBody {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    n_prompt_tokens: u32,
    #[serde(default)]
    n_ctx: u32,
}

pub(crate) fn from_answer(status: StatusCode, body: &[u8]) -> EngineError {
    let error = serde_json::from_slice(body).map_or_else(
        |_| ErrorBody { message: quote(body), ..ErrorBody::default() },
        |it: Envelope| it.error,
    );
    classify(status.as_u16(), error)
}

/// An `error` object inside a stream; its own code stands for the status.
pub(crate) fn from_frame(error: ErrorBody) -> EngineError {
    classify(error.code, error)
}

fn classify(status: u16, error: ErrorBody) -> EngineError {
    let message = error.message;
    match (status, error.kind.as_str()) {
        (_, "exceed_context_size_error") => EngineError::ContextOverflow {
            prompt_tokens: error.n_prompt_tokens,
            context_tokens: error.n_ctx,
        },
        (401, _) => EngineError::Unauthorized,
        (501 | 404, _) => EngineError::Unsupported { message },
        (503, _) => EngineError::NotReady { message },
        (400..=499, _) => EngineError::BadRequest { message },
        // 0.5.0 answers malformed JSON with 500.
        (500, _) if message.contains("parse_error") => EngineError::BadRequest { message },
        _ => EngineError::Reset { message },
    }
}

pub(crate) fn protocol(error: &serde_json::Error, body: &[u8]) -> EngineError {
    EngineError::Protocol { message: format!("{error} in `{}`", quote(body)) }
}

fn quote(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(QUOTE_CHARS_MAX).collect()
}
