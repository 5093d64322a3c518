//! What the engine puts on the wire, against what was recorded from the real one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod dialect;
mod every_fault;
mod faults;
mod pooling;
mod slots;
mod tgi;
mod triton;
mod vllm;
mod wire;
