//! The shared client, decoder and retries, seen from outside.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod http;
mod retries;
mod sse;
