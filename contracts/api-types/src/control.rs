//! What operators and dashboards read.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Priority;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    pub models: Vec<Model>,
}

/// A model that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    pub id: String,
    pub aliases: Vec<String>,
    pub state: ModelState,
    /// Whether a ready replica holds it in memory.
    pub resident: bool,
    /// Longest prompt plus answer; 0 until a replica told.
    pub context_tokens: u32,
    /// `completion`.
    pub workloads: Vec<String>,
    /// Kinds of the engines that serve it.
    pub engines: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// `sha256:` and 64 hex digits of the model file.
    pub digest: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    Active,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolList {
    pub pools: Vec<Pool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    pub pool_id: String,
    pub engine: String,
    /// `managed` or `external`.
    pub origin: String,
    /// What its replicas serve, or are being reloaded with.
    pub model_id: String,
    pub devices: Vec<String>,
    /// `pinned` or `on_demand`.
    pub residency: String,
    pub draining: bool,
    /// Whether this pool's manager answers.
    pub reachable: bool,
    pub replicas: Vec<Replica>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    pub replica_id: String,
    /// What it serves, or will when it runs; while a pool is reloaded its replicas may differ.
    pub model_id: String,
    /// `unloaded`, `starting`, `loading`, `probing`, `ready`, `draining`, `backoff`, `unready`,
    /// `stopped`.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// Longest prompt plus answer; 0 until known.
    pub context_tokens: u32,
    /// Sequences that the engine runs at once; 0 until known.
    pub slots: u32,
    /// Slots that run a task or wait for the engine to confirm that they are free.
    pub slots_busy: u32,
    /// Starts after a failure.
    pub restarts: u64,
    /// What it takes in memory, on all its devices together; 0 until known.
    pub memory_bytes: u64,
    /// How far the load under way has come, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_progress: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Body of `POST /v1/pools/{id}/drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// How long running tasks may finish; then those that can go on elsewhere are stopped and
    /// resumed there. 0: at once.
    #[schema(minimum = 0, maximum = 86_400_000)]
    pub deadline_ms: u64,
}

/// Body of `POST /v1/pools/{id}/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {
    /// Id or alias of a model that the pool's manager knows, or the absolute path of a model file on
    /// its host, served under the present id. Absent: the present model, read anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_ref: Option<String>,
    /// How long running tasks may take to end; after that the present model serves on.
    #[serde(default = "reload_deadline_ms")]
    #[schema(minimum = 0, maximum = 86_400_000)]
    pub deadline_ms: u64,
}

fn reload_deadline_ms() -> u64 {
    600_000
}

/// A reload that was ordered; `GET /v1/pools/{id}/health` tells what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReloadStatus {
    pub pool_id: String,
    /// As the manager knows it.
    pub job_id: String,
}

/// What was ordered for a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainStatus {
    pub pool_id: String,
    pub draining: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceList {
    pub devices: Vec<Device>,
}

/// What engines of a host run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    pub device_id: String,
    /// Base URL of the pool manager whose host it is in.
    pub manager: String,
    /// `cpu`, `nvidia`, `rocm` or `metal`.
    pub kind: String,
    /// As the driver calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    pub memory_total_bytes: u64,
    /// What models may fill.
    pub memory_usable_bytes: u64,
    /// What loaded models take.
    pub memory_models_bytes: u64,
    /// `healthy`, `failed` or `lost`.
    pub health: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Whether this device's manager answers.
    pub reachable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolHealth {
    /// The manager answers and a process of the pool runs.
    pub live: bool,
    /// At least one replica takes work.
    pub ready: bool,
    pub draining: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    pub metrics: PoolHealthMetrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolHealthMetrics {
    pub slots: u32,
    pub slots_busy: u32,
    pub replicas: u32,
    pub replicas_ready: u32,
    pub restarts: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Tasks that wait.
    pub depth: u64,
    /// Per model; all models together may queue four times as many.
    pub capacity: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_wait_ms: Option<u64>,
    pub lanes: Vec<QueueLane>,
    /// Models on their way in or out of memory.
    pub swaps: Vec<Swap>,
}

/// A replica that is loaded, or makes way for another model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Swap {
    pub replica_id: String,
    pub model_id: String,
    pub direction: SwapDirection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwapDirection {
    In,
    Out,
}

/// One tenant's tasks of one class that wait for one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueLane {
    pub model_id: String,
    pub priority: Priority,
    pub tenant: String,
    pub depth: u64,
    pub running: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_wait_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaSetList {
    pub replica_sets: Vec<ReplicaSet>,
}

/// Replicas that stand for each other: one engine, version, model file and context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaSet {
    pub model_id: String,
    pub engine: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// Of one slot; 0 until known.
    pub context_tokens: u32,
    pub replica_ids: Vec<String>,
    pub replicas_ready: u32,
    pub slots: u32,
    pub slots_busy: u32,
    /// How fast it has answered lately, by class; a class without tasks is absent.
    pub slo: Vec<Slo>,
}

/// Of the latest answers of each replica, at most 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slo {
    pub priority: Priority,
    /// From dispatch to the first token.
    pub first_token: Latency,
    /// From dispatch to the 64th token, of answers that have so many.
    pub tokens_64: Latency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// How many were measured.
    pub tasks: u64,
    /// 95th percentile; absent without tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u64>,
    /// What that may be at most; absent for batch, which has no goal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// Equal to `info.version` of `/openapi.json`.
    pub api_version: String,
    /// Of the daemon.
    pub version: String,
    pub engines: Vec<EngineCapability>,
    /// What `sampler_profile_version` may be.
    pub sampler_profiles: Vec<String>,
    /// What this server can do beyond admitting completions.
    pub features: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineCapability {
    pub engine: String,
    pub versions: Vec<String>,
    pub models: Vec<ModelCapability>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelCapability {
    pub model_id: String,
    /// Longest prompt plus answer in tokens; 0 until known.
    pub ctx_max: u32,
    pub slots: u32,
    pub workloads: Vec<String>,
    /// `stop_sequences`, `messages`, `token_ids`, `return_token_ids`, `determinism_strict`, `json`, `json_schema`,
    /// `grammar_gbnf`, `grammar_ebnf` or `grammar_regex`, and the sampler settings that the
    /// engine knows, as they are called in requests.
    pub features: Vec<String>,
}

/// Body of `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    pub ready: bool,
    /// What is waited for; empty when ready.
    pub waiting_for: Vec<String>,
}
