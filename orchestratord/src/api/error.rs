//! Failures as answers: one type, one table.

use api_types::{Detail, ErrorCode, ErrorEnvelope};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use journal::JournalError;

use crate::admission::Refusal;
use crate::wire::envelope;

const BACKOFF_HEADER: HeaderName = HeaderName::from_static("x-backoff-ms");

/// Advice where nothing better is known, in ms.
pub(super) const RETRY_AFTER_DEFAULT_MS: u64 = 1_000;

/// An error on its way out. The middleware renders it, because it alone knows the correlation id.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    pub(crate) details: Vec<Detail>,
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) policy_label: Option<&'static str>,
    pub(crate) earliest_ms: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            retry_after_ms: None,
            policy_label: None,
            earliest_ms: None,
        }
    }

    /// 429 and 503 always say when to come back, others where something is known.
    pub(crate) fn render(self, correlation_id: &str) -> Response {
        let status = self.code.status();
        let advised = matches!(status, 429 | 503);
        let retry_after_ms = self.retry_after_ms.or(advised.then_some(RETRY_AFTER_DEFAULT_MS));
        let body = ErrorEnvelope {
            retry_after_ms,
            policy_label: self.policy_label.map(str::to_owned),
            earliest_ms: self.earliest_ms,
            details: self.details,
            ..envelope(self.code, &self.message, correlation_id)
        };
        let body = serde_json::to_vec(&body).expect("wire types always serialise");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(status).expect("the table holds valid statuses");
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(ms) = retry_after_ms {
            advise(headers, ms);
        }
        response
    }
}

/// When to come back, for generic clients and for ours.
pub(super) fn advise(headers: &mut HeaderMap, ms: u64) {
    headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
    headers.insert(BACKOFF_HEADER, HeaderValue::from(ms));
}

impl From<JournalError> for ApiError {
    fn from(error: JournalError) -> Self {
        tracing::error!(%error, "the journal cannot be read");
        Self::new(ErrorCode::Internal, "what was asked for cannot be read from the journal")
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self { details: refusal.details, ..Self::new(refusal.code, refusal.message) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}
