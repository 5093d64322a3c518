//! The data of each server-sent event; the `event:` field is the type's name in lower case.
//!
//! Order on a stream: `queued* → started → token* → exactly one of end, error`. `queued` and
//! `disconnected` carry no id and are not replayed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Admission, FinishReason};

/// The task waits. Sent when a reader joins and when the position or the reason changed, at most once
/// a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueuedReason {
    WaitingForSlot,
    LoadingModel,
    NoReadyReplica,
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
}
