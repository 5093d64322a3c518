//! What orchestratord and pool-managerd say to each other: plain data, no behaviour.
//!
//! The two daemons ship together, so this contract is lockstep: no field is optional for the sake
//! of an older peer. Durations and sizes carry their unit in their name.

mod engine;
mod job;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use engine::{Engine, TritonCustom, TritonFields, TritonModel, TritonSettings};
pub use job::{Job, JobError, JobList, JobRequest, JobState, Order};

/// One server-sent event of `GET /v1/watch`; its `data:` field carries this as JSON.
///
/// The first event of a connection is `snapshot`; each later `pool` replaces what was known of that
/// pool, and `devices` what was known of all devices; `heartbeat` comes every 2,000 ms when nothing
/// else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "event", content = "data")]
pub enum WatchEvent {
    Snapshot(Snapshot),
    Devices(Vec<Device>),
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
    pub devices: Vec<Device>,
    pub pools: Vec<Pool>,
}

/// A host's device set and engine template, with the replicas that run from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    pub pool_id: String,
    pub engine: Engine,
    pub origin: Origin,
    /// What its replicas serve, or are being reloaded with.
    pub model_id: String,
    pub workload: Workload,
    pub determinism: Determinism,
    /// Ids of the devices that its engines may use, and no others.
    pub devices: Vec<String>,
    /// What lies between the farthest two of them: 0 nothing or unknown, 1 a PCIe switch, 2 several
    /// switches, 3 a host bridge, 4 host bridges of one NUMA node, 5 NUMA nodes.
    pub spread: u8,
    pub residency: Residency,
    /// How long an idle model on demand stays, in ms; absent: until its memory is needed.
    #[schema(required = true)]
    pub idle_ttl_ms: Option<u64>,
    /// Takes no new work, on request.
    pub draining: bool,
    pub replicas: Vec<Replica>,
}

/// What a pool's model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    Completion,
    Embedding,
    Rerank,
}

/// Whether the same request gives the same bytes from every replica of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Determinism {
    /// Its settings are those of a recipe that the determinism suite has proved.
    Proved {
        recipe: String,
    },
    Unproved {
        reason: String,
    },
}

impl Workload {
    /// The name in the public API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Embedding => "embedding",
            Self::Rerank => "rerank",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Started, watched and stopped by the manager.
    Managed,
    /// A server that somebody else runs; watched only.
    External,
}

/// Whether a pool's model is always in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Residency {
    /// Loaded at start, never evicted.
    Pinned,
    /// Loaded by order, and unloaded by order.
    OnDemand,
}

/// What engines run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    pub device_id: String,
    /// `cpu`, `nvidia`, `rocm` or `metal`.
    pub kind: String,
    /// As its driver calls it.
    #[schema(required = true)]
    pub name: Option<String>,
    #[schema(required = true)]
    pub uuid: Option<String>,
    pub memory_total_bytes: u64,
    /// What models of this manager may fill: not the margin, and not what others use.
    pub memory_usable_bytes: u64,
    pub health: DeviceHealth,
    /// Why it is not healthy.
    #[schema(required = true)]
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceHealth {
    Healthy,
    /// It has reported an error (XID, ECC) and is used again only after it was seen to work.
    Failed,
    /// It is not there.
    Lost,
}

/// One process place of a pool. Its id is stable; a restart raises `incarnation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    pub replica_id: String,
    /// What it serves, or will when it runs; while a pool is reloaded its replicas may differ.
    pub model_id: String,
    pub model_aliases: Vec<String>,
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
    /// What it needs to be resident: measured the last time, or estimated. Empty until known.
    pub memory: Vec<MemoryNeed>,
    /// How long its last load took, in ms; absent before the first.
    #[schema(required = true)]
    pub load_ms: Option<u64>,
    /// The load under way.
    #[schema(required = true)]
    pub load: Option<LoadProgress>,
}

/// A replica's memory on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryNeed {
    pub device_id: String,
    pub bytes: u64,
}

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoadProgress {
    pub stage: LoadStage,
    /// Of the whole load, in thousandths; never falls during one load.
    pub permille: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadStage {
    /// The model file is looked at.
    Checking,
    /// Others have not given back enough memory yet.
    WaitingForMemory,
    /// The engine reads the model and fills memory.
    Reading,
    /// The engine says ready; it proves it.
    SelfTest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Not in memory; an order loads it.
    Unloaded,
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
    /// It cannot work now (model file missing, device lost, too many failures in a row); tried again
    /// later.
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
