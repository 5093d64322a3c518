//! The document as written: every key optional, unknown keys refused.
//!
//! A doc comment here is what an operator reads in the schema; defaults stand in `config.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{DeviceKind, EngineKind, FullPolicy, OnManagerExit, Profile};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// Chooses the defaults of every key that is left out.
    pub profile: Profile,
    /// Addresses of orchestratord. A non-loopback address needs at least one key.
    pub bind: Option<Vec<SocketAddr>>,
    /// Host names, besides loopback's and the bound addresses', that requests may name.
    pub allowed_hosts: Vec<String>,
    /// Keys that callers of orchestratord must present; none means open, on loopback only.
    pub keys: Vec<ApiKeyDoc>,
    /// The pool-managerds to follow; left out: one on loopback.
    pub pool_managers: Option<Vec<ManagerRefDoc>>,
    pub queue: QueueDoc,
    pub classes: ClassesDoc,
    pub watchdog: WatchdogDoc,
    pub limits: LimitsDoc,
    pub stream: StreamDoc,
    pub retention: RetentionDoc,
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
    /// For logs; never the key.
    pub name: String,
    /// SHA-256 of the key, 64 hex digits. `llorch key new` makes a pair.
    pub sha256: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManagerRefDoc {
    /// `http://host:port`
    pub url: String,
    /// File that holds the manager's token.
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueDoc {
    /// Queued tasks per model; all models together may queue four times as many.
    pub capacity: Option<u32>,
    /// What happens to a newcomer when the queue is full.
    pub full_policy: Option<FullPolicy>,
    /// How long a task may wait while no replica of its model is ready, in ms.
    pub unready_wait_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassesDoc {
    pub interactive: ClassDoc,
    pub batch: ClassDoc,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassDoc {
    /// Share of dispatches while both classes wait, at least 1.
    pub weight: Option<u32>,
    /// After this wait a task is served next, whatever its class, in ms.
    pub max_wait_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogDoc {
    /// Longest run of one task, in ms.
    pub wall_ms: Option<u64>,
    /// Longest silence of an engine after the first token, in ms.
    pub idle_ms: Option<u64>,
    /// Longest wait for the first token after dispatch, in ms.
    pub first_token_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsDoc {
    /// Largest request body, in bytes.
    pub body_bytes: Option<u64>,
    /// Largest request head (line and header fields), in bytes; at least 8192.
    pub header_bytes: Option<u32>,
    /// Longest wait for a complete request head, in ms.
    pub header_timeout_ms: Option<u64>,
    /// Longest wait for a complete request body, in ms.
    pub body_timeout_ms: Option<u64>,
    /// Open connections; the next one waits to be accepted.
    pub connections: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamDoc {
    /// Interval of comments on a silent stream, in ms.
    pub heartbeat_ms: Option<u64>,
    /// How far a stream may run ahead of a stalled reader before it is cut, in bytes.
    pub reader_lag_bytes: Option<u64>,
    /// How long a connection may take no byte before it is closed, in ms.
    pub write_stall_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionDoc {
    /// How long a finished task and its stream stay readable, in ms.
    pub ttl_ms: Option<u64>,
    /// Finished streams kept in memory, in bytes; the oldest go first.
    pub bytes: Option<u64>,
    /// Finished tasks kept in memory; the oldest go first.
    pub tasks: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogDoc {
    /// A tracing filter, such as `info` or `info,orchestratord=debug`.
    pub level: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ManagerDoc {
    /// Addresses of pool-managerd. A non-loopback address needs a token.
    pub bind: Option<Vec<SocketAddr>>,
    /// File that holds the token which callers must present.
    pub token_file: Option<PathBuf>,
    pub allowed_hosts: Vec<String>,
    /// Where engine logs and digests are kept; created with mode 0700.
    pub data_dir: Option<PathBuf>,
    /// What happens to engines when pool-managerd goes away.
    pub on_manager_exit: Option<OnManagerExit>,
    /// Ports for managed engines, as `[first, last]`; left out: any free port.
    pub port_range: Option<(u16, u16)>,
    pub devices: Vec<DeviceDoc>,
    pub pools: Vec<PoolDoc>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceDoc {
    pub id: String,
    pub kind: DeviceKind,
    /// Memory that engines may use; left out on `cpu`: what the machine has.
    pub memory_mib: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolDoc {
    pub id: String,
    pub engine: EngineKind,
    pub model: ModelDoc,
    /// Ids from `devices`; left out: the only device there is.
    pub devices: Option<Vec<String>>,
    /// Engine processes of this pool.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// Sequences that one engine runs at once.
    #[serde(default)]
    pub slots: Option<u32>,
    /// Base URL of a server that somebody else runs. Excludes `bin`, `flags` and `env`.
    #[serde(default)]
    pub external: Option<ExternalDoc>,
    /// Engine program: a path, or a name that is looked up on PATH.
    #[serde(default)]
    pub bin: Option<PathBuf>,
    /// Further command-line arguments of the engine.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Further environment of the engine.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Longest time from start to ready, in ms.
    #[serde(default)]
    pub start_timeout_ms: Option<u64>,
    /// Time between SIGTERM and SIGKILL, in ms.
    #[serde(default)]
    pub stop_grace_ms: Option<u64>,
    #[serde(default)]
    pub restart: RestartDoc,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalDoc {
    /// `http://host:port`
    pub url: String,
    /// File that holds the engine's key.
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelDoc {
    /// The name callers use.
    pub id: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Model file; needed unless the engine is external.
    pub path: Option<PathBuf>,
    /// Context of one slot, in tokens.
    pub context_tokens: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RestartDoc {
    /// First wait before a restart, in ms; it doubles each time.
    pub backoff_ms: Option<u64>,
    /// Longest wait before a restart, in ms.
    pub backoff_max_ms: Option<u64>,
}
