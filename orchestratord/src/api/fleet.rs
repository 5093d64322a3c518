//! `/v1/models`, `/v1/pools`, `/v1/pools/{id}/health`, `/v1/replicasets`, `/v1/capabilities`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adapter_api::{Features, Grammar};
use api_types::{
    API_VERSION, Capabilities, Device, DeviceList, EngineCapability, ErrorCode, ModelCapability,
    ModelList, ModelState, Pool, PoolHealth, PoolHealthMetrics, PoolList, Replica, ReplicaSet,
    ReplicaSetList,
};
use axum::Json;
use axum::extract::State;
use orchestrator_core::ReplicaId;
use pool_api::{Determinism, DeviceHealth, Origin, ReplicaState, Residency};

use super::App;
use super::error::ApiError;
use super::extract::Id;
use crate::fleet::{DeviceView, PoolView};
use crate::telemetry::{Latencies, slo};

type Busy = BTreeMap<ReplicaId, u32>;

/// The models that can be asked for.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "list_models", tag = "data",
    responses((status = 200, description = "In order of their ids.", body = ModelList)),
    extensions(("x-req-id" = json!(["ORCH-2008", "ORCH-3032"]))),
)]
pub(super) async fn models(State(app): State<App>) -> Json<ModelList> {
    let fleet = app.fleet.now();
    let models = fleet.models.values().map(|it| api_types::Model {
        id: it.name.clone(),
        aliases: it.aliases.clone(),
        state: ModelState::Active,
        resident: it.resident,
        context_tokens: it.context_tokens,
        workloads: it.workloads.iter().map(|it| it.name().to_owned()).collect(),
        engines: it.engines.clone(),
        digest: it.digest.clone(),
    });
    Json(ModelList { models: models.collect() })
}

/// The pools of every manager that was heard of.
#[utoipa::path(
    get, path = "/v1/pools", operation_id = "list_pools", tag = "control",
    responses((status = 200, description = "With their replicas.", body = PoolList)),
    extensions(("x-req-id" = json!(["ORCH-2008", "ORCH-3032"]))),
)]
pub(super) async fn pools(State(app): State<App>) -> Json<PoolList> {
    let busy: Busy = app.driver.busy_slots().await.into_iter().collect();
    Json(PoolList { pools: app.fleet.now().pools.iter().map(|it| pool(it, &busy)).collect() })
}

/// Whether a pool lives and takes work.
#[utoipa::path(
    get, path = "/v1/pools/{id}/health", operation_id = "get_pool_health", tag = "control",
    params(("id" = String, Path, description = "The pool.")),
    responses((status = 200, description = "Its health; 200 also when ill.", body = PoolHealth)),
    extensions(("x-req-id" = json!(["OC-CTRL-2001"]))),
)]
pub(super) async fn pool_health(
    State(app): State<App>,
    Id(id): Id,
) -> Result<Json<PoolHealth>, ApiError> {
    let busy: Busy = app.driver.busy_slots().await.into_iter().collect();
    let fleet = app.fleet.now();
    let view = fleet.pools.iter().find(|it| it.pool.pool_id == id);
    let view =
        view.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("there is no pool `{id}`")))?;
    Ok(Json(health(&pool(view, &busy), view)))
}

/// What engines run on, of every manager that was heard of.
#[utoipa::path(
    get, path = "/v1/devices", operation_id = "list_devices", tag = "control",
    responses((status = 200, description = "With what models take of them.", body = DeviceList)),
    extensions(("x-req-id" = json!(["OC-CTRL-2005"]))),
)]
pub(super) async fn devices(State(app): State<App>) -> Json<DeviceList> {
    let fleet = app.fleet.now();
    let resident = |at: &DeviceView| {
        let pools = fleet.pools.iter().filter(|it| Arc::ptr_eq(&it.commander, &at.commander));
        let loaded = pools.flat_map(|it| &it.pool.replicas).filter(|it| it.pid.is_some());
        let needs = loaded.flat_map(|it| &it.memory);
        let here = needs.filter(|it| it.device_id == at.device.device_id);
        here.map(|it| it.bytes).fold(0, u64::saturating_add)
    };
    let device = |at: &DeviceView| {
        let it = at.device.clone();
        Device {
            device_id: it.device_id,
            manager: at.commander.url.clone(),
            kind: it.kind,
            name: it.name,
            uuid: it.uuid,
            memory_total_bytes: it.memory_total_bytes,
            memory_usable_bytes: it.memory_usable_bytes,
            memory_models_bytes: resident(at),
            health: match it.health {
                DeviceHealth::Healthy => "healthy".into(),
                DeviceHealth::Failed => "failed".into(),
                DeviceHealth::Lost => "lost".into(),
            },
            last_error: it.last_error,
            reachable: at.reachable,
        }
    };
    Json(DeviceList { devices: fleet.devices.iter().map(device).collect() })
}

