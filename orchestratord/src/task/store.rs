//! The tasks that can be asked about: open ones, and finished ones for as long as they are kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use config_schema::Retention;
use orchestrator_core::{TaskId, TenantId};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Listed, TaskRecord};

/// Read by handlers, written by the driver alone. A tenant finds its own tasks and no others.
#[derive(Clone, Default)]
pub(crate) struct Store(Arc<RwLock<Tasks>>);

#[derive(Default)]
struct Tasks {
    by_id: HashMap<(TenantId, Uuid), Arc<TaskRecord>>,
    /// In the order of submission.
    by_age: BTreeMap<(TenantId, TaskId), Arc<TaskRecord>>,
}

impl Store {
    pub(crate) fn find(&self, tenant: TenantId, id: Uuid) -> Option<Arc<TaskRecord>> {
        self.0.read().expect("no holder panics").by_id.get(&(tenant, id)).cloned()
    }

    /// A tenant's tasks from the newest on that is older than `before`, as far as `wanted` says, at
    /// most `limit`.
    pub(crate) fn list(
        &self,
        tenant: TenantId,
        before: TaskId,
        limit: usize,
        wanted: impl Fn(&Listed) -> bool,
    ) -> Vec<Listed> {
        let tasks = self.0.read().expect("no holder panics");
        let older = tasks.by_age.range((tenant, TaskId(0))..(tenant, before));
        older.rev().map(|it| it.1.listed()).filter(|it| wanted(it)).take(limit).collect()
    }

    pub(crate) fn knows(&self, tenant: TenantId, number: TaskId) -> bool {
        let tasks = self.0.read().expect("no holder panics");
        tasks.by_age.contains_key(&(tenant, number))
    }

    pub(crate) fn insert(&self, record: Arc<TaskRecord>) {
        let mut tasks = self.0.write().expect("no holder panics");
        tasks.by_age.insert((record.tenant.id, record.core_id), Arc::clone(&record));
        tasks.by_id.insert((record.tenant.id, record.id), record);
    }

    pub(crate) fn remove(&self, record: &TaskRecord) {
        let mut tasks = self.0.write().expect("no holder panics");
        tasks.by_age.remove(&(record.tenant.id, record.core_id));
        let id = (record.tenant.id, record.id);
        // One that was never acknowledged may have been submitted again.
        if tasks.by_id.get(&id).is_some_and(|it| it.core_id == record.core_id) {
            tasks.by_id.remove(&id);
        }
    }
}

/// How often a task is looked at whose end is not written when it might go.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which finished tasks are forgotten, and when: by age, number and bytes, oldest first.
pub(crate) struct Finished {
    limits: Retention,
    tasks: VecDeque<(Instant, Arc<TaskRecord>, u64)>,
    bytes: u64,
}

impl Finished {
    pub(crate) fn new(limits: Retention) -> Self {
        Self { limits, tasks: VecDeque::new(), bytes: 0 }
    }

    pub(crate) fn push(&mut self, now: Instant, record: Arc<TaskRecord>, bytes: usize) {
        let bytes = bytes as u64;
        self.tasks.push_back((now, record, bytes));
        self.bytes += bytes;
    }

    /// When the next task has been kept for long enough, or may have been written by then.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let (at, record, _) = self.tasks.front()?;
        let due = *at + Duration::from_millis(self.limits.ttl_ms);
        Some(if record.is_settled() { due } else { due.max(now + LOOK_EVERY) })
    }

    /// Takes out the next task that is to be forgotten.
    pub(crate) fn pop_excess(&mut self, now: Instant) -> Option<Arc<TaskRecord>> {
        let (at, _, bytes) = self.tasks.front()?;
        let (at, bytes) = (*at, *bytes);
        let ttl = Duration::from_millis(self.limits.ttl_ms);
        let excess = self.limits.bytes < self.bytes
            || (self.limits.tasks as usize) < self.tasks.len()
            || ttl <= now.duration_since(at);
        // Whoever asks for one that is gone asks the journal.
        if !excess || !self.tasks.front().is_some_and(|it| it.1.is_settled()) {
            return None;
        }
        self.bytes -= bytes;
        self.tasks.pop_front().map(|it| it.1)
    }
}
