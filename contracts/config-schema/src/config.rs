//! The configuration after defaults and checks.
//!
//! Where home and team differ, the default is a `match` on the profile in [`Config::resolve`], so
//! that the table of defaults can be read in one place.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{ClassDoc, DeviceDoc, Document, ManagerDoc, PoolDoc, TenantDoc};

/// Ports of the two daemons when none is configured.
pub(crate) const ORCHESTRATOR_PORT: u16 = 8420;
pub(crate) const MANAGER_PORT: u16 = 8421;

/// First and longest wait before an engine is started again.
pub(crate) const BACKOFF_MS: u64 = 250;
pub(crate) const BACKOFF_MAX_MS: u64 = 30_000;

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
    pub pool_managers: Vec<ManagerRef>,
    pub queue: QueueConfig,
    pub classes: Classes,
    pub deadlines: Deadlines,
    pub swap: Swap,
    pub preemption: Preemption,
    pub watchdog: Watchdog,
    pub limits: Limits,
    pub stream: StreamConfig,
    pub retention: Retention,
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
    pub write_stall_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub ttl_ms: u64,
    pub bytes: u64,
    pub tasks: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub level: String,
}

/// Settings of pool-managerd.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagerConfig {
    pub bind: Bind,
    pub token_file: Option<PathBuf>,
    pub allowed_hosts: Vec<String>,
    pub data_dir: PathBuf,
    pub on_manager_exit: OnManagerExit,
    pub port_range: Option<(u16, u16)>,
    pub devices: Vec<Device>,
    pub pools: Vec<PoolConfig>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnManagerExit {
    /// Engines die with the manager, however it dies.
    #[default]
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub id: String,
    pub kind: DeviceKind,
    /// `None`: what the machine has, read at start.
    pub memory_mib: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The machine's processors and main memory.
    Cpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// llama.cpp's `llama-server`.
    Llamacpp,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    pub id: String,
    pub engine: EngineKind,
    pub source: EngineSource,
    pub model_id: String,
    pub model_aliases: Vec<String>,
    /// Device ids, each of them in [`ManagerConfig::devices`].
    pub devices: Vec<String>,
    pub replicas: NonZeroU32,
    pub restart: Restart,
    pub start_timeout_ms: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum EngineSource {
    Managed {
        /// `None`: the engine's usual name, looked up on PATH.
        bin: Option<PathBuf>,
        flags: Vec<String>,
        env: BTreeMap<String, String>,
        model_path: PathBuf,
        context_tokens: NonZeroU32,
        slots: NonZeroU32,
        stop_grace_ms: u64,
    },
    External {
        url: String,
        key_file: Option<PathBuf>,
        /// `None`: what the engine says.
        slots: Option<NonZeroU32>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
}

impl Config {
    /// Fills in the profile's defaults. The document has passed every check.
    pub(crate) fn resolve(doc: Document) -> Self {
        let home = doc.profile == Profile::Home;
        let pick = |home_value: u64, team_value: u64| if home { home_value } else { team_value };
        let minutes = |n: u64| n * 60_000;
        let size = |value: Option<u64>, default: u64| {
            usize::try_from(value.unwrap_or(default)).unwrap_or(usize::MAX)
        };
        Self {
            profile: doc.profile,
            bind: bind(doc.bind, ORCHESTRATOR_PORT),
            allowed_hosts: doc.allowed_hosts,
            keys: doc
                .keys
                .into_iter()
                .map(|it| ApiKey {
                    sha256: digest(&it.sha256),
                    name: it.name,
                    tenant: it.tenant.unwrap_or_else(|| DEFAULT_TENANT.into()),
                })
                .collect(),
            tenants: tenants(doc.tenants),
            fairness: Fairness {
                input_token_cost: non_zero(doc.fairness.input_token_cost, 1),
                output_token_cost: non_zero(doc.fairness.output_token_cost, 2),
            },
            model_costs: doc
                .models
                .into_iter()
                .map(|it| ModelCost { cost_milli: milli(it.cost), id: it.id })
                .collect(),
            pool_managers: managers(doc.pool_managers, doc.pool_manager.as_ref()),
            queue: QueueConfig {
                capacity: non_zero(doc.queue.capacity, if home { 256 } else { 4_096 }),
                full_policy: doc.queue.full_policy.unwrap_or(if home {
                    FullPolicy::Reject
                } else {
                    FullPolicy::ShedLowPriority
                }),
                unready_wait_ms: doc.queue.unready_wait_ms.unwrap_or(pick(minutes(10), minutes(2))),
                interactive_headroom_slots: doc.queue.interactive_headroom_slots.unwrap_or(0),
            },
            deadlines: Deadlines {
                on_time_percent_min: doc.deadlines.on_time_percent_min.unwrap_or(5),
            },
            swap: Swap {
                min_resident_ms: doc.swap.min_resident_ms.unwrap_or(10_000),
                max_wait_ms: doc.swap.max_wait_ms.unwrap_or(60_000),
            },
            preemption: Preemption {
                mode: doc.preemption.mode.unwrap_or_default(),
                max_per_min: non_zero(doc.preemption.max_per_min, 30),
            },
            classes: Classes {
                mode: doc.classes.mode.unwrap_or_default(),
                interactive: class(&doc.classes.interactive, 8, 30_000),
                batch: class(&doc.classes.batch, 1, minutes(30)),
            },
            watchdog: Watchdog {
                wall_ms: doc.watchdog.wall_ms.unwrap_or(pick(minutes(30), minutes(10))),
                idle_ms: doc.watchdog.idle_ms.unwrap_or(pick(60_000, 30_000)),
                first_token_ms: doc
                    .watchdog
                    .first_token_ms
                    .unwrap_or(pick(minutes(10), minutes(2))),
            },
            limits: Limits {
                body_bytes: size(doc.limits.body_bytes, 8 << 20),
                header_bytes: size(doc.limits.header_bytes.map(u64::from), 16 << 10),
                header_timeout_ms: doc.limits.header_timeout_ms.unwrap_or(10_000),
                body_timeout_ms: doc.limits.body_timeout_ms.unwrap_or(30_000),
                connections: size(doc.limits.connections.map(u64::from), 8_192),
            },
            stream: StreamConfig {
                heartbeat_ms: doc.stream.heartbeat_ms.unwrap_or(15_000),
                reader_lag_bytes: doc.stream.reader_lag_bytes.unwrap_or(256 << 10),
                write_stall_ms: doc.stream.write_stall_ms.unwrap_or(30_000),
            },
            retention: Retention {
                ttl_ms: doc.retention.ttl_ms.unwrap_or(minutes(24 * 60)),
                bytes: doc.retention.bytes.unwrap_or(64 << 20),
                tasks: doc.retention.tasks.unwrap_or(10_000),
            },
            log: LogConfig { level: doc.log.level.unwrap_or_else(|| "info".into()) },
            drain_ms: doc.drain_ms.unwrap_or(10_000),
            release_timeout_ms: doc.release_timeout_ms.unwrap_or(30_000),
            pool_manager: manager(doc.pool_manager.unwrap_or_default()),
        }
    }
}

/// `default` first, whether it is configured or not.
fn tenants(docs: Vec<TenantDoc>) -> Vec<Tenant> {
    let tenant = |it: TenantDoc| Tenant {
        weight_milli: it.weight.map_or(NonZeroU32::MIN.saturating_mul(MILLI), milli),
        queued: it.queued,
        concurrent: it.concurrent,
        requests: it.requests_per_s.map(|rate| (rate, it.burst.unwrap_or(rate))),
        tokens_per_min: it.tokens_per_min,
        on_exceed: it.on_exceed.unwrap_or_default(),
        name: it.name,
    };
    let (default, others): (Vec<Tenant>, Vec<Tenant>) =
        docs.into_iter().map(tenant).partition(|it| it.name == DEFAULT_TENANT);
    let implied = Tenant {
        name: DEFAULT_TENANT.into(),
        weight_milli: NonZeroU32::MIN.saturating_mul(MILLI),
        queued: None,
        concurrent: None,
        requests: None,
        tokens_per_min: None,
        on_exceed: OnExceed::default(),
    };
    let first = default.into_iter().next().unwrap_or(implied);
    std::iter::once(first).chain(others).collect()
}

/// Of one, in thousandths.
const MILLI: NonZeroU32 = NonZeroU32::new(1_000).expect("a thousand is not zero");

/// A number from 0.001 to 1000, in thousandths.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked by the schema"
)]
fn milli(number: f64) -> NonZeroU32 {
    NonZeroU32::new((number * 1_000.0).round() as u32).unwrap_or(NonZeroU32::MIN)
}

