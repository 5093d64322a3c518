//! Extractors whose refusals are ours: what a path or a query gets wrong has the envelope too.

use api_types::{Detail, ErrorCode};
use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The `{id}` of a path.
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(error) => Err(ApiError::new(ErrorCode::InvalidParams, error.body_text())),
        }
    }
}

/// The query, as a type that refuses unknown keys.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(error) => Err(refused(&error.body_text())),
        }
    }
}

/// A key of the query whose value cannot be used.
pub(super) fn wrong(key: &str, found: &str, expected: &str) -> ApiError {
    let message = format!("?{key}: found {found}, expected {expected}");
    let details =
        vec![Detail { pointer: key.into(), found: found.into(), expected: expected.into() }];
    ApiError { details, ..ApiError::new(ErrorCode::InvalidParams, message) }
}

/// axum says "Failed to deserialize query string: state: unknown variant `x`, expected one of ...",
/// and "duplicate field `state`" without the key before it.
fn refused(text: &str) -> ApiError {
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    let (key, problem) =
        text.split_once(": ").unwrap_or_else(|| (text.split('`').nth(1).unwrap_or_default(), text));
    let fallback = if problem.starts_with("duplicate") { "each key once" } else { "a valid value" };
    let (found, expected) = problem.split_once(", expected ").unwrap_or((problem, fallback));
    wrong(key, found, expected)
}
