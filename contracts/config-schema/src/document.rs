//! The document as written: every key optional, unknown keys refused.
//!
//! A doc comment here is what an operator reads in the schema. What a value must look like stands
//! beside it and is checked from the schema; defaults stand in `config.rs`.

mod pool;

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

pub(crate) use self::pool::PoolDoc;
pub use self::pool::{TritonCustomDoc, TritonDoc};
use crate::config::{
    ClassMode, ConcurrentTurns, DeviceKind, Durability, FullPolicy, OnExceed, OnManagerExit,
    PreemptionMode, Profile,
};
use crate::format::{ADDRESS, BASE_URL, DIGEST, IDENTIFIER, IP, LOG_FILTER};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// Chooses the defaults of every key that is left out.
    pub profile: Profile,
    /// Addresses of orchestratord; left out: loopback, port 8420. An address that other machines
    /// can reach needs at least one key.
    #[schemars(schema_with = "addresses")]
    pub bind: Option<Vec<SocketAddr>>,
    /// Host names, besides loopback's and the bound addresses', that requests may name.
    pub allowed_hosts: Vec<String>,
    /// Keys that callers of orchestratord must present; none means open, which needs the profile
    /// home and loopback addresses.
    #[schemars(extend("writeOnly" = true))]
    pub keys: Vec<ApiKeyDoc>,
    /// Who shares the replicas; there is always `default`.
    pub tenants: Vec<TenantDoc>,
    /// What tokens count in the shares of tenants and classes.
    pub fairness: FairnessDoc,
    /// What tokens of some models count, compared to the others.
    pub models: Vec<ModelCostDoc>,
    /// Sampler settings that requests name as `sampler_profile_version`; there is always `v1`.
    pub sampler_profiles: Vec<SamplerProfileDoc>,
    /// The pool-managerds to follow; left out: one on loopback.
    pub pool_managers: Option<Vec<ManagerRefDoc>>,
    /// How many tasks may wait, and for how long.
    pub queue: QueueDoc,
    /// How the classes of tasks share the replicas.
    pub classes: ClassesDoc,
    /// When deadlines are refused.
    pub deadlines: DeadlinesDoc,
    /// Models that take turns in memory.
    pub swap: SwapDoc,
    /// Whether running batch tasks are stopped for interactive ones.
    pub preemption: PreemptionDoc,
    /// Turns of one conversation.
    pub sessions: SessionsDoc,
    /// When a task that does not get on is ended.
    pub watchdog: WatchdogDoc,
    /// What one caller may ask of the HTTP server.
    pub limits: LimitsDoc,
    /// Token streams.
    pub stream: StreamDoc,
    /// What streams tell besides tokens.
    pub sse: SseDoc,
    /// What outlives the daemon, and where.
    pub journal: JournalDoc,
    /// How long finished tasks are kept.
    pub retention: RetentionDoc,
    /// Plans, diffs, transcripts and the like, which lie beside the journal.
    pub artifacts: ArtifactsDoc,
    /// What the daemons write to stderr.
    pub log: LogDoc,
    /// How long a shutting-down daemon lets running streams finish, in ms.
    pub drain_ms: Option<u64>,
    /// How long a slot counts as busy after a cancel that the engine does not confirm, in ms.
    pub release_timeout_ms: Option<u64>,
    /// Settings of pool-managerd on this host.
    pub pool_manager: Option<ManagerDoc>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyDoc {
    /// For logs, and unique; never the key.
    #[schemars(length(min = 1))]
    pub name: String,
    /// SHA-256 of the key, 64 hex digits. `llorch key new` makes a pair.
    #[schemars(extend("format" = DIGEST))]
    pub sha256: String,
    /// Whose key it is: a name from `tenants`; left out: `default`.
    pub tenant: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantDoc {
    /// The name in keys, logs and metrics.
    #[schemars(extend("format" = IDENTIFIER))]
    pub name: String,
    /// Share compared to other tenants; three decimals count.
    #[schemars(range(min = 0.001, max = 1000))]
    pub weight: Option<f64>,
    /// Tasks that may wait at once.
    #[schemars(range(min = 1))]
    pub queued: Option<u32>,
    /// Tasks that may run at once.
    #[schemars(range(min = 1))]
    pub concurrent: Option<u32>,
    /// Submissions a second, on average.
    #[schemars(range(min = 1))]
    pub requests_per_s: Option<u32>,
    /// Submissions at once; left out: as many as in a second.
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
    /// Prompt and answer tokens in any 60 seconds.
    #[schemars(range(min = 1))]
    pub tokens_per_min: Option<u64>,
    /// What happens at `concurrent` and `tokens_per_min`.
    pub on_exceed: Option<OnExceed>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FairnessDoc {
    /// What a prompt token counts.
    #[schemars(range(min = 1, max = 1000))]
    pub input_token_cost: Option<u32>,
    /// What a generated token counts; at least as much.
    #[schemars(range(min = 1, max = 1000))]
    pub output_token_cost: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SamplerProfileDoc {
    /// The name that requests use. What it means is never changed: change it under another name.
    #[schemars(extend("format" = IDENTIFIER))]
    pub id: String,
    /// 0 is greedy; left out, as each of the others: as in `v1`.
    #[schemars(range(min = 0, max = 2))]
    pub temperature: Option<f64>,
    /// 1 is off.
    #[schemars(range(min = 0.001, max = 1))]
    pub top_p: Option<f64>,
    /// 0 is off.
    pub top_k: Option<u32>,
    /// 0 is off.
    #[schemars(range(min = 0, max = 1))]
    pub min_p: Option<f64>,
    /// 1 is off.
    #[schemars(range(min = 0.001, max = 2))]
    pub repeat_penalty: Option<f64>,
    /// 0 is off.
    #[schemars(range(min = -2, max = 2))]
    pub presence_penalty: Option<f64>,
    /// 0 is off.
    #[schemars(range(min = -2, max = 2))]
    pub frequency_penalty: Option<f64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelCostDoc {
    /// The model's name, as in its pools.
    #[schemars(length(min = 1))]
    pub id: String,
    /// What its tokens count; three decimals count.
    #[schemars(range(min = 0.001, max = 1000))]
    pub cost: f64,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlinesDoc {
    /// A deadline is refused when the chance to meet it is below this, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub on_time_percent_min: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SwapDoc {
    /// A loaded model stays at least this long, in ms.
    #[schemars(range(min = 1))]
    pub min_resident_ms: Option<u64>,
    /// After this wait of its oldest task a model gets the right of way, in ms.
    #[schemars(range(min = 1))]
    pub max_wait_ms: Option<u64>,
    /// A model on demand that nobody asks for is unloaded after this long, in ms; 0: only when its
    /// memory is needed.
    pub idle_ttl_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PreemptionDoc {
    /// What may be done for interactive work that waits.
    pub mode: Option<PreemptionMode>,
    /// Running tasks that may be stopped in a minute.
    #[schemars(range(min = 1, max = 600))]
    pub max_per_min: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsDoc {
    /// A session ends this long after its last turn, in ms.
    #[schemars(range(min = 1, max = 2_592_000_000_u64))]
    pub ttl_ms: Option<u64>,
    /// After so many turns the next one begins anew, on any replica and without a warm cache; 0: never.
    pub turns: Option<u32>,
    /// What happens to a turn while another one of its session is open.
    pub concurrent: Option<ConcurrentTurns>,
    /// Sessions without an open turn that are kept for each tenant; the longest unused goes first.
    #[schemars(range(min = 1, max = 65536))]
    pub max_per_tenant: Option<u32>,
    /// What each session may use until it ends.
    pub budgets: BudgetsDoc,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetsDoc {
    /// Tokens of prompts and answers; left out, as each of the others: no such limit.
    #[schemars(range(min = 1))]
    pub tokens: Option<u64>,
    /// Time on replicas, in ms.
    #[schemars(range(min = 1))]
    pub time_ms: Option<u64>,
    /// Tokens times what they cost in `models`.
    #[schemars(range(min = 1))]
    pub cost: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManagerRefDoc {
    /// Base URL: `http://host:port`.
    #[schemars(extend("format" = BASE_URL, "examples" = ["http://127.0.0.1:8421"]))]
    pub url: String,
    /// File that holds the manager's token.
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueDoc {
    /// Queued tasks per model; all models together may queue four times as many.
    #[schemars(range(min = 1))]
    pub capacity: Option<u32>,
    /// What happens to a newcomer when the queue is full.
    pub full_policy: Option<FullPolicy>,
    /// How long a task may wait while no replica of its model is ready, in ms.
    #[schemars(range(min = 1))]
    pub unready_wait_ms: Option<u64>,
    /// Slots of each replica that batch tasks leave free; one always remains for them.
    pub interactive_headroom_slots: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassesDoc {
    /// How the classes are told apart.
    pub mode: Option<ClassMode>,
    /// Tasks that somebody waits for.
    pub interactive: ClassDoc,
    /// Tasks that may wait.
    pub batch: ClassDoc,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassDoc {
    /// Share of tokens while both classes wait.
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
    /// A class that waits and was not served for this long is served next, in ms.
    #[schemars(range(min = 1))]
    pub max_wait_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogDoc {
    /// Longest run of one task, in ms.
    #[schemars(range(min = 1))]
    pub wall_ms: Option<u64>,
    /// Longest silence of an engine after the first token, in ms.
    #[schemars(range(min = 1))]
    pub idle_ms: Option<u64>,
    /// Longest wait for the first token after dispatch, in ms.
    #[schemars(range(min = 1))]
    pub first_token_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsDoc {
    /// Largest request body, in bytes.
    #[schemars(range(min = 1024))]
    pub body_bytes: Option<u64>,
    /// Largest request head (line and header fields), in bytes.
    // hyper's smallest read buffer.
    #[schemars(range(min = 8192))]
    pub header_bytes: Option<u32>,
    /// Longest wait for a complete request head, in ms.
    #[schemars(range(min = 1))]
    pub header_timeout_ms: Option<u64>,
    /// Longest wait for a complete request body, in ms.
    #[schemars(range(min = 1))]
    pub body_timeout_ms: Option<u64>,
    /// Open connections; the next one waits to be accepted.
    #[schemars(range(min = 1))]
    pub connections: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamDoc {
    /// Interval of comments on a silent stream, in ms.
    #[schemars(range(min = 1))]
    pub heartbeat_ms: Option<u64>,
    /// How far a stream may run ahead of a stalled reader before it is cut, in bytes.
    #[schemars(range(min = 1024))]
    pub reader_lag_bytes: Option<u64>,
    /// How much of a stream stays in memory, in bytes, and at most half as much again: the newest
    /// events. Older ones are read back from the journal. Without one, all of it stays in memory.
    #[schemars(range(min = 4096))]
    pub memory_bytes: Option<u32>,
    /// How long a connection may take no byte before it is closed, in ms.
    #[schemars(range(min = 1))]
    pub write_stall_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SseDoc {
    /// Whether running tasks tell now and then how they fare.
    pub metrics: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionDoc {
    /// How long a finished task and its stream stay readable, in ms.
    pub ttl_ms: Option<u64>,
    /// Finished tasks that are kept, in bytes; the oldest go first. Left out: 10 GiB, or 64 MiB where
    /// there is no journal.
    pub bytes: Option<u64>,
    /// Where there is no journal: finished tasks that are kept; the oldest go first.
    pub tasks: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArtifactsDoc {
    /// What the artifacts of each tenant may take, in bytes; each counts as its content in blocks of
    /// 4 KiB and one block more. Beyond it new ones are refused.
    #[schemars(range(min = 1))]
    pub quota_bytes: Option<u64>,
    /// An artifact goes so long after it was last stored, in ms, but not before one that names it as
    /// its parent.
    #[schemars(range(min = 1, max = 31_536_000_000_u64))]
    pub ttl_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalDoc {
    /// What a task survives once it is accepted.
    pub durability: Option<Durability>,
    /// Where the journal lies; made with mode 0700. One daemon uses it at a time.
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogDoc {
    /// A tracing filter, such as `info` or `info,orchestratord=debug`.
    #[schemars(extend("format" = LOG_FILTER, "examples" = ["info,orchestratord=debug"]))]
    pub level: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ManagerDoc {
    /// Addresses of pool-managerd; left out: loopback, port 8421. An address that other machines
    /// can reach needs a token.
    #[schemars(schema_with = "addresses")]
    pub bind: Option<Vec<SocketAddr>>,
    /// File that holds the token which callers must present.
    pub token_file: Option<PathBuf>,
    /// Host names, besides loopback's and the bound addresses', that requests may name.
    pub allowed_hosts: Vec<String>,
    /// Where engine logs and digests are kept; created with mode 0700.
    pub data_dir: Option<PathBuf>,
    /// What happens to engines when pool-managerd goes away.
    pub on_manager_exit: Option<OnManagerExit>,
    /// Where managed engines listen, and orchestratord reaches them: an address of this host. Each
    /// engine demands a random key.
    #[schemars(extend("format" = IP, "examples" = ["10.0.0.5"]))]
    pub engine_address: Option<String>,
    /// Ports for managed engines, as `[first, last]`; left out: any free port.
    #[schemars(schema_with = "port_range")]
    pub port_range: Option<(u16, u16)>,
    /// NVIDIA's management library; left out: `libnvidia-ml.so.1`, as the system finds it.
    pub nvml_library: Option<PathBuf>,
    /// What engines may run on; left out: `cpu0`, of kind `cpu`.
    pub devices: Vec<DeviceDoc>,
    /// Engines and their models.
    pub pools: Vec<PoolDoc>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceDoc {
    /// The name that pools use.
    #[schemars(extend("format" = IDENTIFIER))]
    pub id: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Which GPU, by the driver's name for it; kind `nvidia` only.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub uuid: Option<String>,
    /// Memory that engines may use; left out: what the machine or the GPU has.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub memory_mib: Option<u64>,
    /// Memory that no model is given; left out: 256 on GPUs, 0 on `cpu`.
    #[serde(default)]
    pub margin_mib: Option<u64>,
}

fn addresses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "string", "format": ADDRESS},
        "examples": [["127.0.0.1:9000", "[::1]:9000"]],
        "minItems": 1,
    })
}

fn port_range(_: &mut SchemaGenerator) -> Schema {
    let port = json_schema!({"type": "integer", "minimum": 1, "maximum": u16::MAX});
    json_schema!({"type": "array", "prefixItems": [port, port], "minItems": 2, "maxItems": 2})
}
