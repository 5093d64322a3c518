//! Starts the `engine-sim` binary for the tests of other crates.
//!
//! The engine itself is not in this library: it is a process of its own, so that a test can kill it,
//! and so that its work never runs on the runtime of the code under test.

mod process;

pub use process::{SimProcess, binary_path};
