//! The adapter against an engine process that speaks llama-server's dialect, and against a socket
//! that answers with recorded or chosen bytes.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod calls;
mod failures;
mod generation;
mod script;
mod streams;
