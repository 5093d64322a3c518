//! What the server says about one task.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{ErrorEnvelope, TaskRequest, TaskResult};

/// The answer to an admitted task, and the data of the first `queued` event when the stream was asked
/// for in the same request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Admission {
    pub task_id: Uuid,
    pub state: TaskState,
    /// Rank in the task's lane (tenant × class × model), 0 = next.
    pub queue_position: u64,
    /// From now; 0 once it runs.
    pub predicted_start_ms: u64,
    /// Nine of ten starts are expected within this, from now.
    pub predicted_start_p90_ms: u64,
    /// Advice: wait this long before the next submission; 0 = none.
    pub backoff_ms: u64,
    pub seed: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Kept in memory only: lost if the daemon dies.
    pub ephemeral: bool,
    pub links: Links,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Links {
    pub stream: String,
    pub cancel: String,
    #[serde(rename = "self")]
    pub this: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    Queued,
    Running,
    /// Stopped for another task; it goes on later.
    Preempted,
    Completed,
    Failed,
    Cancelled,
    /// Waited longer than it may.
    Expired,
    /// Made room for another task in a full queue.
    Dropped,
}

/// Body of `GET /v1/tasks/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    pub task_id: Uuid,
    pub state: TaskState,
    /// Runs so far; 0 while it was never dispatched.
    pub attempt: u32,
    pub model_id: String,
    pub tenant: String,
    pub timings: TaskTimings,
    pub usage: TaskUsage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<TaskPlacement>,
    pub seed: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
    /// What was generated so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of an embedding or reranking task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorEnvelope>,
    /// The artifact that is the task's transcript, where one was asked for and as soon as it is
    /// kept, which is after the end. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript_id: Option<String>,
    /// The request with everything filled in that was left out: submitted to the same engine and
    /// model it gives the same answer. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Box<TaskRequest>>,
}

/// Body of `GET /v1/tasks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskList {
    /// Newest first.
    pub tasks: Vec<Task>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskTimings {
    /// From admission to dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_time_ms: Option<u64>,
    /// From dispatch to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// From the first token to the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_time_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskUsage {
    pub tokens_in: u64,
    pub tokens_out: u64,
}

/// Where a task ran, or runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskPlacement {
    pub pool_id: String,
    pub replica_id: String,
    pub engine: String,
    pub engine_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended, or a stop sequence matched.
    Stop,
    /// `max_tokens` or the context was used up.
    Length,
    Cancelled,
}

/// Body of `GET /v1/tasks/{id}/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    pub task_id: Uuid,
    pub state: TaskState,
    /// Why it waits; absent once it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Each choice of a replica, oldest first; at most 64.
    pub decisions: Vec<Decision>,
}

/// Where a waiting task stands and what is in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// Rank in the task's lane (tenant × class × model), 0 = next.
    pub queue_position: u64,
    /// From now.
    pub predicted_start_ms: u64,
    pub reason: crate::QueuedReason,
    /// Replicas of the model that cannot take it now, by reason.
    pub obstacles: Vec<DropCount>,
}

/// One choice of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// From admission.
    pub after_ms: u64,
    pub replica_id: String,
    pub choice: PlacementChoice,
    /// The best ones, the chosen one first; at most 8.
    pub candidates: Vec<DecisionCandidate>,
    /// Replicas of the model that could not take it, by reason.
    pub dropped: Vec<DropCount>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionCandidate {
    pub replica_id: String,
    /// Predicted time from dispatch to the last token.
    pub predicted_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropCount {
    pub reason: PlacementDrop,
    pub replicas: u32,
}

/// What made the chosen replica better than the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlacementChoice {
    /// There was no other.
    Only,
    /// It is in a pool that the task prefers.
    Preferred,
    /// Its cache holds the session's earlier turns.
    Warm,
    /// It is predicted to be done first.
    Fastest,
    LeastLoaded,
    /// As loaded, and its devices are closer together.
    Topology,
    /// Equal in everything; the earlier one.
    Order,
}

/// Why a replica cannot take a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PlacementDrop {
    ModelNotResident,
    NotReady,
    Draining,
    NoSlot,
    InsufficientCtx,
    InsufficientKv,
    EngineMismatch,
    /// The task is pinned to other pools.
    PoolMismatch,
    Avoided,
    /// Set aside: for interactive work, for a swap, or for a task that must run alone.
    Reserved,
    /// It refused a request a moment ago.
    Suspect,
}
