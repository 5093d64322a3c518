//! From the document to the configuration: the defaults.
//!
//! Where home and team differ, the default is a `match` on the profile, so that the table of
//! defaults can be read in one place.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::config::{
    ApiKey, Artifacts, BACKOFF_MAX_MS, BACKOFF_MS, Bind, Budgets, Class, Classes, Config,
    DEFAULT_TENANT, Deadlines, Device, DeviceKind, Durability, EngineSource, Fairness, FullPolicy,
    GPU_MARGIN_MIB, JournalConfig, Limits, LogConfig, MANAGER_PORT, ManagerConfig, ManagerRef,
    ModelCost, ORCHESTRATOR_PORT, OnExceed, OnManagerExit, PoolConfig, Preemption, Profile,
    QUEUE_CAPACITY_HOME, QUEUE_CAPACITY_TEAM, QueueConfig, Restart, Retention, SamplerProfile,
    Sessions, Sse, StreamConfig, Swap, Tenant, Watchdog,
};
use crate::document::{
    ApiKeyDoc, ArtifactsDoc, ClassDoc, DeviceDoc, Document, JournalDoc, LimitsDoc, ManagerDoc,
    ModelCostDoc, PoolDoc, RetentionDoc, SamplerProfileDoc, SessionsDoc, TenantDoc,
};

