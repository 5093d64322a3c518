//! What this host runs, as callers see it: one table, written by the replicas' tasks, watched by
//! callers.

use std::sync::Mutex;

use config_schema::{EngineSource, ManagerConfig, PoolConfig};
use pool_api::{Device, Origin, Pool, Replica, ReplicaState, Snapshot};
use tokio::sync::broadcast;

use crate::engine::meminfo;

/// Changes a watcher may fall behind before it is sent everything anew.
const CHANGES_MAX: usize = 256;

pub(crate) struct Host {
    instance: String,
    pools: Mutex<Vec<Pool>>,
    changes: broadcast::Sender<Pool>,
}

impl Host {
    pub(crate) fn new(config: &ManagerConfig, instance: String) -> Self {
        let pools = config.pools.iter().map(|it| pool(it, config)).collect();
        Self { instance, pools: Mutex::new(pools), changes: broadcast::Sender::new(CHANGES_MAX) }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot_of(&self.pools.lock().expect("no holder panics"))
    }

    fn snapshot_of(&self, pools: &[Pool]) -> Snapshot {
        Snapshot {
            manager_instance: self.instance.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pools: pools.to_vec(),
        }
    }

    /// The present and, without gap or repetition, every change after it.
    pub(crate) fn watch(&self) -> (Snapshot, broadcast::Receiver<Pool>) {
        let pools = self.pools.lock().expect("no holder panics");
        // Changes are sent under the lock, so none comes between the two.
        (self.snapshot_of(&pools), self.changes.subscribe())
    }

    /// Marks every pool as one that takes no new work.
    pub(crate) fn drain(&self) {
        let mut pools = self.pools.lock().expect("no holder panics");
        for pool in pools.iter_mut() {
            pool.draining = true;
            let _watched = self.changes.send(pool.clone());
        }
    }

    /// Changes one replica and tells the watchers, if it really changed.
    pub(crate) fn update(&self, pool: usize, replica: usize, change: impl FnOnce(&mut Replica)) {
        let mut pools = self.pools.lock().expect("no holder panics");
        let before = pools[pool].clone();
        change(&mut pools[pool].replicas[replica]);
        if before != pools[pool] {
            // Sent under the lock, so that changes are seen in their order. Nobody may be watching.
            let _watched = self.changes.send(pools[pool].clone());
        }
    }

    /// Why the host is not ready; empty when every managed pool has a ready replica. A server that
    /// somebody else runs is not this host's to bring up.
    pub(crate) fn unready(&self) -> Vec<String> {
        let pools = self.pools.lock().expect("no holder panics");
        let ready = |pool: &&Pool| pool.replicas.iter().any(|it| it.state == ReplicaState::Ready);
        let managed = pools.iter().filter(|it| it.origin == Origin::Managed);
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

fn pool(pool: &PoolConfig, config: &ManagerConfig) -> Pool {
    let origin = match &pool.source {
        EngineSource::Managed { .. } => Origin::Managed,
        EngineSource::External { .. } => Origin::External,
    };
    let replica = |index: u32| Replica {
        replica_id: format!("{}-{index}", pool.id),
        incarnation: 0,
        state: ReplicaState::Starting,
        endpoint: None,
        engine_key: None,
        engine_version: None,
        model_digest: None,
        // Like the context: the engine tells.
        slots: 0,
        context_tokens: 0,
        chat_template: false,
        last_error: None,
        restarts: 0,
        pid: None,
    };
    let devices = config.devices.iter().filter(|it| pool.devices.contains(&it.id));
    Pool {
        pool_id: pool.id.clone(),
        engine: match pool.engine {
            config_schema::EngineKind::Llamacpp => "llamacpp".into(),
        },
        origin,
        model_id: pool.model_id.clone(),
        model_aliases: pool.model_aliases.clone(),
        devices: devices.map(device).collect(),
        draining: false,
        replicas: (0..pool.replicas.get()).map(replica).collect(),
    }
}

fn device(device: &config_schema::Device) -> Device {
    Device {
        device_id: device.id.clone(),
        kind: match device.kind {
            config_schema::DeviceKind::Cpu => "cpu".into(),
        },
        memory_total_bytes: device_bytes(device),
    }
}

/// Declared, or what the machine has.
pub(crate) fn device_bytes(device: &config_schema::Device) -> u64 {
    let declared = device.memory_mib.map(|it| it.saturating_mul(1 << 20));
    declared.or_else(|| meminfo("MemTotal:")).unwrap_or(u64::MAX)
}
