//! Decides: admission, queue order, placement, swaps, task life cycle.
//!
//! A pure state machine. [`Core::apply`] takes the time and one event and returns what must be done;
//! the same events give the same effects. There is no clock, thread, I/O, randomness or hashing
//! order in here, no floating point, and nothing is serialisable: the shell translates.

mod core;
mod decision;
mod event;
mod eviction;
mod ledger;
mod placement;
mod policy;
mod predict;
mod queue;
mod quota;
mod ranked;
mod types;

pub use crate::core::{
    Account, Core, LaneView, SavedCounters, SavedEntry, SavedMeter, SavedQuota, SavedShares,
    SavedStanding, SavedTask, Standing, SwapView, WaitReason,
};
pub use crate::decision::{Choice, DecisionRecord, DropReason};
pub use crate::event::{
    Availability, Effect, Ending, Event, Footprint, QuotaKind, RejectReason, ReplicaStatus, Report,
    Run, Usage,
};
pub use crate::policy::{
    ClassPolicy, CoreConfig, FullPolicy, ModelPolicy, OnExceed, Prices, Rate, SwapPolicy,
    TenantPolicy,
};
pub use crate::types::{
    Attempt, Class, DeviceId, EngineId, Micros, ModelId, PoolChoice, PoolId, ReplicaId, SessionId,
    TaskId, TaskSpec, TenantId, Timestamp,
};