fn manager(doc: ManagerDoc) -> ManagerConfig {
    let devices = if doc.devices.is_empty() {
        vec![Device { id: "cpu0".into(), kind: DeviceKind::Cpu, memory_mib: None }]
    } else {
        doc.devices.into_iter().map(device).collect()
    };
    let pools = doc.pools.into_iter().map(|it| pool(it, &devices)).collect();
    ManagerConfig {
        bind: bind(doc.bind, MANAGER_PORT),
        token_file: doc.token_file,
        allowed_hosts: doc.allowed_hosts,
        data_dir: doc.data_dir.unwrap_or_else(|| PathBuf::from("/var/lib/llama-orch")),
        on_manager_exit: doc.on_manager_exit.unwrap_or_default(),
        port_range: doc.port_range,
        devices,
        pools,
    }
}

fn device(doc: DeviceDoc) -> Device {
    Device { id: doc.id, kind: doc.kind, memory_mib: doc.memory_mib }
}

fn pool(doc: PoolDoc, devices: &[Device]) -> PoolConfig {
    let source = match doc.external {
        Some(external) => EngineSource::External {
            url: external.url,
            key_file: external.key_file,
            slots: doc.slots.and_then(NonZeroU32::new),
        },
        None => EngineSource::Managed {
            bin: doc.bin,
            flags: doc.flags,
            env: doc.env,
            model_path: doc.model.path.unwrap_or_default(),
            context_tokens: non_zero(doc.model.context_tokens, 4_096),
            slots: non_zero(doc.slots, 2),
            stop_grace_ms: doc.stop_grace_ms.unwrap_or(5_000),
        },
    };
    PoolConfig {
        id: doc.id,
        engine: doc.engine,
        source,
        model_id: doc.model.id,
        model_aliases: doc.model.aliases,
        devices: doc.devices.unwrap_or_else(|| vec![devices[0].id.clone()]),
        replicas: non_zero(doc.replicas, 1),
        restart: Restart {
            backoff_ms: doc.restart.backoff_ms.unwrap_or(BACKOFF_MS),
            backoff_max_ms: doc.restart.backoff_max_ms.unwrap_or(BACKOFF_MAX_MS),
        },
        start_timeout_ms: doc.start_timeout_ms.unwrap_or(600_000),
    }
}

