//! The server's error answers, as the classes that callers tell apart.

use adapter_api::{EngineError, quote};
use http::StatusCode;
use serde::Deserialize;

#[derive(Deserialize)]
struct WireError {
    error: String,
}

/// An error before the first token is one JSON document, or, from a model's first answer, an event of
/// a stream that has the status of the error.
pub(crate) fn from_answer(status: StatusCode, body: &[u8]) -> EngineError {
    let document = body.strip_prefix(b"data: ").unwrap_or(body);
    let message = serde_json::from_slice::<WireError>(document)
        .map_or_else(|_| format!("status {status} {}", quote(body)), |it| it.error);
    classify(status.as_u16(), message.trim_end().to_owned())
}

/// An error behind tokens has no status.
pub(crate) fn from_frame(message: String) -> EngineError {
    classify(500, message)
}

fn classify(status: u16, message: String) -> EngineError {
    let has = |part: &str| message.contains(part);
    match status {
        // The backends' own words: vLLM's, and TensorRT-LLM's.
        400 | 500 if has("maximum context length") || has("exceeds maximum input length") => {
            EngineError::ContextOverflow { prompt_tokens: 0, context_tokens: 0 }
        }
        401 | 403 => EngineError::Unauthorized,
        404 if has("no available versions") => EngineError::NotReady { message },
        404 | 501 => EngineError::Unsupported { message },
        429 | 503 => EngineError::Overloaded { retry_after_ms: None },
        400..=499 => EngineError::BadRequest { message },
        500 if has("Unable to parse") || has("failed to parse the request") => {
            EngineError::BadRequest { message }
        }
        _ => EngineError::Reset { message },
    }
}
