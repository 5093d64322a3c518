//! The cases. Each panics with what is wrong.

mod calls;
mod faults;
mod limits;
mod streams;

pub use calls::*;
pub use faults::*;
pub use limits::*;
pub use streams::*;

/// The tiny model of the real servers goes on from it for long.
const PROMPT: &str = "In the beginning";

/// Whether an engine has a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The engine does it.
    Yes,
    /// The adapter does it in the engine's place.
    Emulated,
    /// It is refused, as a case has seen.
    No,
}
