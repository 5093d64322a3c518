//! orchestratord as its clients see it: a real server in this process, real engine simulators, and a
//! stand-in only for the pool manager's watch stream, so that a test can say what the fleet is.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod admission;
mod artifacts;
mod cancel;
mod client;
mod contract;
mod crashes;
mod daemon;
mod errors;
mod explain;
mod faults;
mod fleet;
mod manager;
mod metrics;
mod process;
mod restarts;
mod rig;
mod scheduling;
mod sessions;
mod streams;
mod swaps;
mod tenants;
mod transcripts;
mod windows;
mod workloads;
