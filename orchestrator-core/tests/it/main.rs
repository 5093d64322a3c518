//! The core's rules as scripts with their timelines, and its invariants under arbitrary events.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod crashes;
mod deadlines;
mod fairness;
mod limits;
mod placement;
mod preemption;
mod properties;
mod refusing;
mod restarts;
mod rules;
mod script;
mod sessions;
mod swaps;
