//! The tasks that can be asked about: open ones, and finished ones for as long as they are kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use config_schema::Retention;
use tokio::time::Instant;
use uuid::Uuid;

use super::TaskRecord;

/// Read by handlers, written by the driver alone.
#[derive(Clone, Default)]
pub(crate) struct Store {
    tasks: Arc<RwLock<HashMap<Uuid, Arc<TaskRecord>>>>,
}

impl Store {
    pub(crate) fn find(&self, id: Uuid) -> Option<Arc<TaskRecord>> {
        self.tasks.read().expect("no holder panics").get(&id).cloned()
    }

    pub(crate) fn insert(&self, record: Arc<TaskRecord>) {
        self.tasks.write().expect("no holder panics").insert(record.id, record);
    }

    pub(crate) fn remove(&self, id: Uuid) {
        self.tasks.write().expect("no holder panics").remove(&id);
    }
}

/// Which finished tasks are forgotten, and when: by age, number and bytes, oldest first.
pub(crate) struct Finished {
    limits: Retention,
    tasks: VecDeque<(Instant, Uuid, u64)>,
    bytes: u64,
}

impl Finished {
    pub(crate) fn new(limits: Retention) -> Self {
        Self { limits, tasks: VecDeque::new(), bytes: 0 }
    }

    pub(crate) fn push(&mut self, now: Instant, id: Uuid, bytes: usize) {
        let bytes = bytes as u64;
        self.tasks.push_back((now, id, bytes));
        self.bytes += bytes;
    }

    /// Takes out the next task that is to be forgotten.
    pub(crate) fn pop_excess(&mut self, now: Instant) -> Option<Uuid> {
        let (at, id, bytes) = *self.tasks.front()?;
        let ttl = Duration::from_millis(self.limits.ttl_ms);
        let excess = self.limits.bytes < self.bytes
            || (self.limits.tasks as usize) < self.tasks.len()
            || ttl <= now.duration_since(at);
        if !excess {
            return None;
        }
        self.tasks.pop_front();
        self.bytes -= bytes;
        Some(id)
    }
}
