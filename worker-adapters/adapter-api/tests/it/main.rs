//! The shared decoder and retries, seen from outside.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod retries;
mod sse;