fn managers(
    doc: Option<Vec<crate::document::ManagerRefDoc>>,
    local: Option<&ManagerDoc>,
) -> Vec<ManagerRef> {
    if let Some(list) = doc {
        return list
            .into_iter()
            .map(|it| ManagerRef {
                url: it.url.trim_end_matches('/').to_owned(),
                token_file: it.token_file,
            })
            .collect();
    }
    let address = local
        .and_then(|it| it.bind.as_ref()?.first().copied())
        .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, MANAGER_PORT).into());
    vec![ManagerRef {
        url: format!("http://{address}"),
        token_file: local.and_then(|it| it.token_file.clone()),
    }]
}

fn bind(addresses: Option<Vec<SocketAddr>>, port: u16) -> Bind {
    addresses.map_or(Bind::Loopback { port }, Bind::Exactly)
}

fn class(doc: &ClassDoc, weight: u32, max_wait_ms: u64) -> Class {
    Class {
        weight: non_zero(doc.weight, weight),
        max_wait_ms: doc.max_wait_ms.unwrap_or(max_wait_ms),
    }
}

fn non_zero(value: Option<u32>, default: u32) -> NonZeroU32 {
    NonZeroU32::new(value.unwrap_or(default)).unwrap_or(NonZeroU32::MIN)
}

fn digest(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    bytes
}
