//! What this host runs, as callers see it: one table, written by the replicas' tasks, watched by
//! callers.

use std::sync::Mutex;

use config_schema::{EngineSource, ManagerConfig, PoolConfig, Residency};
use pool_api::{Device, MemoryNeed, Origin, Pool, Replica, ReplicaState, Snapshot, WatchEvent};
use tokio::sync::broadcast;

use crate::devices::Devices;
use crate::drained::Drained;
use crate::{dialect, recipe};

/// Changes a watcher may fall behind before it is sent everything anew.
const CHANGES_MAX: usize = 256;

pub(crate) struct Host {
    instance: String,
    table: Mutex<Table>,
    changes: broadcast::Sender<WatchEvent>,
}

struct Table {
    devices: Vec<Device>,
    pools: Vec<Pool>,
}

impl Host {
    pub(crate) fn new(
        config: &ManagerConfig,
        devices: &Devices,
        drained: &Drained,
        instance: String,
    ) -> Self {
        let pool = |it: &PoolConfig| Pool {
            draining: drained.has(&it.id),
            spread: devices.spread(&it.devices),
            ..pool(config, it)
        };
        let pools = config.pools.iter().map(pool).collect();
        let table = Mutex::new(Table { devices: devices.all(), pools });
        Self { instance, table, changes: broadcast::Sender::new(CHANGES_MAX) }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot_of(&self.table.lock().expect("no holder panics"))
    }

    fn snapshot_of(&self, table: &Table) -> Snapshot {
        Snapshot {
            manager_instance: self.instance.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            devices: table.devices.clone(),
            pools: table.pools.clone(),
        }
    }

    /// The present and, without gap or repetition, every change after it.
    pub(crate) fn watch(&self) -> (Snapshot, broadcast::Receiver<WatchEvent>) {
        let table = self.table.lock().expect("no holder panics");
        // Changes are sent under the lock, so none comes between the two.
        (self.snapshot_of(&table), self.changes.subscribe())
    }

    /// Tells the watchers of devices, if they really changed.
    pub(crate) fn set_devices(&self, devices: Vec<Device>) {
        let mut table = self.table.lock().expect("no holder panics");
        if table.devices != devices {
            table.devices.clone_from(&devices);
            let _watched = self.changes.send(WatchEvent::Devices(devices));
        }
    }

    /// Marks every pool as one that takes no new work.
    pub(crate) fn drain(&self) {
        let pools = self.table.lock().expect("no holder panics").pools.len();
        (0..pools).for_each(|it| self.set_draining(it, true));
    }

    pub(crate) fn set_draining(&self, pool: usize, draining: bool) {
        self.change(pool, |it| it.draining = draining);
    }

    /// One replica has another model from now on, and the others will.
    pub(crate) fn set_model(&self, pool: usize, replica: usize, id: &str, aliases: &[String]) {
        self.change(pool, |it| {
            id.clone_into(&mut it.model_id);
            id.clone_into(&mut it.replicas[replica].model_id);
            it.replicas[replica].model_aliases = aliases.to_vec();
        });
    }

    /// Changes one replica and tells the watchers, if it really changed.
    pub(crate) fn update(&self, pool: usize, replica: usize, change: impl FnOnce(&mut Replica)) {
        self.change(pool, |it| change(&mut it.replicas[replica]));
    }

    fn change(&self, pool: usize, change: impl FnOnce(&mut Pool)) {
        let mut table = self.table.lock().expect("no holder panics");
        let before = table.pools[pool].clone();
        change(&mut table.pools[pool]);
        if before != table.pools[pool] {
            // Sent under the lock, so that changes are seen in their order. Nobody may be watching.
            let _watched = self.changes.send(WatchEvent::Pool(table.pools[pool].clone()));
        }
    }

    pub(crate) fn replicas(&self, pool: usize) -> Vec<Replica> {
        self.table.lock().expect("no holder panics").pools[pool].replicas.clone()
    }

