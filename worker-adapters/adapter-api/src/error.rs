//! One error enum for every engine: the classes a caller can tell apart.

/// Why an engine did not do what it was asked.
///
/// Messages come from engines and may quote a request; they are for operators' logs and for the
/// caller who sent the request, never for other tenants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine says that it has no room now.
    #[error("engine is overloaded")]
    Overloaded { retry_after_ms: Option<u64> },
    /// The engine process answers, but its model is not loaded.
    #[error("engine is not ready: {message}")]
    NotReady { message: String },
    /// No connection could be made; nothing reached the engine.
    #[error("engine is unreachable: {message}")]
    Unreachable { message: String },
    /// Prompt and answer do not fit into one slot's context.
    #[error("prompt of {prompt_tokens} tokens exceeds the context of {context_tokens}")]
    ContextOverflow { prompt_tokens: u32, context_tokens: u32 },
    /// The engine refused the request as malformed; repeating it cannot help.
    #[error("engine refused the request: {message}")]
    BadRequest { message: String },
    /// The engine's key is missing or wrong: a configuration error of ours.
    #[error("engine refused our key")]
    Unauthorized,
    /// The engine cannot do this at all (route or feature is off).
    #[error("engine does not support this: {message}")]
    Unsupported { message: String },
    /// The connection broke, the stream ended without its final event, or the engine said 5xx.
    #[error("engine failed: {message}")]
    Reset { message: String },
    /// The engine did not answer within the time the adapter allows.
    #[error("engine did not answer within {limit_ms} ms")]
    Timeout { limit_ms: u64 },
    /// The engine sent something that is not its protocol.
    #[error("engine broke its protocol: {message}")]
    Protocol { message: String },
}

/// Longest piece of a foreign answer that is quoted in a message.
const QUOTE_CHARS_MAX: usize = 200;

/// The beginning of a foreign answer, for a message.
#[must_use]
pub fn quote(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(QUOTE_CHARS_MAX).collect()
}

impl EngineError {
    /// The engine sent `body`, which is not its protocol.
    #[must_use]
    pub fn protocol(error: &dyn std::fmt::Display, body: &[u8]) -> Self {
        Self::Protocol { message: format!("{error} in `{}`", quote(body)) }
    }

    /// Whether the same request may be sent again, given that no token was received.
    #[must_use]
    pub fn retriable_before_first_token(&self) -> bool {
        match self {
            Self::Overloaded { .. }
            | Self::NotReady { .. }
            | Self::Unreachable { .. }
            | Self::Reset { .. } => true,
            Self::ContextOverflow { .. }
            | Self::BadRequest { .. }
            | Self::Unauthorized
            | Self::Unsupported { .. }
            | Self::Timeout { .. }
            | Self::Protocol { .. } => false,
        }
    }
}
