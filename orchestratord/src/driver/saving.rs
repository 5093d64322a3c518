//! What the driver has written, and how it takes it in again.

use std::sync::Arc;

use api_types::{ErrorCode, TaskState};
use orchestrator_core::{Event, ModelId, PoolId, SavedTask, TenantId};
use tokio::time::Instant;

use super::Driver;
use super::effects::spec;
use super::endings::close_failed;
use super::sessions::session_id;
use crate::fleet::Directory;
use crate::journal::{
    COUNTERS, CountersDoc, JournalStartError, Names, Numbers, Opened, Present, QUOTA, QuotaDoc,
};
use crate::task::{State, TaskRecord};
use crate::wire::{STORAGE_FULL, envelope};

impl Driver {
    /// Puts everything where an earlier life left it. Before [`Self::run`], and before anything is
    /// known of replicas.
    pub(crate) fn restore(&mut self, opened: &mut Opened) -> Result<(), JournalStartError> {
        let present = Present {
            tenants: &self.tenants,
            clock: self.clock,
            leavings: self.handle.leavings(),
            outbox: self.outbox.clone(),
        };
        let past = opened.past(&present, &mut self.directory)?;
        self.next_task = past.last_task.0;
        for (key, saved) in &past.sessions {
            if let Some(place) = &saved.home {
                self.homes.entry(place.clone()).or_default().push(session_id(key));
            }
        }
        self.sessions.restore(past.sessions, past.open.iter().map(Arc::as_ref));
        self.telemetry.sessions(self.sessions.len());
        let mut tasks = Vec::with_capacity(past.open.len());
        for record in past.open {
            let standing = {
                let mut stream = record.lock();
                if let Some(ran) = stream.progress.placement.take() {
                    self.directory.unsettle(&ran.pool_id, &ran.replica_id);
                }
                stream.progress.standing.clone()
            };
            tasks.push(SavedTask { spec: spec(&record), admitted: record.admitted, standing });
            if record.job.cancel_on_disconnect {
                // Whoever read it may come back.
                let at = Instant::now() + record.job.disconnect_grace;
                self.leaving.insert((at, record.core_id));
            }
            self.store.insert(Arc::clone(&record));
            self.open.insert(record.core_id, record);
        }
        if !tasks.is_empty() {
            tracing::info!(tasks = tasks.len(), "open tasks come back");
        }
        self.core.restore(self.now(), tasks, past.quotas, &past.counters);
        self.positions_due = Some(Instant::now());
        Ok(())
    }

    /// Hands a new task to the writer, with what it took of its tenant's limits: both are there after
    /// a crash, or neither.
    pub(super) fn save_admitted(&mut self, record: &Arc<TaskRecord>) {
        let Some(outbox) = self.outbox.as_ref().filter(|_| !record.is_ephemeral()) else { return };
        if let Some(saved) = self.core.saved_task(record.core_id) {
            record.lock().progress.standing = saved.standing;
        }
        if self.core.is_limited(record.tenant.id) {
            let quota = QuotaDoc::of(self.core.saved_quota(record.tenant.id));
            outbox.value(format!("{QUOTA}{}", record.tenant.name), &quota);
        }
        if let Some(artifacts) = &self.artifacts {
            artifacts.expect_transcript(record);
        }
        outbox.admitted(Arc::clone(record));
    }

    pub(super) fn save_counters(&mut self) {
        self.counters_due = None;
        let Some(outbox) = &self.outbox else { return };
        let document = CountersDoc::of(&self.core.saved_counters(), self);
        outbox.value(COUNTERS.into(), &document);
    }

    /// It was never acknowledged, and never will be.
    pub(super) fn not_stored(&mut self, record: &Arc<TaskRecord>) {
        let error = envelope(ErrorCode::StorageFull, STORAGE_FULL, &record.correlation_id);
        close_failed(record, error, TaskState::Failed);
        record.written(u64::MAX);
        self.apply(Event::CancelRequested { task: record.core_id });
        self.store.remove(record);
    }

    /// While the daemon drains, what waits and is in the journal is left to the next life.
    pub(super) fn is_for_next_life(&self, record: &TaskRecord) -> bool {
        self.shutting_down && !record.is_ephemeral()
    }

    /// Nothing runs, and nothing waits that would be lost.
    pub(super) fn is_idle(&self) -> bool {
        self.open
            .values()
            .all(|it| !it.is_ephemeral() && it.lock().progress.state != State::Running)
    }
}

impl Names for Driver {
    fn model(&self, id: ModelId) -> String {
        self.directory.model_name(id)
    }

    fn tenant(&self, id: TenantId) -> String {
        self.tenants.name(id).into()
    }
}

impl Numbers for Directory {
    fn model(&mut self, name: &str) -> ModelId {
        self.model_id(name)
    }

    fn pool(&mut self, name: &str) -> PoolId {
        self.pool_id(name)
    }
}
