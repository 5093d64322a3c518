//! What orchestratord and pool-managerd say to each other: plain data, no behaviour.
//!
//! The two daemons ship together, so this contract is lockstep: no field is optional for the sake
//! of an older peer. Durations and sizes carry their unit in their name.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One server-sent event of `GET /v1/watch`; its `data:` field carries this as JSON.
///
/// The first event of a connection is `snapshot`; each later `pool` replaces what was known of that
/// pool; `heartbeat` comes every 2,000 ms when nothing else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "event", content = "data")]
pub enum WatchEvent {
    Snapshot(Snapshot),
    Pool(Pool),
    Heartbeat,
}

/// Interval of heartbeats on a quiet watch stream; three missed ones make its replicas unready.
pub const HEARTBEAT_MS: u64 = 2_000;

/// Everything a manager runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Chosen anew at each start of the manager, so that a restart is visible.
    pub manager_instance: String,
    pub version: String,
    pub pools: Vec<Pool>,
}

/// A host's device set and engine template, with the replicas that run from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    pub pool_id: String,
    /// `llamacpp`, `vllm`, `tgi` or `triton`.
    pub engine: String,
    pub origin: Origin,
    pub model_id: String,
    pub model_aliases: Vec<String>,
    pub devices: Vec<Device>,
    pub draining: bool,
    pub replicas: Vec<Replica>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Started, watched and stopped by the manager.
    Managed,
    /// A server that somebody else runs; watched only.
    External,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    pub device_id: String,
    /// `cpu`, `nvidia`, `rocm` or `metal`.
    pub kind: String,
    pub memory_total_bytes: u64,
}

/// One process place of a pool. Its id is stable; a restart raises `incarnation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    pub replica_id: String,
    pub incarnation: u64,
    pub state: ReplicaState,
    /// Base URL of the engine, known once it was started.
    #[schema(required = true)]
    pub endpoint: Option<String>,
    /// The engine's own key; random for each managed incarnation.
    #[schema(required = true)]
    pub engine_key: Option<String>,
    #[schema(required = true)]
    pub engine_version: Option<String>,
    /// `sha256:` and 64 hex digits of the model file; absent until computed, or where the file
    /// cannot be seen (external engines).
    #[schema(required = true)]
    pub model_digest: Option<String>,
    /// Sequences the engine runs at once; 0 until known.
    pub slots: u32,
    /// Longest prompt plus answer of one slot; 0 until known.
    pub context_tokens: u32,
    pub chat_template: bool,
    /// Why the replica is not ready, or why it last was not. One sentence, then the engine's last
    /// log lines if they explain it.
    #[schema(required = true)]
    pub last_error: Option<String>,
    /// Starts of this replica after its first.
    pub restarts: u64,
    #[schema(required = true)]
    pub pid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// The process was started and does not answer yet.
    Starting,
    /// The engine answers and loads its model.
    Loading,
    /// The engine says ready; a one-token decode is under way.
    Probing,
    Ready,
    /// Takes no new work; what runs may finish.
    Draining,
    /// Down; the next start waits for its backoff.
    Backoff,
    /// Configuration cannot work (model file missing, not enough memory); tried again with backoff.
    Unready,
    /// Stopped on request.
    Stopped,
}

/// Body of every error answer of pool-managerd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// `FORBIDDEN`, `UNAUTHENTICATED`, `NOT_FOUND`, `METHOD_NOT_ALLOWED`, …
    pub code: String,
    /// For people: what was found, what was expected.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retriable: bool,
    /// Equal to the `X-Backoff-Ms` header; `Retry-After` is this, rounded up to seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// As the `X-Correlation-Id` header.
    pub correlation_id: String,
}
