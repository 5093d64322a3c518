//! vLLM's error answers, as the classes that callers tell apart.

use adapter_api::{EngineError, quote};
use http::StatusCode;
use serde::Deserialize;

/// The server writes three forms: its own object, a bare text where the key is wrong, and its
/// framework's `detail`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Envelope {
    error: Option<WireError>,
    detail: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum WireError {
    Body(ErrorBody),
    Text(String),
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ErrorBody {
    message: String,
    param: Option<String>,
    code: Option<u16>,
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
    let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
    let error = match (envelope.error, envelope.detail) {
        (Some(error), _) => error.into(),
        (None, Some(detail)) => ErrorBody { message: detail.to_string(), ..ErrorBody::default() },
        (None, None) => ErrorBody { message: quote(body), ..ErrorBody::default() },
    };
    classify(status.as_u16(), error)
}

/// An error inside a stream; its own code stands for the status.
pub(crate) fn from_frame(error: WireError) -> EngineError {
    let error = ErrorBody::from(error);
    classify(error.code.unwrap_or(500), error)
}

fn classify(status: u16, error: ErrorBody) -> EngineError {
    let message = error.message;
    let about_input =
        error.param.as_deref().is_some_and(|it| it == "input_tokens" || it == "input_text");
    match status {
        400 | 422 if about_input || message.contains("maximum context length") => {
            overflow(&message)
        }
        401 | 403 => EngineError::Unauthorized,
        // The model's name is ours to know; another one is there now.
        404 if error.param.as_deref() == Some("model") => EngineError::NotReady { message },
        404 | 405 | 501 => EngineError::Unsupported { message },
        429 | 503 => EngineError::Overloaded { retry_after_ms: None },
        400..=499 => EngineError::BadRequest { message },
        _ => EngineError::Reset { message },
    }
}

/// The text names the context first and then what the prompt has, in tokens or, where its length
/// alone told, in characters.
fn overflow(message: &str) -> EngineError {
    let after = |mark: &str| {
        let digits = message.split_once(mark)?.1.trim_start();
        let end = digits.find(|it: char| !it.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse::<u32>().ok()
    };
    let prompt_tokens = if message.contains("input tokens") { after("contains") } else { None };
    EngineError::ContextOverflow {
        prompt_tokens: prompt_tokens.unwrap_or(0),
        context_tokens: after("maximum context length is").unwrap_or(0),
    }
}
