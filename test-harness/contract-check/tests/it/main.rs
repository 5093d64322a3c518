//! The committed documents themselves: complete, and at one with the wire types.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod documents;
mod examples;
