//! The id that ties a request's response and log lines together.

use http::{HeaderMap, HeaderName};

pub const CORRELATION_HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// The caller's id if it matches `^[A-Za-z0-9._-]{1,64}$`, else 16 random hex digits.
#[must_use]
pub fn correlation_id(headers: &HeaderMap) -> String {
    headers
        .get(CORRELATION_HEADER)
        .and_then(|it| it.to_str().ok())
        .filter(|it| is_valid(it))
        .map_or_else(generate, str::to_owned)
}

fn is_valid(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
}

fn generate() -> String {
    format!("{:016x}", rand::random::<u64>())
}
