//! What is known of pools, replicas and models, and the small integers the core knows them by.
//!
//! The driver owns the [`Directory`]; everybody else reads the [`Fleet`] it publishes.

mod command;
mod follow;
mod settle;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use adapter_api::{Adapter, Features};
use api_types::TaskPlacement;
use config_schema::ModelCost;
use orchestrator_core::{
    Availability, DeviceId, EngineId, Event, Footprint, Micros, ModelId, PoolId, ReplicaId,
    ReplicaStatus,
};
use pool_api::{Device, DeviceHealth, Pool, Replica, ReplicaState, Residency, Snapshot};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use command::Commander;
pub(crate) use follow::follow;
pub(crate) use settle::settle;
pub(crate) use view::{DeviceView, Fleet, FleetWatch, Model, NotResolved, PoolView};

use crate::telemetry::{Latencies, ReplicaSeries, Telemetry};

/// Of a load that was never measured.
const LOAD_EXPECTED: Micros = Micros(10_000_000);

/// News from the follower of one pool manager.
#[derive(Debug)]
pub(crate) enum FleetChange {
    Snapshot {
        manager: usize,
        snapshot: Snapshot,
    },
    Devices {
        manager: usize,
        devices: Vec<Device>,
    },
    Pool {
        manager: usize,
        pool: Pool,
    },
    /// The connection broke; it is being made anew.
    Interrupted {
        manager: usize,
    },
    /// Three heartbeats are missing.
    Lost {
        manager: usize,
    },
    /// Nothing of an earlier life of ours runs on the replica any more.
    Settled {
        replica: ReplicaId,
    },
}

/// One replica, as an attempt needs it.
pub(crate) struct ReplicaEntry {
    pub(crate) adapter: Arc<dyn Adapter>,
    pub(crate) features: Features,
    pub(crate) placement: Arc<TaskPlacement>,
    pub(crate) latencies: Arc<Latencies>,
    series: OnceLock<ReplicaSeries>,
}

impl ReplicaEntry {
    /// Its metrics; a replica that never runs a task has none.
    pub(crate) fn series(&self, telemetry: &Telemetry) -> &ReplicaSeries {
        self.series.get_or_init(|| telemetry.replica(&self.placement))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    Never,
    Live,
    Interrupted,
    Lost,
}

struct Manager {
    contact: Contact,
    commander: Arc<Commander>,
    /// Chosen anew by the manager at each of its starts.
    instance: String,
    devices: Vec<Device>,
    pools: BTreeMap<String, Pool>,
}

/// A process of an engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    pool: String,
    replica: String,
    pub(crate) incarnation: u64,
}

impl Place {
    pub(crate) fn is_of_the_replica_of(&self, other: &Self) -> bool {
        (&self.pool, &self.replica) == (&other.pool, &other.replica)
    }
}

pub(crate) struct Directory {
    managers: Vec<Manager>,
    replica_ids: BTreeMap<(usize, String, String), ReplicaId>,
    model_ids: BTreeMap<String, ModelId>,
    pool_ids: BTreeMap<String, PoolId>,
    device_ids: BTreeMap<(usize, String), DeviceId>,
    entries: HashMap<ReplicaId, Known>,
    /// What the core was told last: it is told changes only, because to it a replica that is
    /// unloaded again is one whose load has failed.
    told: HashMap<ReplicaId, (ReplicaStatus, Footprint)>,
    told_of_devices: HashMap<DeviceId, u64>,
    /// Replicas on which an earlier life ran something, by pool and name: their engines may not have
    /// noticed yet that nobody reads it.
    unsettled: BTreeSet<(String, String)>,
    /// Those that are being asked.
    settling: BTreeSet<ReplicaId>,
    /// Of models on demand that do not say otherwise.
    idle_ttl: Option<Micros>,
    published: watch::Sender<Arc<Fleet>>,
}

struct Known {
    /// What the adapter was made for; a change makes a new one.
    endpoint: (String, Option<String>),
    entry: Arc<ReplicaEntry>,
}

