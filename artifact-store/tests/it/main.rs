//! Blobs over real files.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod blobs;
mod endings;
