//! Tasks that have ended and are no longer in memory.

use std::sync::Arc;

use journal::{JournalError, JournalReader, Stored, TaskNo};
use orchestrator_core::{ModelId, PoolId, TaskId};
use uuid::Uuid;

use super::Outbox;
use super::documents::{RequestDoc, StateDoc};
use super::past::{self, Numbers, Present, revive};
use super::shared_reader::SharedReader;
use crate::clock::Clock;
use crate::driver::Leavings;
use crate::task::{Listed, TaskRecord};
use crate::tenants::{Tenant, Tenants};

/// Looks into the journal. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Archive(Arc<Inner>);

struct Inner {
    reader: SharedReader,
    tenants: Arc<Tenants>,
    clock: Clock,
    leavings: Leavings,
    outbox: Outbox,
}

/// Nothing decides about these tasks any more.
struct Past;

impl Numbers for Past {
    fn model(&mut self, _: &str) -> ModelId {
        ModelId(u32::MAX)
    }

    fn pool(&mut self, _: &str) -> PoolId {
        PoolId(u32::MAX)
    }
}

impl Archive {
    pub(crate) fn new(
        reader: Box<dyn JournalReader>,
        tenants: Arc<Tenants>,
        clock: Clock,
        (leavings, outbox): (Leavings, Outbox),
    ) -> Self {
        let reader = SharedReader::new(reader);
        Self(Arc::new(Inner { reader, tenants, clock, leavings, outbox }))
    }

    /// # Errors
    /// When the journal cannot be read.
    pub(crate) async fn find(
        &self,
        tenant: &Tenant,
        id: Uuid,
    ) -> Result<Option<Arc<TaskRecord>>, JournalError> {
        let (inner, tenant) = (Arc::clone(&self.0), tenant.clone());
        self.0
            .reader
            .look(move |reader| {
                let found = reader.find(&tenant.name, *id.as_bytes())?;
                found.map(|it| inner.record(reader, &it, &tenant)).transpose()
            })
            .await
    }

    /// A tenant's tasks, newest first, older than `before`.
    ///
    /// # Errors
    /// As of [`Self::find`].
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        session: Option<String>,
        before: TaskId,
        limit: usize,
    ) -> Result<Vec<Listed>, JournalError> {
        let tenant = tenant.clone();
        self.0
            .reader
            .look(move |reader| {
                let before = TaskNo(before.0.min(TaskNo::MAX.0));
                let found = reader.list(&tenant.name, session.as_deref(), before, limit)?;
                found
                    .iter()
                    .map(|it| listed(it).map_err(|it| JournalError::Damaged(it.into())))
                    .collect()
            })
            .await
    }
}

fn listed(stored: &Stored) -> Result<Listed, serde_json::Error> {
    let state: StateDoc = serde_json::from_slice(&stored.admitted.state)?;
    let request: RequestDoc = serde_json::from_slice(&stored.admitted.request)?;
    let number = TaskId(stored.admitted.task.0);
    let session = stored.admitted.session.clone();
    Ok(Listed { number, priority: request.request.priority, session, task: state.task })
}

impl Inner {
    fn record(
        &self,
        reader: &mut dyn JournalReader,
        stored: &Stored,
        tenant: &Tenant,
    ) -> Result<Arc<TaskRecord>, JournalError> {
        if stored.ended_at_ms.is_none() {
            // Open ones are in memory, where they run; a second record would stand still.
            return Err(JournalError::Failed("an open task is not among those that run".into()));
        }
        let present = Present {
            tenants: &self.tenants,
            clock: self.clock,
            leavings: self.leavings.clone(),
            outbox: Some(self.outbox.clone()),
        };
        let log = past::log(reader, stored, present.window())?;
        let record = log.and_then(|log| revive(stored, log, tenant, &present, &mut Past));
        record.map(Arc::new).map_err(|it| JournalError::Damaged(it.into()))
    }
}
