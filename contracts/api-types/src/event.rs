//! The data of each server-sent event; the `event:` field is the type's name in lower case.
//!
//! Order on a stream: `queued* → started → (token | result | metrics | preempted … resumed)* → exactly one of
//! end, error`. `queued`, `metrics` and `disconnected` carry no id and are not replayed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Admission, FinishReason};

/// The task waits. Sent when a reader joins and when the position or the reason changed, at most once
/// a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Queued {
    /// First event of a stream that was asked for together with the task.
    Admitted {
        #[serde(flatten)]
        admission: Box<Admission>,
        reason: QueuedReason,
    },
    Waiting {
        /// Rank in the task's lane, 0 = next.
        queue_position: u64,
        /// From now.
        predicted_start_ms: u64,
        reason: QueuedReason,
        /// How far the load that it waits for has come, from 0 to 1; absent before one has begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        load_progress: Option<f64>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueuedReason {
    WaitingForSlot,
    LoadingModel,
    /// Its tenant has had more than its share; others go first.
    OverFairShare,
    NoReadyReplica,
    /// Its tenant is at a limit of its own.
    HeldByQuota,
    /// It ran and goes on when a replica is found.
    Resuming,
    /// An earlier turn of its session is open.
    SessionBusy,
}

/// The task was handed to a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Started {
    /// At admission.
    pub queue_position: u64,
    /// At admission.
    pub predicted_start_ms: u64,
    /// From admission to dispatch.
    pub queue_time_ms: u64,
    pub engine: String,
    pub engine_version: String,
    pub pool_id: String,
    pub replica_id: String,
    pub model_id: String,
    /// `null` until the manager has read the model file, and for external engines.
    #[schema(required = true)]
    pub model_digest: Option<String>,
    /// Whether the replica is known to hold this conversation's KV cache.
    pub kv_warmth: bool,
    /// Counts from 1.
    pub attempt: u32,
    pub seed: u32,
    /// Settings of the sampler profile that the engine has no word for; they are off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings_left_out: Vec<String>,
}

/// One or more generated tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// The text of `n` tokens.
    pub t: String,
    /// Index of the first token in `t`, from 0.
    pub i: u64,
    /// Tokens in `t`.
    pub n: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// The engine's ids of the tokens in `t`, where they were asked for.
    pub ids: Option<Vec<u32>>,
}

/// What an embedding or reranking task has found; one event with all of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskResult {
    /// One vector for each of `inputs`, in their order; workload `embedding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<Vec<Vec<f32>>>,
    /// One score for each of `documents`, in their order, higher is better; workload `rerank`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Vec<f32>>,
}

/// How a running task fares. May be left out under pressure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metrics {
    /// 0 to 1; absent for a task without a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_time_probability: Option<f64>,
    /// Tasks that wait for the same model.
    pub queue_depth: u64,
    /// Whether the replica is known to hold this conversation's KV cache.
    pub kv_warmth: bool,
    /// What the session may still use, or the tenant in this minute if that is less; absent without a
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_budget_remaining: Option<u64>,
    /// Until the task's deadline, or what the session may still run if that is less; absent without a
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_budget_remaining_ms: Option<u64>,
    /// What the session may still cost; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_budget_remaining: Option<u64>,
}

/// The task was stopped for another one; it keeps its tokens and goes on later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preempted {
    pub mode: PreemptionMode,
    /// Tokens that exist already; none of them changes.
    pub tokens_kept: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreemptionMode {
    /// Stopped while it ran.
    Hard,
}

/// The task goes on, after it was stopped or its engine was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resumed {
    /// Counts from 1.
    pub attempt: u32,
    pub replica_id: String,
    pub determinism: ResumedDeterminism,
    /// The engine computes prompt and answer anew: always false.
    pub kv_migrated: bool,
    /// Whether the replica is known to hold this conversation's KV cache.
    pub kv_warmth: bool,
    /// Settings of the sampler that begin anew here: the engine counts what it makes itself only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings_restarted: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResumedDeterminism {
    /// The rest may differ from that of an uninterrupted run.
    BestEffort,
}

/// Last event of a task that did not fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct End {
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// From admission to dispatch.
    pub queue_time_ms: u64,
    /// From dispatch to the first token; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// From the first token to the last; absent when there was no token.
    pub decode_time_ms: Option<u64>,
    pub finish_reason: FinishReason,
    /// The stop sequence that matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
    /// Whether the last token came in time; absent for a task without a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_met: Option<bool>,
}

/// This connection ends; the task does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disconnected {
    pub reason: DisconnectReason,
    pub retriable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectReason {
    /// The stream ran too far ahead of a reader that stalled.
    SlowReader,
    /// The server shuts down; the task goes on when it is back.
    Shutdown,
    /// Events that this reader has not seen cannot be read back: the journal fails, or no longer has
    /// them.
    Unreadable,
}
