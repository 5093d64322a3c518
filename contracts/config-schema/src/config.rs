//! The configuration after defaults and checks.

mod manager;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::manager::{
    Device, DeviceKind, EngineKind, EngineSource, ManagerConfig, OnManagerExit, PoolConfig,
    Residency, Restart, TritonNames, Workload,
};

/// Ports of the two daemons when none is configured.
pub(crate) const ORCHESTRATOR_PORT: u16 = 8420;
pub(crate) const MANAGER_PORT: u16 = 8421;

/// First and longest wait before an engine is started again.
pub(crate) const BACKOFF_MS: u64 = 250;
pub(crate) const BACKOFF_MAX_MS: u64 = 30_000;
/// Memory of a GPU that is left to drivers and fragmentation.
pub(crate) const GPU_MARGIN_MIB: u64 = 256;
pub(crate) const QUEUE_CAPACITY_HOME: u32 = 256;
pub(crate) const QUEUE_CAPACITY_TEAM: u32 = 4_096;
/// All models together may queue as many tasks as this number of them alone.
pub(crate) const QUEUE_MODELS: u64 = 4;

/// Values that have passed every check. No field needs re-validation.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub profile: Profile,
    pub bind: Bind,
    pub allowed_hosts: Vec<String>,
    pub keys: Vec<ApiKey>,
    /// `default` first; a key's tenant is one of these.
    pub tenants: Vec<Tenant>,
    pub fairness: Fairness,
    pub model_costs: Vec<ModelCost>,
    /// `v1` first.
    pub sampler_profiles: Vec<SamplerProfile>,
    pub pool_managers: Vec<ManagerRef>,
    pub queue: QueueConfig,
    pub classes: Classes,
    pub deadlines: Deadlines,
    pub swap: Swap,
    pub preemption: Preemption,
    pub sessions: Sessions,
    pub watchdog: Watchdog,
    pub limits: Limits,
    pub stream: StreamConfig,
    pub sse: Sse,
    pub journal: JournalConfig,
    pub retention: Retention,
    pub artifacts: Artifacts,
    pub log: LogConfig,
    pub drain_ms: u64,
    pub release_timeout_ms: u64,
    pub pool_manager: ManagerConfig,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// One or a few machines of one owner.
    #[default]
    Home,
    /// Several people or tenants share the machines.
    Team,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Both loopback addresses; a machine without IPv6 serves the first alone.
    Loopback { port: u16 },
    /// Exactly these; one that cannot be bound is an error.
    Exactly(Vec<SocketAddr>),
}

impl Bind {
    /// The addresses to try, in order, and whether each one must succeed.
    #[must_use]
    pub fn addresses(&self) -> Vec<(SocketAddr, bool)> {
        match self {
            Self::Loopback { port } => vec![
                ((Ipv4Addr::LOCALHOST, *port).into(), true),
                ((Ipv6Addr::LOCALHOST, *port).into(), false),
            ],
            Self::Exactly(addresses) => addresses.iter().map(|it| (*it, true)).collect(),
        }
    }
}

/// A caller's key, known only by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub name: String,
    pub sha256: [u8; 32],
    pub tenant: String,
}

/// The tenant of callers without a key, and of keys that name none.
pub const DEFAULT_TENANT: &str = "default";

/// A share and its limits. `None`: no such limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub name: String,
    pub weight_milli: NonZeroU32,
    pub queued: Option<u32>,
    pub concurrent: Option<u32>,
    /// Requests a second, and at once.
    pub requests: Option<(u32, u32)>,
    pub tokens_per_min: Option<u64>,
    pub on_exceed: OnExceed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExceed {
    /// The newcomer is refused.
    #[default]
    Reject,
    /// It waits in the queue.
    Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fairness {
    pub input_token_cost: NonZeroU32,
    pub output_token_cost: NonZeroU32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCost {
    pub id: String,
    pub cost_milli: NonZeroU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    pub on_time_percent_min: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap {
    pub min_resident_ms: u64,
    pub max_wait_ms: u64,
    /// 0: an idle model stays until its memory is needed.
    pub idle_ttl_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preemption {
    pub mode: PreemptionMode,
    pub max_per_min: NonZeroU32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreemptionMode {
    /// Interactive work takes the next slot that comes free.
    #[default]
    Soft,
    /// Running batch tasks are stopped; they keep their tokens and go on later.
    Hard,
}

/// Turns of one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    pub ttl_ms: u64,
    /// 0: no limit.
    pub turns: u32,
    pub concurrent: ConcurrentTurns,
    pub max_per_tenant: NonZeroU32,
    pub budgets: Budgets,
}

/// Of a session. `None`: no such limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets {
    pub tokens: Option<u64>,
    pub time_ms: Option<u64>,
    pub cost: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConcurrentTurns {
    /// It waits in the queue until the other one has ended.
    #[default]
    Serialise,
    /// It is refused.
    Reject,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerRef {
    pub url: String,
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    pub capacity: NonZeroU32,
    pub full_policy: FullPolicy,
    pub unready_wait_ms: u64,
    pub interactive_headroom_slots: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FullPolicy {
    /// The newcomer is refused.
    Reject,
    /// The oldest queued task of the lowest class is dropped for the newcomer.
    DropLru,
    /// An interactive newcomer pushes out the newest queued batch task.
    ShedLowPriority,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    pub mode: ClassMode,
    pub interactive: Class,
    pub batch: Class,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassMode {
    /// Both get their share of tokens.
    #[default]
    Weighted,
    /// Interactive first; batch when it was not served for its longest wait.
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    pub weight: NonZeroU32,
    pub max_wait_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchdog {
    pub wall_ms: u64,
    pub idle_ms: u64,
    pub first_token_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub body_bytes: usize,
    pub header_bytes: usize,
    pub header_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub connections: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamConfig {
    pub heartbeat_ms: u64,
    pub reader_lag_bytes: u64,
    pub memory_bytes: u32,
    pub write_stall_ms: u64,
}

/// Every setting of a sampler, under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerProfile {
    pub id: String,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: u32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
}

impl SamplerProfile {
    /// The profile that is meant when none is named. It is never changed.
    #[must_use]
    pub fn v1() -> Self {
        Self {
            id: "v1".into(),
            temperature: 0.8,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sse {
    pub metrics: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    pub durability: Durability,
    pub data_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Nothing: there is no journal.
    Memory,
    /// The daemon's end, however it comes.
    #[default]
    Process,
    /// The machine's end, too.
    Disk,
}

impl Durability {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Disk => "disk",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub ttl_ms: u64,
    pub bytes: u64,
    pub tasks: u32,
}

/// Documents that tenants keep beside their tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Artifacts {
    /// Of each tenant.
    pub quota_bytes: u64,
    pub ttl_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub level: String,
}