impl Config {
    /// Fills in the profile's defaults. The document has passed every check.
    pub(crate) fn resolve(doc: Document) -> Self {
        let home = doc.profile == Profile::Home;
        let pick = |home_value: u64, team_value: u64| if home { home_value } else { team_value };
        let minutes = |n: u64| n * 60_000;
        let first_token_ms = doc.watchdog.first_token_ms;
        Self {
            profile: doc.profile,
            bind: bind(doc.bind, ORCHESTRATOR_PORT),
            allowed_hosts: doc.allowed_hosts,
            keys: doc.keys.into_iter().map(key).collect(),
            tenants: tenants(doc.tenants),
            fairness: Fairness {
                input_token_cost: non_zero(doc.fairness.input_token_cost, 1),
                output_token_cost: non_zero(doc.fairness.output_token_cost, 2),
            },
            model_costs: doc.models.into_iter().map(model_cost).collect(),
            sampler_profiles: sampler_profiles(doc.sampler_profiles),
            pool_managers: managers(doc.pool_managers, doc.pool_manager.as_ref()),
            queue: QueueConfig {
                capacity: non_zero(
                    doc.queue.capacity,
                    if home { QUEUE_CAPACITY_HOME } else { QUEUE_CAPACITY_TEAM },
                ),
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
                idle_ttl_ms: doc.swap.idle_ttl_ms.unwrap_or(minutes(10)),
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
            sessions: sessions(&doc.sessions),
            watchdog: Watchdog {
                wall_ms: doc.watchdog.wall_ms.unwrap_or(pick(minutes(30), minutes(10))),
                idle_ms: doc.watchdog.idle_ms.unwrap_or(pick(60_000, 30_000)),
                first_token_ms: first_token_ms.unwrap_or(pick(minutes(10), minutes(2))),
            },
            limits: limits(&doc.limits),
            stream: StreamConfig {
                heartbeat_ms: doc.stream.heartbeat_ms.unwrap_or(15_000),
                reader_lag_bytes: doc.stream.reader_lag_bytes.unwrap_or(256 << 10),
                memory_bytes: doc.stream.memory_bytes.unwrap_or(1 << 20),
                write_stall_ms: doc.stream.write_stall_ms.unwrap_or(30_000),
            },
            sse: Sse { metrics: doc.sse.metrics.unwrap_or(true) },
            retention: retention(&doc.retention, doc.journal.durability.unwrap_or_default()),
            artifacts: artifacts(&doc.artifacts),
            journal: journal(doc.journal),
            log: LogConfig { level: doc.log.level.unwrap_or_else(|| "info".into()) },
            drain_ms: doc.drain_ms.unwrap_or(10_000),
            release_timeout_ms: doc.release_timeout_ms.unwrap_or(30_000),
            pool_manager: manager(doc.pool_manager.unwrap_or_default(), doc.profile),
        }
    }
}

fn sessions(doc: &SessionsDoc) -> Sessions {
    Sessions {
        ttl_ms: doc.ttl_ms.unwrap_or(600_000),
        turns: doc.turns.unwrap_or(8),
        concurrent: doc.concurrent.unwrap_or_default(),
        max_per_tenant: non_zero(doc.max_per_tenant, 1_024),
        budgets: Budgets {
            tokens: doc.budgets.tokens,
            time_ms: doc.budgets.time_ms,
            cost: doc.budgets.cost,
        },
    }
}

fn journal(doc: JournalDoc) -> JournalConfig {
    JournalConfig {
        durability: doc.durability.unwrap_or_default(),
        data_dir: doc.data_dir.unwrap_or_else(|| PathBuf::from("/var/lib/llama-orch/journal")),
    }
}

fn retention(doc: &RetentionDoc, durability: Durability) -> Retention {
    let bytes = match durability {
        Durability::Memory => 64 << 20,
        Durability::Process | Durability::Disk => 10 << 30,
    };
    Retention {
        ttl_ms: doc.ttl_ms.unwrap_or(24 * 3_600_000),
        bytes: doc.bytes.unwrap_or(bytes),
        tasks: doc.tasks.unwrap_or(10_000),
    }
}

fn artifacts(doc: &ArtifactsDoc) -> Artifacts {
    Artifacts {
        quota_bytes: doc.quota_bytes.unwrap_or(1 << 30),
        ttl_ms: doc.ttl_ms.unwrap_or(7 * 24 * 3_600_000),
    }
}

fn limits(doc: &LimitsDoc) -> Limits {
    let size = |value: Option<u64>, default: u64| {
        usize::try_from(value.unwrap_or(default)).unwrap_or(usize::MAX)
    };
    Limits {
        body_bytes: size(doc.body_bytes, 8 << 20),
        header_bytes: size(doc.header_bytes.map(u64::from), 16 << 10),
        header_timeout_ms: doc.header_timeout_ms.unwrap_or(10_000),
        body_timeout_ms: doc.body_timeout_ms.unwrap_or(30_000),
        connections: size(doc.connections.map(u64::from), 8_192),
    }
}

fn key(doc: ApiKeyDoc) -> ApiKey {
    ApiKey {
        sha256: digest(&doc.sha256),
        name: doc.name,
        tenant: doc.tenant.unwrap_or_else(|| DEFAULT_TENANT.into()),
    }
}

fn model_cost(doc: ModelCostDoc) -> ModelCost {
    ModelCost { cost_milli: milli(doc.cost), id: doc.id }
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

fn manager(doc: ManagerDoc, profile: Profile) -> ManagerConfig {
    let devices = if doc.devices.is_empty() {
        let cpu = DeviceDoc {
            id: "cpu0".into(),
            kind: DeviceKind::Cpu,
            uuid: None,
            memory_mib: None,
            margin_mib: None,
        };
        vec![device(cpu)]
    } else {
        doc.devices.into_iter().map(device).collect()
    };
    let pools = doc.pools.into_iter().map(|it| pool(it, &devices)).collect();
    ManagerConfig {
        bind: bind(doc.bind, MANAGER_PORT),
        token_file: doc.token_file,
        allowed_hosts: doc.allowed_hosts,
        data_dir: doc.data_dir.unwrap_or_else(|| PathBuf::from("/var/lib/llama-orch")),
        on_manager_exit: doc.on_manager_exit.unwrap_or(match profile {
            Profile::Home => OnManagerExit::Stop,
            Profile::Team => OnManagerExit::Keep,
        }),
        engine_address: doc
            .engine_address
            .and_then(|it| it.parse().ok())
            .unwrap_or(Ipv4Addr::LOCALHOST.into()),
        port_range: doc.port_range,
        nvml_library: doc.nvml_library,
        devices,
        pools,
    }
}

fn device(doc: DeviceDoc) -> Device {
    let margin_mib = match doc.kind {
        DeviceKind::Cpu => 0,
        DeviceKind::Nvidia | DeviceKind::Rocm | DeviceKind::Metal => GPU_MARGIN_MIB,
    };
    Device {
        id: doc.id,
        kind: doc.kind,
        uuid: doc.uuid,
        memory_mib: doc.memory_mib,
        margin_mib: doc.margin_mib.unwrap_or(margin_mib),
    }
}

fn sampler_profiles(docs: Vec<SamplerProfileDoc>) -> Vec<SamplerProfile> {
    std::iter::once(SamplerProfile::v1()).chain(docs.into_iter().map(sampler_profile)).collect()
}

fn sampler_profile(doc: SamplerProfileDoc) -> SamplerProfile {
    #[expect(clippy::cast_possible_truncation, reason = "samplers work in single precision")]
    let or = |set: Option<f64>, left_out: f32| set.map_or(left_out, |it| it as f32);
    let v1 = SamplerProfile::v1();
    SamplerProfile {
        id: doc.id,
        temperature: or(doc.temperature, v1.temperature),
        top_p: or(doc.top_p, v1.top_p),
        top_k: doc.top_k.unwrap_or(v1.top_k),
        min_p: or(doc.min_p, v1.min_p),
        repeat_penalty: or(doc.repeat_penalty, v1.repeat_penalty),
        presence_penalty: or(doc.presence_penalty, v1.presence_penalty),
        frequency_penalty: or(doc.frequency_penalty, v1.frequency_penalty),
    }
}

fn pool(doc: PoolDoc, devices: &[Device]) -> PoolConfig {
    let source = match doc.external {
        Some(external) => EngineSource::External {
            url: external.url,
            key_file: external.key_file,
            slots: doc.slots.and_then(NonZeroU32::new),
            context_tokens: doc.model.context_tokens.and_then(NonZeroU32::new),
        },
        None => EngineSource::Managed {
            bin: doc.bin,
            flags: doc.flags,
            env: doc.env,
            user: doc.user,
            model_path: doc.model.path.unwrap_or_default(),
            memory_mib: doc.model.memory_mib,
            context_tokens: non_zero(doc.model.context_tokens, 4_096),
            slots: non_zero(doc.slots, 2),
            stop_grace_ms: doc.stop_grace_ms.unwrap_or(5_000),
        },
    };
    PoolConfig {
        id: doc.id,
        engine: doc.engine,
        triton: doc.triton,
        source,
        model_id: doc.model.id,
        model_aliases: doc.model.aliases,
        workload: doc.model.workload.unwrap_or_default(),
        devices: doc.devices.unwrap_or_else(|| vec![devices[0].id.clone()]),
        split: doc.split,
        residency: doc.residency.unwrap_or_default(),
        idle_ttl_ms: doc.idle_ttl_ms,
        replicas: non_zero(doc.replicas, 1),
        restart: Restart {
            backoff_ms: doc.restart.backoff_ms.unwrap_or(BACKOFF_MS),
            backoff_max_ms: doc.restart.backoff_max_ms.unwrap_or(BACKOFF_MAX_MS),
            breaker_failures: non_zero(doc.restart.breaker_failures, 8),
            breaker_ms: doc.restart.breaker_ms.unwrap_or(300_000),
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
