//! The product end to end: both daemons as processes, a real llama.cpp behind them, loopback between.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli;
mod deaths;
mod determinism;
mod failover;
mod generation;
mod haiku;
mod hosts;
mod logs;
mod stack;
mod swaps;
mod workloads;
