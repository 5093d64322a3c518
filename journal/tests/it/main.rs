//! The port as orchestratord sees it, over real files.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod commits;
mod crash;
mod full;
mod history;
mod refusals;
mod retention;
mod rig;
