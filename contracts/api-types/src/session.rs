//! What the server says about one session.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Body of `GET /v1/sessions/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    pub session_id: String,
    /// Admitted since it began, or began anew.
    pub turns: u32,
    /// Until it begins anew with a cold cache; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_left: Option<u32>,
    /// Since its first turn was admitted.
    pub age_ms: u64,
    /// Since its last turn ended; absent while one is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// Until it ends; counts from the end of its last turn.
    pub ttl_remaining_ms: u64,
    /// Where its last turn ran; absent before one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_id: Option<String>,
    /// Whether a replica is known to hold the KV cache of its last turn.
    pub kv_warmth: bool,
    pub budgets: Budgets,
    /// Open turns in their order; at most the first of them runs.
    pub tasks: Vec<Uuid>,
}

/// What a session may use until it ends. A kind without a limit is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Budgets {
    /// Of prompts and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Budget>,
    /// On replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<Budget>,
    /// Tokens times what they cost, in tokens of a model that costs 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Budget>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    pub limit: u64,
    /// By turns that have ended, and the time of the one that runs.
    pub used: u64,
    /// For open turns; what they do not use comes back.
    pub reserved: u64,
    /// What a further turn may reserve.
    pub remaining: u64,
}