impl Directory {
    /// `models`: those that are known before any pool tells of them. `idle_ttl_ms`: 0 for models
    /// that stay until their memory is needed.
    pub(crate) fn new(
        commanders: Vec<Arc<Commander>>,
        models: impl Iterator<Item = String>,
        idle_ttl_ms: u64,
    ) -> Self {
        let unknown = |commander| Manager {
            contact: Contact::Never,
            commander,
            instance: String::new(),
            devices: Vec::new(),
            pools: BTreeMap::new(),
        };
        let directory = Self {
            managers: commanders.into_iter().map(unknown).collect(),
            replica_ids: BTreeMap::new(),
            model_ids: (0..).map(ModelId).zip(models).map(|(id, name)| (name, id)).collect(),
            pool_ids: BTreeMap::new(),
            device_ids: BTreeMap::new(),
            told: HashMap::new(),
            told_of_devices: HashMap::new(),
            unsettled: BTreeSet::new(),
            settling: BTreeSet::new(),
            idle_ttl: span(idle_ttl_ms),
            entries: HashMap::new(),
            published: watch::Sender::new(Arc::default()),
        };
        directory.published.send_replace(Arc::new(directory.fleet()));
        directory
    }

    /// What tokens of a model count, by the core's id.
    pub(crate) fn model_costs(&self, costs: &[ModelCost]) -> impl Iterator<Item = (ModelId, u32)> {
        costs.iter().map(|it| (self.model_ids[&it.id], it.cost_milli.get()))
    }

    pub(crate) fn watch(&self) -> FleetWatch {
        FleetWatch::new(self.published.subscribe())
    }

    /// Takes the news in, publishes the new fleet and returns what the core must know.
    pub(crate) fn update(&mut self, change: FleetChange) -> Vec<Event> {
        let events = match change {
            FleetChange::Snapshot { manager, snapshot } => self.replace(manager, snapshot),
            FleetChange::Devices { manager, devices } => self.device_events(manager, devices),
            FleetChange::Pool { manager, pool } => {
                self.managers[manager].pools.insert(pool.pool_id.clone(), pool.clone());
                self.pool_events(manager, &pool)
            }
            FleetChange::Interrupted { manager } => self.lose(manager, Contact::Interrupted),
            FleetChange::Lost { manager } => self.lose(manager, Contact::Lost),
            FleetChange::Settled { replica } => self.settled(replica),
        };
        let fleet = self.fleet();
        self.published.send_replace(Arc::new(fleet));
        events
    }

    fn replace(&mut self, manager: usize, snapshot: Snapshot) -> Vec<Event> {
        let Snapshot { manager_instance, devices, pools, .. } = snapshot;
        if self.managers[manager].instance != manager_instance {
            // Orders that the one before was given are forgotten: what it says now is news.
            self.managers[manager].instance = manager_instance;
            self.forget_told(manager);
        }
        let gone: Vec<_> = self.managers[manager]
            .pools
            .values()
            .flat_map(|pool| {
                pool.replicas.iter().map(|it| (pool.pool_id.clone(), it.replica_id.clone()))
            })
            .filter(|(pool, replica)| !pools.iter().any(|it| has(it, pool, replica)))
            .collect();
        let mut events = Vec::new();
        for (pool, replica) in gone {
            if let Some(id) = self.replica_ids.get(&(manager, pool, replica)) {
                self.entries.remove(id);
                self.told.remove(id);
                events.push(Event::ReplicaRemoved { replica: *id });
            }
        }
        self.managers[manager].contact = Contact::Live;
        events.extend(self.device_events(manager, devices));
        self.managers[manager].pools =
            pools.iter().map(|it| (it.pool_id.clone(), it.clone())).collect();
        for pool in &pools {
            events.extend(self.pool_events(manager, pool));
        }
        events
    }

    fn lose(&mut self, manager: usize, contact: Contact) -> Vec<Event> {
        self.managers[manager].contact = contact;
        let pools: Vec<_> = self.managers[manager].pools.values().cloned().collect();
        pools.iter().flat_map(|pool| self.pool_events(manager, pool)).collect()
    }

    fn forget_told(&mut self, manager: usize) {
        let theirs = self.replica_ids.iter().filter(|((of, ..), _)| *of == manager);
        for (_, id) in theirs {
            self.told.remove(id);
        }
    }

    fn device_events(&mut self, manager: usize, devices: Vec<Device>) -> Vec<Event> {
        let mut events = Vec::new();
        for it in &devices {
            let device = self.device_id(manager, &it.device_id);
            let memory_bytes = match it.health {
                DeviceHealth::Healthy => it.memory_usable_bytes,
                DeviceHealth::Failed | DeviceHealth::Lost => 0,
            };
            if self.told_of_devices.insert(device, memory_bytes) != Some(memory_bytes) {
                events.push(Event::DeviceChanged { device, memory_bytes });
            }
        }
        self.managers[manager].devices = devices;
        events
    }