    /// What a replica is expected to need.
    pub(crate) fn needs(&self, pool: usize, replica: usize) -> Vec<MemoryNeed> {
        let table = self.table.lock().expect("no holder panics");
        table.pools[pool].replicas[replica].memory.clone()
    }

    /// Where an order for a replica goes.
    pub(crate) fn find_replica(&self, id: &str) -> Option<(usize, usize)> {
        let table = self.table.lock().expect("no holder panics");
        table.pools.iter().enumerate().find_map(|(pool, it)| {
            let replica = it.replicas.iter().position(|it| it.replica_id == id)?;
            Some((pool, replica))
        })
    }

    pub(crate) fn find_pool(&self, id: &str) -> Option<usize> {
        let table = self.table.lock().expect("no holder panics");
        table.pools.iter().position(|it| it.pool_id == id)
    }

    /// Why the host is not ready; empty when every managed pool has a replica that is ready, or
    /// rests until it is wanted. A server that somebody else runs is not this host's to bring up.
    pub(crate) fn unready(&self) -> Vec<String> {
        let table = self.table.lock().expect("no holder panics");
        let serves =
            |it: &Replica| matches!(it.state, ReplicaState::Ready | ReplicaState::Unloaded);
        let ready = |pool: &&Pool| pool.replicas.iter().any(serves);
        let managed = table.pools.iter().filter(|it| it.origin == Origin::Managed);
        managed.filter(|it| !ready(it)).map(reason).collect()
    }
}

fn reason(pool: &Pool) -> String {
    let states: Vec<String> = pool
        .replicas
        .iter()
        .map(|it| {
            let cause = it.last_error.as_ref().map_or(String::new(), |it| format!(": {it}"));
            format!("{} is {}{cause}", it.replica_id, state_name(it.state))
        })
        .collect();
    states.join("; ")
}

fn state_name(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Unloaded => "unloaded",
        ReplicaState::Starting => "starting",
        ReplicaState::Loading => "loading",
        ReplicaState::Probing => "probing",
        ReplicaState::Ready => "ready",
        ReplicaState::Draining => "draining",
        ReplicaState::Backoff => "waiting to be restarted",
        ReplicaState::Unready => "unready",
        ReplicaState::Stopped => "stopped",
    }
}

fn pool(config: &ManagerConfig, pool: &PoolConfig) -> Pool {
    // On demand, before its first load: as configured.
    let (slots, context_tokens) = match (&pool.source, pool.residency) {
        (EngineSource::Managed { slots, context_tokens, .. }, Residency::OnDemand) => {
            (slots.get(), context_tokens.get())
        }
        // The engine tells.
        _ => (0, 0),
    };
    let origin = match &pool.source {
        EngineSource::Managed { .. } => Origin::Managed,
        EngineSource::External { .. } => Origin::External,
    };
    let replica = |index: u32| Replica {
        replica_id: format!("{}-{index}", pool.id),
        model_id: pool.model_id.clone(),
        model_aliases: pool.model_aliases.clone(),
        incarnation: 0,
        state: ReplicaState::Starting,
        endpoint: None,
        engine_key: None,
        engine_version: None,
        model_digest: None,
        slots,
        context_tokens,
        chat_template: false,
        last_error: None,
        restarts: 0,
        pid: None,
        memory: Vec::new(),
        load_ms: None,
        load: None,
    };
    Pool {
        pool_id: pool.id.clone(),
        engine: dialect::engine(pool),
        origin,
        model_id: pool.model_id.clone(),
        workload: dialect::workload(pool),
        determinism: recipe::determinism(config, pool),
        devices: pool.devices.clone(),
        spread: 0,
        residency: match pool.residency {
            Residency::Pinned => pool_api::Residency::Pinned,
            Residency::OnDemand => pool_api::Residency::OnDemand,
        },
        idle_ttl_ms: pool.idle_ttl_ms,
        draining: false,
        replicas: (0..pool.replicas.get()).map(replica).collect(),
    }
}