/// Replicas that stand for each other, how busy they are, and how fast they have answered lately.
#[utoipa::path(
    get, path = "/v1/replicasets", operation_id = "list_replica_sets", tag = "control",
    responses((status = 200, description = "By model, engine and file.", body = ReplicaSetList)),
    extensions(("x-req-id" = json!(["OC-CTRL-2004", "ORCH-3007"]))),
)]
pub(super) async fn replica_sets(State(app): State<App>) -> Json<ReplicaSetList> {
    let busy: Busy = app.driver.busy_slots().await.into_iter().collect();
    let fleet = app.fleet.now();
    let mut sets: Vec<(ReplicaSet, Vec<&Latencies>)> = Vec::new();
    for view in &fleet.pools {
        let known = view.replica_ids.iter().zip(&view.entries);
        for (replica, (id, entry)) in view.pool.replicas.iter().zip(known) {
            let fresh = ReplicaSet {
                model_id: replica.model_id.clone(),
                engine: view.pool.engine.name().into(),
                engine_version: replica.engine_version.clone(),
                model_digest: replica.model_digest.clone(),
                context_tokens: replica.context_tokens,
                replica_ids: Vec::new(),
                replicas_ready: 0,
                slots: 0,
                slots_busy: 0,
                slo: Vec::new(),
            };
            let index = sets.iter().position(|it| is_same(&it.0, &fresh)).unwrap_or_else(|| {
                sets.push((fresh, Vec::new()));
                sets.len() - 1
            });
            let (set, latencies) = &mut sets[index];
            latencies.extend(entry.as_ref().map(|it| &*it.latencies));
            set.replica_ids.push(replica.replica_id.clone());
            set.replicas_ready += u32::from(view.reachable && replica.state == ReplicaState::Ready);
            set.slots += replica.slots;
            set.slots_busy += busy.get(id).copied().unwrap_or(0);
        }
    }
    let told = |(set, latencies): (ReplicaSet, Vec<&Latencies>)| ReplicaSet {
        slo: slo(latencies.iter().copied()),
        ..set
    };
    Json(ReplicaSetList { replica_sets: sets.into_iter().map(told).collect() })
}

/// Whether replicas of the two sets stand for each other.
fn is_same(a: &ReplicaSet, b: &ReplicaSet) -> bool {
    let engine = |it: &ReplicaSet| (it.engine.clone(), it.engine_version.clone());
    let model = |it: &ReplicaSet| (it.model_id.clone(), it.model_digest.clone());
    engine(a) == engine(b) && model(a) == model(b) && a.context_tokens == b.context_tokens
}

/// What this server can do, and the version of this API.
#[utoipa::path(
    get, path = "/v1/capabilities", operation_id = "get_capabilities", tag = "control",
    responses((status = 200, description = "By engine and model.", body = Capabilities)),
    extensions(("x-req-id" = json!(["ORCH-3095", "ORCH-3096", "OC-CTRL-2060", "OC-CTRL-2061"]))),
)]
pub(super) async fn capabilities(State(app): State<App>) -> Json<Capabilities> {
    let fleet = app.fleet.now();
    let mut engines: BTreeMap<&str, EngineCapability> = BTreeMap::new();
    for view in &fleet.pools {
        let pool = &view.pool;
        let engine = engines.entry(pool.engine.name()).or_insert_with(|| EngineCapability {
            engine: pool.engine.name().into(),
            versions: Vec::new(),
            models: Vec::new(),
        });
        let versions = pool.replicas.iter().filter_map(|it| it.engine_version.clone());
        let versions: BTreeSet<_> = versions.chain(engine.versions.drain(..)).collect();
        engine.versions = versions.into_iter().collect();
        engine.models.push(model_capability(pool, &view.features));
    }
    Json(Capabilities {
        api_version: API_VERSION.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        engines: engines.into_values().collect(),
        sampler_profiles: app.sampler_profiles.iter().map(|it| it.id.clone()).collect(),
        features: ["stream_in_submit", "last_event_id", "idempotent_task_id"]
            .map(str::to_owned)
            .into(),
    })
}

