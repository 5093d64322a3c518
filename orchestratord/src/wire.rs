//! The error envelope, filled in one place.

use api_types::{ErrorCode, ErrorEnvelope};

/// The words of `STORAGE_FULL`.
pub(crate) const STORAGE_FULL: &str = "the journal cannot be written: its disk is full or broken";

/// An envelope with the code's own retriability and nothing optional.
pub(crate) fn envelope(code: ErrorCode, message: &str, correlation_id: &str) -> ErrorEnvelope {
    ErrorEnvelope {
        code,
        message: message.to_owned(),
        retriable: code.retriable(),
        retry_after_ms: None,
        policy_label: None,
        engine: None,
        pool_id: None,
        earliest_ms: None,
        correlation_id: correlation_id.to_owned(),
        details: Vec::new(),
    }
}