    fn pool_events(&mut self, manager: usize, pool: &Pool) -> Vec<Event> {
        let pool_id = self.pool_id(&pool.pool_id);
        let contact = self.managers[manager].contact;
        let mut events = Vec::new();
        for replica in &pool.replicas {
            let id = self.replica_id(manager, &pool.pool_id, &replica.replica_id);
            self.remember(id, pool, replica);
            // A replica that has not told where it is cannot be sent anything, whatever it says.
            let availability = match availability(contact, pool, replica) {
                Availability::Ready if !self.entries.contains_key(&id) => Availability::Coming,
                Availability::Ready if self.is_unsettled(pool, replica) => Availability::Coming,
                other => other,
            };
            let status = ReplicaStatus {
                model: self.model_id(&replica.model_id),
                pool: pool_id,
                engine: engine_id(pool.engine.name()),
                incarnation: replica.incarnation,
                availability,
                slots: replica.slots,
                context_tokens: replica.context_tokens,
                kv_tokens: 0,
                // Every adapter stops an engine by closing its connection.
                interruptible: true,
                spread: pool.spread,
            };
            let footprint = self.footprint(manager, pool, replica);
            let told = self.told.insert(id, (status, footprint.clone()));
            if told.as_ref().map(|it| it.0) != Some(status) {
                events.push(Event::ReplicaChanged { replica: id, status });
            }
            if told.is_none_or(|it| it.1 != footprint) {
                events.push(Event::FootprintChanged { replica: id, footprint });
            }
        }
        events
    }

    fn footprint(&mut self, manager: usize, pool: &Pool, replica: &Replica) -> Footprint {
        let bytes = |it: &pool_api::MemoryNeed| (self.device_id(manager, &it.device_id), it.bytes);
        Footprint {
            memory_bytes: replica.memory.iter().map(bytes).collect(),
            load: replica.load_ms.and_then(span).unwrap_or(LOAD_EXPECTED),
            pinned: pool.residency == Residency::Pinned,
            idle_ttl: match (pool.residency, pool.idle_ttl_ms) {
                (Residency::Pinned, _) => None,
                (Residency::OnDemand, Some(ms)) => span(ms),
                (Residency::OnDemand, None) => self.idle_ttl,
            },
        }
    }

    /// Keeps the adapter while endpoint and key stay, so that its connections are reused.
    fn remember(&mut self, id: ReplicaId, pool: &Pool, replica: &Replica) {
        let Some(url) = replica.endpoint.clone() else { return };
        let placement = Arc::new(TaskPlacement {
            pool_id: pool.pool_id.clone(),
            replica_id: replica.replica_id.clone(),
            engine: pool.engine.name().into(),
            engine_version: replica.engine_version.clone().unwrap_or_else(|| "unknown".into()),
            model_digest: replica.model_digest.clone(),
        });
        let endpoint = (url, replica.engine_key.clone());
        let known = self.entries.get(&id);
        let latencies = match known {
            // Only of what is the same model and engine still.
            Some(known) if known.entry.placement == placement => Arc::clone(&known.entry.latencies),
            Some(_) | None => Arc::default(),
        };
        let adapter = match known {
            Some(known) if known.endpoint == endpoint => Arc::clone(&known.entry.adapter),
            Some(_) | None => engines::connect(&pool.engine, &endpoint.0, endpoint.1.as_deref()),
        };
        let features = adapter.features();
        let entry =
            ReplicaEntry { adapter, features, placement, latencies, series: OnceLock::new() };
        let entry = Arc::new(entry);
        self.entries.insert(id, Known { endpoint, entry });
    }

    pub(crate) fn model_id(&mut self, name: &str) -> ModelId {
        let next = ModelId(small(self.model_ids.len()));
        *self.model_ids.entry(name.to_owned()).or_insert(next)
    }

    pub(crate) fn pool_id(&mut self, name: &str) -> PoolId {
        let next = PoolId(small(self.pool_ids.len()));
        *self.pool_ids.entry(name.to_owned()).or_insert(next)
    }

    fn device_id(&mut self, manager: usize, name: &str) -> DeviceId {
        let next = DeviceId(small(self.device_ids.len()));
        *self.device_ids.entry((manager, name.to_owned())).or_insert(next)
    }

    fn replica_id(&mut self, manager: usize, pool: &str, replica: &str) -> ReplicaId {
        let next = ReplicaId(small(self.replica_ids.len()));
        *self.replica_ids.entry((manager, pool.to_owned(), replica.to_owned())).or_insert(next)
    }

