//! The fleet as handlers read it: an immutable picture, replaced at each change.

use std::collections::BTreeMap;
use std::sync::Arc;

use adapter_api::{Adapter, Features};
use orchestrator_core::{Availability, ModelId, PoolId, ReplicaId};
use pool_api::{Device, Pool, Workload};
use tokio::sync::watch;

use super::{Commander, Contact, Directory, ReplicaEntry, availability};

#[derive(Default)]
pub(crate) struct Fleet {
    pub(crate) pools: Vec<PoolView>,
    /// By id.
    pub(crate) models: BTreeMap<String, Model>,
    pub(crate) devices: Vec<DeviceView>,
    /// Managers that have never been heard of since this daemon started.
    pub(crate) managers_awaited: usize,
}

pub(crate) struct PoolView {
    pub(crate) pool: Pool,
    pub(crate) reachable: bool,
    pub(crate) commander: Arc<Commander>,
    pub(crate) core_id: PoolId,
    /// In the order of the pool's replicas.
    pub(crate) replica_ids: Vec<ReplicaId>,
    pub(crate) entries: Vec<Option<Arc<ReplicaEntry>>>,
    pub(crate) features: Features,
}

pub(crate) struct DeviceView {
    pub(crate) device: Device,
    pub(crate) reachable: bool,
    pub(crate) commander: Arc<Commander>,
}

/// A model that some pool serves.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) core_id: ModelId,
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) digest: Option<String>,
    pub(crate) engines: Vec<String>,
    pub(crate) workloads: Vec<Workload>,
    /// The largest context of a replica; 0 until one told.
    pub(crate) context_tokens: u32,
    pub(crate) resident: bool,
    /// No replica is ready, but one may become so.
    pub(crate) loading: bool,
    /// Of a Ready replica, for questions that only an engine can answer.
    pub(crate) adapter: Option<Arc<dyn Adapter>>,
}

/// Why a `model_ref` names no model.
pub(crate) enum NotResolved {
    /// Nothing has this id, alias or digest.
    Unknown,
    /// It was left out and more than one model is served.
    Ambiguous { models: Vec<String> },
    /// No manager has told of any model yet.
    NothingKnown,
}

#[derive(Clone)]
pub(crate) struct FleetWatch(watch::Receiver<Arc<Fleet>>);

impl FleetWatch {
    pub(super) fn new(receiver: watch::Receiver<Arc<Fleet>>) -> Self {
        Self(receiver)
    }

    pub(crate) fn now(&self) -> Arc<Fleet> {
        Arc::clone(&self.0.borrow())
    }
}

impl Fleet {
    pub(crate) fn resolve(&self, model_ref: Option<&str>) -> Result<&Model, NotResolved> {
        if self.models.is_empty() {
            return Err(NotResolved::NothingKnown);
        }
        let Some(name) = model_ref else {
            let mut models = self.models.values();
            return match (models.next(), models.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(NotResolved::Ambiguous { models: self.models.keys().cloned().collect() }),
            };
        };
        let named = |it: &&Model| {
            it.aliases.iter().any(|alias| alias == name) || it.digest.as_deref() == Some(name)
        };
        self.models
            .get(name)
            .or_else(|| self.models.values().find(named))
            .ok_or(NotResolved::Unknown)
    }
}

impl PoolView {
    /// Some replica of the pool has the model, or will when it runs.
    pub(crate) fn serves(&self, model: &Model) -> bool {
        self.pool.replicas.iter().any(|it| it.model_id == model.name)
    }
}

impl Directory {
    pub(super) fn fleet(&self) -> Fleet {
        let mut fleet = Fleet {
            managers_awaited: self
                .managers
                .iter()
                .filter(|it| it.contact == Contact::Never)
                .count(),
            ..Fleet::default()
        };
        for (index, manager) in self.managers.iter().enumerate() {
            let reachable = manager.contact == Contact::Live;
            fleet.devices.extend(manager.devices.iter().map(|it| DeviceView {
                device: it.clone(),
                reachable,
                commander: Arc::clone(&manager.commander),
            }));
            for pool in manager.pools.values() {
                let view = self.pool_view(index, pool);
                self.add_to_model(&mut fleet.models, &view, manager.contact);
                fleet.pools.push(view);
            }
        }
        fleet
    }

    fn pool_view(&self, manager: usize, pool: &Pool) -> PoolView {
        let id =
            |replica: &str| self.replica_ids[&(manager, pool.pool_id.clone(), replica.to_owned())];
        let replica_ids: Vec<_> = pool.replicas.iter().map(|it| id(&it.replica_id)).collect();
        let entry = |it| self.entries.get(it).map(|known| Arc::clone(&known.entry));
        PoolView {
            pool: pool.clone(),
            core_id: self.pool_ids[&pool.pool_id],
            reachable: self.managers[manager].contact == Contact::Live,
            commander: Arc::clone(&self.managers[manager].commander),
            entries: replica_ids.iter().map(entry).collect(),
            features: engines::features(&pool.engine),
            replica_ids,
        }
    }

    fn add_to_model(
        &self,
        models: &mut BTreeMap<String, Model>,
        view: &PoolView,
        contact: Contact,
    ) {
        let pool = &view.pool;
        for (replica, entry) in pool.replicas.iter().zip(&view.entries) {
            let model = models.entry(replica.model_id.clone()).or_insert_with(|| Model {
                core_id: self.model_ids[&replica.model_id],
                name: replica.model_id.clone(),
                aliases: Vec::new(),
                digest: None,
                engines: Vec::new(),
                workloads: Vec::new(),
                context_tokens: 0,
                resident: false,
                loading: false,
                adapter: None,
            });
            model.aliases.extend(replica.model_aliases.iter().cloned());
            model.aliases.sort();
            model.aliases.dedup();
            if !model.workloads.contains(&pool.workload) {
                model.workloads.push(pool.workload);
            }
            let engine = pool.engine.name().to_owned();
            if !model.engines.contains(&engine) {
                model.engines.push(engine);
            }
            model.context_tokens = model.context_tokens.max(replica.context_tokens);
            model.digest = model.digest.take().or_else(|| replica.model_digest.clone());
            match availability(contact, pool, replica) {
                Availability::Ready => {
                    model.resident = true;
                    model.adapter = model
                        .adapter
                        .take()
                        .or_else(|| entry.as_ref().map(|it| Arc::clone(&it.adapter)));
                }
                Availability::Coming | Availability::Unloaded => model.loading = true,
                Availability::Draining | Availability::Down => {}
            }
        }
    }
}
