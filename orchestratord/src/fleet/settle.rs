//! After a restart of ours: what an earlier life had started must be gone before its slots count as
//! free.

use std::sync::Arc;
use std::time::Duration;

use adapter_api::{Adapter, EngineError};
use orchestrator_core::{Event, ReplicaId};
use pool_api::{Pool, Replica};
use tokio::time::{Instant, sleep};

use super::{Directory, ReplicaEntry};

const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Directory {
    /// An earlier life ran something there.
    pub(crate) fn unsettle(&mut self, pool: &str, replica: &str) {
        self.unsettled.insert((pool.to_owned(), replica.to_owned()));
    }

    pub(super) fn is_unsettled(&self, pool: &Pool, replica: &Replica) -> bool {
        !self.unsettled.is_empty()
            && self.unsettled.contains(&(pool.pool_id.clone(), replica.replica_id.clone()))
    }

    /// Replicas that are to be asked now, each once: see [`settle`].
    pub(crate) fn start_settling(&mut self) -> Vec<(ReplicaId, Arc<ReplicaEntry>)> {
        let known = self.replica_ids.iter().filter(|((_, pool, name), id)| {
            !self.settling.contains(id) && self.unsettled.contains(&(pool.clone(), name.clone()))
        });
        let found: Vec<_> = known
            .filter_map(|(_, id)| Some((*id, Arc::clone(&self.entries.get(id)?.entry))))
            .collect();
        self.settling.extend(found.iter().map(|it| it.0));
        found
    }

    pub(super) fn settled(&mut self, replica: ReplicaId) -> Vec<Event> {
        let found = self.replica_ids.iter().find(|it| *it.1 == replica);
        let Some(((manager, pool, name), _)) = found else { return Vec::new() };
        let (manager, place) = (*manager, (pool.clone(), name.clone()));
        self.settling.remove(&replica);
        self.unsettled.remove(&place);
        let pool = self.managers[manager].pools.get(&place.0).cloned();
        pool.map_or_else(Vec::new, |it| self.pool_events(manager, &it))
    }
}

/// Returns when the engine runs nothing, or is gone, or cannot say, or after `limit`.
pub(crate) async fn settle(adapter: &dyn Adapter, limit: Duration) {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match adapter.load().await {
            Ok(load) if load.running == 0 => return,
            Err(EngineError::Unreachable { .. } | EngineError::Unsupported { .. }) => return,
            Ok(_) | Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}