    pub(crate) fn replica(&self, id: ReplicaId) -> Option<Arc<ReplicaEntry>> {
        self.entries.get(&id).map(|it| Arc::clone(&it.entry))
    }

    pub(crate) fn replica_ids(&self) -> impl Iterator<Item = ReplicaId> {
        self.replica_ids.values().copied()
    }

    pub(crate) fn model_name(&self, id: ModelId) -> String {
        let found = self.model_ids.iter().find(|(_, it)| **it == id);
        found.map(|(name, _)| name.clone()).expect("ids come from here")
    }

    /// The engine of the model's first replica, for labels of what happens before a replica is chosen.
    pub(crate) fn engine_of(&self, model: ModelId) -> Option<&str> {
        self.replicas_of(model).next().map(|(pool, _)| pool.engine.name())
    }

    /// Who carries out orders for a replica, and the replica's name there.
    pub(crate) fn commander(&self, id: ReplicaId) -> (Arc<Commander>, String) {
        let found = self.replica_ids.iter().find(|(_, it)| **it == id);
        let ((manager, _, name), _) = found.expect("ids come from here");
        (Arc::clone(&self.managers[*manager].commander), name.clone())
    }

    /// How far a model's load has come, in thousandths; `None` where none is under way.
    pub(crate) fn load_progress(&self, model: ModelId) -> Option<u32> {
        let loads = self.replicas_of(model).filter_map(|(_, it)| it.load);
        loads.map(|it| it.permille).max()
    }

    pub(crate) fn replica_name(&self, id: ReplicaId) -> String {
        let found = self.replica_ids.iter().find(|(_, it)| **it == id);
        found.map(|((_, _, name), _)| name.clone()).expect("ids come from here")
    }

    /// The process of a replica that the core knows, by the names that outlive this one.
    pub(crate) fn place(&self, id: ReplicaId) -> Option<Place> {
        let incarnation = self.told.get(&id)?.0.incarnation;
        let ((_, pool, replica), _) = self.replica_ids.iter().find(|(_, it)| **it == id)?;
        Some(Place { pool: pool.clone(), replica: replica.clone(), incarnation })
    }

    fn replicas_of(&self, model: ModelId) -> impl Iterator<Item = (&Pool, &Replica)> {
        self.managers
            .iter()
            .flat_map(|it| it.pools.values())
            .flat_map(|pool| pool.replicas.iter().map(move |it| (pool, it)))
            .filter(move |(_, it)| self.model_ids.get(&it.model_id) == Some(&model))
    }
}

fn availability(contact: Contact, pool: &Pool, replica: &Replica) -> Availability {
    match contact {
        Contact::Live => {}
        // Work already sent goes on; new work waits until the manager is heard again.
        Contact::Interrupted if replica.state == ReplicaState::Unloaded => {}
        Contact::Never | Contact::Interrupted => return Availability::Coming,
        Contact::Lost => return Availability::Down,
    }
    if pool.draining {
        return match replica.state {
            ReplicaState::Unloaded | ReplicaState::Unready | ReplicaState::Stopped => {
                Availability::Down
            }
            _ => Availability::Draining,
        };
    }
    match replica.state {
        ReplicaState::Unloaded => Availability::Unloaded,
        ReplicaState::Ready => Availability::Ready,
        ReplicaState::Starting
        | ReplicaState::Loading
        | ReplicaState::Probing
        | ReplicaState::Backoff => Availability::Coming,
        ReplicaState::Draining => Availability::Draining,
        ReplicaState::Unready | ReplicaState::Stopped => Availability::Down,
    }
}

fn has(pool: &Pool, pool_id: &str, replica_id: &str) -> bool {
    pool.pool_id == pool_id && pool.replicas.iter().any(|it| it.replica_id == replica_id)
}

/// The kinds of engines, in the order of the core's names for them.
pub(crate) const ENGINES: [&str; 4] = ["llamacpp", "vllm", "tgi", "triton"];

/// The core's name for an engine kind; one that is unknown matches no replica.
pub(crate) fn engine_id(name: &str) -> EngineId {
    let index = ENGINES.iter().position(|it| *it == name);
    EngineId(index.and_then(|it| u8::try_from(it).ok()).unwrap_or(u8::MAX))
}

/// `None` for no time at all.
fn span(ms: u64) -> Option<Micros> {
    (ms != 0).then(|| Micros(ms.saturating_mul(1_000)))
}

fn small(count: usize) -> u32 {
    u32::try_from(count).expect("fewer than 2^32 replicas and models")
}
