//! What a task leaves when it has ended, where that was asked for.
//!
//! That a transcript is due stands in the journal from the task's admission until the transcript is
//! kept, so that a daemon which dies in between makes it in its next life.

use std::sync::Arc;
use std::time::Duration;

use api_types::{ArtifactKind, MediaType, Task};
use artifact_store::BlobId;
use uuid::Uuid;

use super::{Artifacts, Draft, KeepError};
use crate::journal::{Archive, JournalStartError, Opened};
use crate::task::{Store, TaskRecord};
use crate::tenants::{Tenant, Tenants};

/// Followed by the tenant's name, a slash and the task's id.
const DUE: &str = "transcript/";
/// Between two tries where a transcript cannot be written.
const RETRY_EVERY: Duration = Duration::from_secs(1);

impl Artifacts {
    /// The artifact that is the transcript of a task of the tenant.
    pub(crate) fn transcript_of(&self, tenant: &Tenant, task: Uuid) -> Option<BlobId> {
        self.place(tenant).inventory().transcript_of(task)
    }

    /// Whether a task that wants a transcript may come: once it is admitted, its transcript is kept
    /// whatever else has come meanwhile.
    ///
    /// # Errors
    /// The quota is used up.
    pub(crate) fn check_room(&self, tenant: &Tenant) -> Result<(), KeepError> {
        self.check_quota(&self.place(tenant).inventory(), 1)
    }

    /// Notes that a task is to leave a transcript, if it is. Comes before the task itself.
    pub(crate) fn expect_transcript(&self, record: &TaskRecord) {
        if record.job.canonical.transcript {
            self.0.outbox.value(due_key(&record.tenant, record.id), &());
        }
    }

    /// Keeps the transcript of a task that has ended, if it is to leave one.
    pub(crate) fn transcribe(&self, record: &Arc<TaskRecord>) {
        if record.job.canonical.transcript {
            let (this, record) = (self.clone(), Arc::clone(record));
            self.0.tracker.spawn(async move { this.transcribe_whole(&record).await });
        }
    }

    /// Once its readers see the end. A task that was never acknowledged leaves nothing.
    async fn transcribe_whole(&self, record: &TaskRecord) {
        record.over().await;
        if record.stored().await && self.transcript_of(&record.tenant, record.id).is_none() {
            while !self.try_to_keep(record).await {
                tokio::time::sleep(RETRY_EVERY).await;
            }
        }
        drop(self.0.outbox.remove(due_key(&record.tenant, record.id)));
    }

    /// False where another try may help.
    async fn try_to_keep(&self, record: &TaskRecord) -> bool {
        match record.view().await {
            Ok(Some(task)) => self.keep_whole(&record.tenant, draft(record, &task)).await.is_ok(),
            Ok(None) => {
                tracing::error!(task_id = %record.id, "a part of the answer is gone: no transcript");
                true
            }
            Err(error) => {
                tracing::warn!(%error, task_id = %record.id, "a transcript cannot be made yet");
                false
            }
        }
    }

    /// Makes the transcripts of tasks that ended in an earlier life. Those of open tasks come at
    /// their ends.
    pub(super) fn make_up(&self, due: Vec<(Tenant, Uuid)>, archive: Archive, store: Store) {
        let this = self.clone();
        self.0.tracker.spawn(async move {
            for (tenant, task) in due {
                if store.find(tenant.id, task).is_some() {
                    continue;
                }
                match archive.find(&tenant, task).await {
                    Ok(Some(record)) => this.transcribe_whole(&record).await,
                    // It was never admitted, or is not kept any more.
                    Ok(None) => drop(this.0.outbox.remove(due_key(&tenant, task))),
                    Err(error) => tracing::error!(%error, %task, "no transcript can be made"),
                }
            }
        });
    }
}

/// Transcripts that an earlier life did not come to; those of tenants that are not configured wait.
pub(super) fn due(
    opened: &mut Opened,
    tenants: &Tenants,
) -> Result<Vec<(Tenant, Uuid)>, JournalStartError> {
    let due = opened.documents::<()>(DUE)?;
    let named = due.iter().filter_map(|(key, ())| {
        let (tenant, task) = key.strip_prefix(DUE)?.split_once('/')?;
        Some((tenants.named(tenant)?.clone(), task.parse().ok()?))
    });
    Ok(named.collect())
}

fn due_key(tenant: &Tenant, task: Uuid) -> String {
    format!("{DUE}{}/{task}", tenant.name)
}

/// What is known of the task: its request with all that was left out of it, what came of it, and how.
fn draft(record: &TaskRecord, task: &Task) -> Draft {
    let content = serde_json::to_vec(task).expect("wire types always serialise");
    let session = record.job.canonical.session_id.iter().map(|it| format!("session:{it}"));
    Draft {
        kind: ArtifactKind::Transcript,
        media_type: MediaType::Json,
        content: content.into(),
        tags: std::iter::once(format!("task:{}", record.id)).chain(session).collect(),
        parents: Vec::new(),
        task_id: Some(record.id),
    }
}