fn model_capability(pool: &pool_api::Pool, can: &Features) -> ModelCapability {
    let templated = can.messages && pool.replicas.iter().any(|it| it.chat_template);
    let optional = [
        (templated, "messages"),
        (can.token_ids, "token_ids"),
        (can.answer_ids, "return_token_ids"),
        (matches!(pool.determinism, Determinism::Proved { .. }), "determinism_strict"),
        (can.json, "json"),
        (can.json_schema, "json_schema"),
        (can.grammar == Some(Grammar::Gbnf), "grammar_gbnf"),
        (can.grammar == Some(Grammar::Ebnf), "grammar_ebnf"),
        (can.grammar == Some(Grammar::Regex), "grammar_regex"),
    ];
    let optional = optional.into_iter().filter(|it| it.0).map(|it| it.1);
    let features = ["stop_sequences"].into_iter().chain(optional).chain(can.settings.clone());
    ModelCapability {
        model_id: pool.model_id.clone(),
        ctx_max: pool.replicas.iter().map(|it| it.context_tokens).max().unwrap_or(0),
        slots: pool.replicas.iter().map(|it| it.slots).sum(),
        workloads: vec![pool.workload.name().into()],
        features: features.map(str::to_owned).collect(),
    }
}

fn pool(view: &PoolView, busy: &Busy) -> Pool {
    let pool = &view.pool;
    let replica = |(it, id): (&pool_api::Replica, &ReplicaId)| Replica {
        replica_id: it.replica_id.clone(),
        model_id: it.model_id.clone(),
        state: state(it.state).into(),
        engine_version: it.engine_version.clone(),
        model_digest: it.model_digest.clone(),
        context_tokens: it.context_tokens,
        slots: it.slots,
        slots_busy: busy.get(id).copied().unwrap_or(0),
        restarts: it.restarts,
        memory_bytes: it.memory.iter().map(|it| it.bytes).fold(0, u64::saturating_add),
        load_progress: it.load.map(|it| f64::from(it.permille) / 1_000.0),
        last_error: it.last_error.clone(),
    };
    Pool {
        pool_id: pool.pool_id.clone(),
        engine: pool.engine.name().into(),
        origin: match pool.origin {
            Origin::Managed => "managed".into(),
            Origin::External => "external".into(),
        },
        model_id: pool.model_id.clone(),
        devices: pool.devices.clone(),
        residency: match pool.residency {
            Residency::Pinned => "pinned".into(),
            Residency::OnDemand => "on_demand".into(),
        },
        draining: pool.draining,
        reachable: view.reachable,
        replicas: pool.replicas.iter().zip(&view.replica_ids).map(replica).collect(),
    }
}

fn health(pool: &Pool, view: &PoolView) -> PoolHealth {
    let states = || view.pool.replicas.iter().map(|it| it.state);
    let ready = states().filter(|it| *it == ReplicaState::Ready).count();
    let runs = |it| {
        !matches!(
            it,
            ReplicaState::Backoff
                | ReplicaState::Unready
                | ReplicaState::Stopped
                | ReplicaState::Unloaded
        )
    };
    PoolHealth {
        live: view.reachable && states().any(runs),
        ready: view.reachable && ready > 0 && !pool.draining,
        draining: pool.draining,
        last_error: pool.replicas.iter().find_map(|it| it.last_error.clone()),
        metrics: PoolHealthMetrics {
            slots: pool.replicas.iter().map(|it| it.slots).sum(),
            slots_busy: pool.replicas.iter().map(|it| it.slots_busy).sum(),
            replicas: u32::try_from(pool.replicas.len()).unwrap_or(u32::MAX),
            replicas_ready: u32::try_from(ready).unwrap_or(u32::MAX),
            restarts: pool.replicas.iter().map(|it| it.restarts).sum(),
        },
    }
}

pub(super) fn state(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Unloaded => "unloaded",
        ReplicaState::Starting => "starting",
        ReplicaState::Loading => "loading",
        ReplicaState::Probing => "probing",
        ReplicaState::Ready => "ready",
        ReplicaState::Draining => "draining",
        ReplicaState::Backoff => "backoff",
        ReplicaState::Unready => "unready",
        ReplicaState::Stopped => "stopped",
    }
}
