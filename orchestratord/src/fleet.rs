//! What is known of pools, replicas and models, and the small integers the core knows them by.
//!
//! The driver owns the [`Directory`]; everybody else reads the [`Fleet`] it publishes.

mod follow;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use adapter_api::Adapter;
use api_types::TaskPlacement;
use config_schema::ModelCost;
use orchestrator_core::{Availability, EngineId, Event, ModelId, PoolId, ReplicaId, ReplicaStatus};
use pool_api::{Pool, Replica, ReplicaState, Snapshot};
use tokio::sync::watch;

pub(crate) use follow::follow;
pub(crate) use view::{Fleet, FleetWatch, Model, NotResolved, PoolView};

use crate::telemetry::{ReplicaSeries, Telemetry};

/// News from the follower of one pool manager.
#[derive(Debug)]
pub(crate) enum FleetChange {
    Snapshot {
        manager: usize,
        snapshot: Snapshot,
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
}

/// One replica, as an attempt needs it.
pub(crate) struct ReplicaEntry {
    pub(crate) adapter: Arc<dyn Adapter>,
    pub(crate) placement: Arc<TaskPlacement>,
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
    pools: BTreeMap<String, Pool>,
}

pub(crate) struct Directory {
    managers: Vec<Manager>,
    replica_ids: BTreeMap<(usize, String, String), ReplicaId>,
    model_ids: BTreeMap<String, ModelId>,
    pool_ids: BTreeMap<String, PoolId>,
    entries: HashMap<ReplicaId, Known>,
    published: watch::Sender<Arc<Fleet>>,
}

struct Known {
    /// What the adapter was made for; a change makes a new one.
    endpoint: (String, Option<String>),
    entry: Arc<ReplicaEntry>,
}

impl Directory {
    /// `models`: those that are known before any pool tells of them.
    pub(crate) fn new(managers: usize, models: impl Iterator<Item = String>) -> Self {
        let unknown = || Manager { contact: Contact::Never, pools: BTreeMap::new() };
        let directory = Self {
            managers: std::iter::repeat_with(unknown).take(managers).collect(),
            replica_ids: BTreeMap::new(),
            model_ids: (0..).map(ModelId).zip(models).map(|(id, name)| (name, id)).collect(),
            pool_ids: BTreeMap::new(),
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
            FleetChange::Snapshot { manager, snapshot } => self.replace(manager, snapshot.pools),
            FleetChange::Pool { manager, pool } => {
                self.managers[manager].pools.insert(pool.pool_id.clone(), pool.clone());
                self.pool_events(manager, &pool)
            }
            FleetChange::Interrupted { manager } => self.lose(manager, Contact::Interrupted),
            FleetChange::Lost { manager } => self.lose(manager, Contact::Lost),
        };
        let fleet = self.fleet();
        self.published.send_replace(Arc::new(fleet));
        events
    }

    fn replace(&mut self, manager: usize, pools: Vec<Pool>) -> Vec<Event> {
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
                events.push(Event::ReplicaRemoved { replica: *id });
            }
        }
        self.managers[manager].contact = Contact::Live;
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

    fn pool_events(&mut self, manager: usize, pool: &Pool) -> Vec<Event> {
        let (model, pool_id) = (self.model_id(&pool.model_id), self.pool_id(&pool.pool_id));
        let contact = self.managers[manager].contact;
        let mut events = Vec::new();
        for replica in &pool.replicas {
            let id = self.replica_id(manager, &pool.pool_id, &replica.replica_id);
            self.remember(id, pool, replica);
            // A replica that has not told where it is cannot be sent anything, whatever it says.
            let availability = match availability(contact, pool, replica) {
                Availability::Ready if !self.entries.contains_key(&id) => Availability::Coming,
                other => other,
            };
            let status = ReplicaStatus {
                model,
                pool: pool_id,
                engine: engine_id(&pool.engine),
                incarnation: replica.incarnation,
                availability,
                slots: replica.slots,
                context_tokens: replica.context_tokens,
                kv_tokens: 0,
                // Every adapter stops an engine by closing its connection.
                interruptible: true,
            };
            events.push(Event::ReplicaChanged { replica: id, status });
        }
        events
    }

    /// Keeps the adapter while endpoint and key stay, so that its connections are reused.
    fn remember(&mut self, id: ReplicaId, pool: &Pool, replica: &Replica) {
        let Some(url) = replica.endpoint.clone() else { return };
        let placement = Arc::new(TaskPlacement {
            pool_id: pool.pool_id.clone(),
            replica_id: replica.replica_id.clone(),
            engine: pool.engine.clone(),
            engine_version: replica.engine_version.clone().unwrap_or_else(|| "unknown".into()),
            model_digest: replica.model_digest.clone(),
        });
        let endpoint = (url, replica.engine_key.clone());
        let adapter = match self.entries.get(&id) {
            Some(known) if known.endpoint == endpoint => Arc::clone(&known.entry.adapter),
            Some(_) | None => adapter(&endpoint),
        };
        let entry = Arc::new(ReplicaEntry { adapter, placement, series: OnceLock::new() });
        self.entries.insert(id, Known { endpoint, entry });
    }

    fn model_id(&mut self, name: &str) -> ModelId {
        let next = ModelId(small(self.model_ids.len()));
        *self.model_ids.entry(name.to_owned()).or_insert(next)
    }

    fn pool_id(&mut self, name: &str) -> PoolId {
        let next = PoolId(small(self.pool_ids.len()));
        *self.pool_ids.entry(name.to_owned()).or_insert(next)
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

    /// The engine of the model's first pool, for labels of what happens before a replica is chosen.
    pub(crate) fn engine_of(&self, model: ModelId) -> Option<&str> {
        self.pools_of(model).next().map(|(_, pool)| pool.engine.as_str())
    }

    pub(crate) fn replica_name(&self, id: ReplicaId) -> String {
        let found = self.replica_ids.iter().find(|(_, it)| **it == id);
        found.map(|((_, _, name), _)| name.clone()).expect("ids come from here")
    }

    fn pools_of(&self, model: ModelId) -> impl Iterator<Item = (Contact, &Pool)> {
        self.managers
            .iter()
            .flat_map(|manager| manager.pools.values().map(|it| (manager.contact, it)))
            .filter(move |(_, pool)| self.model_ids.get(&pool.model_id) == Some(&model))
    }
}

fn availability(contact: Contact, pool: &Pool, replica: &Replica) -> Availability {
    match contact {
        Contact::Live => {}
        // Work already sent goes on; new work waits until the manager is heard again.
        Contact::Never | Contact::Interrupted => return Availability::Coming,
        Contact::Lost => return Availability::Down,
    }
    if pool.draining {
        return Availability::Draining;
    }
    match replica.state {
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

/// The engines whose dialect this build speaks.
fn adapter((url, key): &(String, Option<String>)) -> Arc<dyn Adapter> {
    Arc::new(llamacpp::LlamaCpp::new(url, key.as_deref()))
}

/// The core's name for an engine kind.
pub(crate) fn engine_id(name: &str) -> EngineId {
    match name {
        "llamacpp" => EngineId(0),
        _ => EngineId(u8::MAX),
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).expect("fewer than 2^32 replicas and models")
}
