//! What every engine adapter must do, as cases that know no engine: each asks a [`Subject`] and finds
//! what the [`adapter_api`] promises. The same cases run against engine-sim in each dialect, with its
//! faults, and against real servers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed case")]

pub mod cases;
mod heard;
pub mod mutate;
mod script;
mod subject;

pub use heard::{Heard, LIMIT, hear, request, run, submit};
pub use script::{serve_all, serve_cut_everywhere, serve_each, serve_once, serve_without_end};
pub use subject::{Setup, Subject};
