//! The public wire types of orchestratord: requests, responses, SSE events and error codes.
//!
//! Plain data. Durations are milliseconds and end in `_ms`. Fields are only ever added; a type that a
//! client sends refuses unknown fields, so that a misspelt one is never silently ignored.

mod artifact;
mod control;
mod error;
mod event;
mod request;
mod session;
mod task;

pub use artifact::{Artifact, ArtifactKind, ArtifactRequest, MediaType};
pub use control::{
    Capabilities, Device, DeviceList, DrainRequest, DrainStatus, EngineCapability, Latency, Model,
    ModelCapability, ModelList, ModelState, Pool, PoolHealth, PoolHealthMetrics, PoolList, Queue,
    QueueLane, Readiness, ReloadRequest, ReloadStatus, Replica, ReplicaSet, ReplicaSetList, Slo,
    Swap, SwapDirection,
};
pub use error::{Detail, ErrorCode, ErrorEnvelope};
pub use event::{
    DisconnectReason, Disconnected, End, Metrics, Preempted, PreemptionMode, Queued, QueuedReason,
    Resumed, ResumedDeterminism, Started, TaskResult, Token,
};
pub use request::{
    ChatMessage, Determinism, KvHint, OnDisconnect, Output, OutputFormat, Placement, PlacementMode,
    Priority, PromptInput, SAMPLER_PROFILE, Sampling, TaskRequest, Workload,
};
pub use session::{Budget, Budgets, Session};
pub use task::{
    Admission, Decision, DecisionCandidate, DropCount, Explanation, FinishReason, Links,
    PlacementChoice, PlacementDrop, Task, TaskList, TaskPlacement, TaskState, TaskTimings,
    TaskUsage, Waiting,
};

/// Version of this API, as `/v1/capabilities` reports it.
pub const API_VERSION: &str = "1.0.0";
