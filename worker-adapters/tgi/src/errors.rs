//! The router's error answers, as the classes that callers tell apart.

use adapter_api::{EngineError, quote};
use http::StatusCode;
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct WireError {
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) error_type: String,
}

/// Its own errors are JSON, its framework's are plain text, and some have no body at all.
pub(crate) fn from_answer(status: StatusCode, body: &[u8]) -> EngineError {
    match serde_json::from_slice::<WireError>(body) {
        Ok(error) => match (classify(error), status.as_u16()) {
            // Of a kind that is not known, the status tells whose fault it is; 424 is a shard's.
            (EngineError::Reset { message }, 400..=423) => EngineError::BadRequest { message },
            (error, _) => error,
        },
        Err(_) => {
            let message = format!("status {status} {}", quote(body)).trim_end().to_owned();
            match status.as_u16() {
                401 | 403 => EngineError::Unauthorized,
                404 | 405 => EngineError::Unsupported { message },
                429 => EngineError::Overloaded { retry_after_ms: None },
                400..=499 => EngineError::BadRequest { message },
                503 => EngineError::NotReady { message },
                _ => EngineError::Reset { message },
            }
        }
    }
}

/// A stream's status is 200 whatever happens: the kind alone tells.
pub(crate) fn classify(error: WireError) -> EngineError {
    let message = error.error;
    match error.error_type.as_str() {
        "overloaded" => EngineError::Overloaded { retry_after_ms: None },
        "healthcheck" => EngineError::NotReady { message },
        "validation" if message.contains("must have less than") => EngineError::ContextOverflow {
            prompt_tokens: number_after(&message, "Given:"),
            context_tokens: number_after(&message, "must have less than"),
        },
        "validation" if message.contains("`max_new_tokens` must be <=") => {
            EngineError::ContextOverflow {
                prompt_tokens: number_after(&message, "Given:"),
                context_tokens: number_after(&message, "must be <="),
            }
        }
        "validation" | "template_error" => EngineError::BadRequest { message },
        _ => EngineError::Reset { message },
    }
}

fn number_after(message: &str, mark: &str) -> u32 {
    let Some((_, rest)) = message.split_once(mark) else { return 0 };
    let rest = rest.trim_start();
    let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or(0)
}
