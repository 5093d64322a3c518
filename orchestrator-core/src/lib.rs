//! Decides: admission, queue order, placement, task life cycle.
//!
//! A pure state machine. [`Core::apply`] takes the time and one event and returns what must be done;
//! the same events give the same effects. There is no clock, thread, I/O, randomness or hashing
//! order in here, and nothing is serialisable: the shell translates.

mod core;
mod event;
mod placement;
mod predict;
mod queue;
mod types;

pub use crate::core::{ClassPolicy, Core, CoreConfig, FullPolicy, LaneView, Standing};
pub use crate::event::{
    Availability, Effect, Ending, Event, RejectReason, ReplicaStatus, Report, Run,
};
pub use crate::types::{
    Attempt, Class, EngineId, Micros, ModelId, ReplicaId, TaskId, TaskSpec, Timestamp,
};
