//! Documents that tenants keep beside their tasks: plans, diffs, transcripts.
//!
//! A content is a file of the artifact store; what is told of it is a document of the journal. Both are
//! there before anything is acknowledged: the file first, so that no document names what is not there.

mod inventory;
mod transcripts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api_types::{ArtifactKind, MediaType};
use artifact_store::{BlobId, Durability, ReadError, Store};
use bytes::Bytes;
use config_schema::Config;
use orchestrator_core::TenantId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub(crate) use inventory::Facts;
use inventory::Inventory;

use crate::clock::Clock;
use crate::journal::{Archive, JournalStartError, Opened, Outbox};
use crate::task::Store as Tasks;
use crate::tenants::{Tenant, Tenants};

/// Followed by the tenant's name, a slash and the id.
const ARTIFACT: &str = "artifact/";
/// Beside the journal's own files.
const FOLDER: &str = "artifacts";
/// How often expired artifacts are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Artifacts that are removed in one go: who stores waits meanwhile.
const SWEEP_MAX: usize = 64;

/// What a tenant wants to keep.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) kind: ArtifactKind,
    pub(crate) media_type: MediaType,
    pub(crate) content: Bytes,
    pub(crate) tags: Vec<String>,
    pub(crate) parents: Vec<BlobId>,
    /// The task that it is the transcript of.
    pub(crate) task_id: Option<Uuid>,
}

/// What there is of it now.
pub(crate) struct Kept {
    pub(crate) id: BlobId,
    pub(crate) facts: Arc<Facts>,
    /// The tenant did not have it before.
    pub(crate) is_new: bool,
}

/// Why something is not kept. Nothing of it is there then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeepError {
    /// The tenant has no such artifacts, by their places in the draft.
    UnknownParents(Vec<usize>),
    OverQuota {
        quota_bytes: u64,
        /// It alone is too large.
        never: bool,
        /// Until the next artifact goes.
        retry_after_ms: u64,
    },
    /// No room, or a broken disk.
    Unwritten,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Artifacts(Arc<Inner>);

struct Inner {
    store: Store,
    outbox: Outbox,
    clock: Clock,
    tracker: TaskTracker,
    quota_bytes: u64,
    ttl_ms: u64,
    places: BTreeMap<TenantId, Place>,
    /// Transcripts of tasks that ended in an earlier life.
    due: Mutex<Vec<(Tenant, Uuid)>>,
}

/// What one tenant has.
struct Place {
    tenant: Tenant,
    /// Held while a file is written or removed and the journal told, so that both are of one mind.
    /// Readers do not wait for it.
    writing: tokio::sync::Mutex<()>,
    inventory: Mutex<Inventory>,
}

impl Place {
    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.inventory.lock().expect("no holder panics")
    }
}

impl Artifacts {
    /// Takes in what an earlier life left, and removes what it did not finish.
    pub(crate) fn open(
        opened: &mut Opened,
        config: &Config,
        tenants: &Tenants,
        (outbox, clock, tracker): (Outbox, Clock, TaskTracker),
    ) -> Result<Self, JournalStartError> {
        let durability = match config.journal.durability {
            config_schema::Durability::Disk => Durability::Disk,
            config_schema::Durability::Process | config_schema::Durability::Memory => {
                Durability::Process
            }
        };
        let store = Store::new(config.journal.data_dir.join(FOLDER), durability);
        let mut named: BTreeMap<String, BTreeMap<BlobId, Facts>> = BTreeMap::new();
        for (key, facts) in opened.documents::<Facts>(ARTIFACT)? {
            if let Some((tenant, id)) = owner_and_id(&key) {
                named.entry(tenant).or_default().insert(id, facts);
            }
        }
        // Also those of tenants that are not configured at present.
        let ids: BTreeSet<(&str, &BlobId)> =
            named.iter().flat_map(|it| it.1.keys().map(|id| (it.0.as_str(), id))).collect();
        match store.sweep(|owner, id| ids.contains(&(owner, id))) {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "removed artifacts that were not finished"),
            Err(error) => tracing::warn!(%error, "unfinished artifacts were not removed"),
        }
        let place = |tenant: &Tenant| {
            let facts = named.remove(tenant.name.as_ref()).unwrap_or_default();
            let inventory = Mutex::new(Inventory::new(facts));
            (
                tenant.id,
                Place { tenant: tenant.clone(), writing: tokio::sync::Mutex::default(), inventory },
            )
        };
        let places = tenants.all().iter().map(place).collect();
        let config_schema::Artifacts { quota_bytes, ttl_ms } = config.artifacts;
        let due = Mutex::new(transcripts::due(opened, tenants)?);
        let inner = Inner { store, outbox, clock, tracker, quota_bytes, ttl_ms, places, due };
        Ok(Self(Arc::new(inner)))
    }

    /// What is told of an artifact; `None`: the tenant has none of this id.
    pub(crate) fn find(&self, tenant: &Tenant, id: &BlobId) -> Option<Arc<Facts>> {
        self.place(tenant).inventory().get(id)
    }

    /// The content of an artifact that was found.
    ///
    /// # Errors
    /// Where it is not what was stored.
    pub(crate) async fn read(&self, tenant: &Tenant, id: BlobId) -> Result<Vec<u8>, ReadError> {
        let owner = Arc::clone(&tenant.name);
        self.blocking(move |it| it.store.get(&owner, &id)).await
    }

    /// Stores a content, or finds it stored: then the first one's kind, tags and parents stay, and
    /// its time to live begins anew. Goes on to its end also if nobody waits for that any more.
    ///
    /// # Errors
    /// Nothing is there then that was not there before.
    pub(crate) async fn keep(&self, tenant: &Tenant, draft: Draft) -> Result<Kept, KeepError> {
        let (this, tenant) = (self.clone(), tenant.clone());
        let kept = self.0.tracker.spawn(async move { this.keep_whole(&tenant, draft).await });
        kept.await.expect("storing does not panic, and nobody aborts it")
    }

    async fn keep_whole(&self, tenant: &Tenant, draft: Draft) -> Result<Kept, KeepError> {
        let content = draft.content.clone();
        let id = self.blocking(move |_| BlobId::of(&content)).await;
        let place = self.place(tenant);
        let _one_at_a_time = place.writing.lock().await;
        let now_ms = self.now_ms();
        let known = place.inventory().get(&id);
        let is_new = known.is_none();
        let facts = match known {
            Some(known) => known.again(&draft, now_ms),
            None => {
                let facts = Facts::new(&draft, now_ms);
                self.admit(&place.inventory(), &facts)?;
                facts
            }
        };
        let (owner, content) = (Arc::clone(&tenant.name), draft.content);
        self.write(owner, content).await?;
        let key = journal_key(tenant, &id);
        self.0.outbox.value(key.clone(), &facts);
        if self.0.outbox.flushed().await.is_err() {
            if is_new {
                // From here on it cannot be written any more. A writer that has ended may have written
                // it: then the next start decides whose file it is.
                let forgotten = self.0.outbox.remove(key).await.is_ok();
                if forgotten || self.0.outbox.is_full() {
                    self.remove_files(tenant, vec![id]).await;
                }
            }
            return Err(KeepError::Unwritten);
        }
        let facts = Arc::new(facts);
        place.inventory().insert(id, Arc::clone(&facts));
        Ok(Kept { id, facts, is_new })
    }

    /// Whether something new may be stored.
    fn admit(&self, inventory: &Inventory, facts: &Facts) -> Result<(), KeepError> {
        let parents = facts.parents.iter().enumerate();
        let unknown: Vec<usize> =
            parents.filter(|it| inventory.get(it.1).is_none()).map(|it| it.0).collect();
        if !unknown.is_empty() {
            return Err(KeepError::UnknownParents(unknown));
        }
        // A transcript had to be in time for its task's admission.
        if facts.task_id.is_some() { Ok(()) } else { self.check_quota(inventory, facts.charge()) }
    }

    fn check_quota(&self, inventory: &Inventory, charge: u64) -> Result<(), KeepError> {
        let quota_bytes = self.0.quota_bytes;
        if charge <= quota_bytes.saturating_sub(inventory.charged()) {
            return Ok(());
        }
        let now_ms = self.now_ms();
        let next_ms = inventory.oldest_ms().unwrap_or(now_ms).saturating_add(self.0.ttl_ms);
        let retry_after_ms = next_ms.saturating_sub(now_ms).max(1);
        Err(KeepError::OverQuota { quota_bytes, never: quota_bytes < charge, retry_after_ms })
    }

    async fn write(&self, owner: Arc<str>, content: Bytes) -> Result<(), KeepError> {
        if self.0.outbox.is_full() {
            return Err(KeepError::Unwritten);
        }
        let written = self.blocking(move |it| it.store.put(&owner, &content)).await;
        written.map(drop).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "an artifact cannot be written");
            KeepError::Unwritten
        })
    }

    /// Finishes what an earlier life left, and removes what has expired until `stop`.
    pub(crate) fn start(&self, archive: &Archive, tasks: &Tasks, stop: CancellationToken) {
        let due = std::mem::take(&mut *self.0.due.lock().expect("no holder panics"));
        self.make_up(due, archive.clone(), tasks.clone());
        let this = self.clone();
        self.0.tracker.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
                for place in this.0.places.values() {
                    while this.sweep(place).await == SWEEP_MAX {}
                }
            }
        });
    }

    /// The file goes when the journal does not name it any more, or cannot be told: there is room to
    /// be gained, and what has expired is not missed.
    async fn sweep(&self, place: &Place) -> usize {
        let until_ms = self.now_ms().saturating_sub(self.0.ttl_ms);
        if place.inventory().oldest_ms().is_none_or(|it| until_ms <= it) {
            return 0;
        }
        let _one_at_a_time = place.writing.lock().await;
        let expired = place.inventory().take_expired(until_ms, SWEEP_MAX);
        let forget = |id| self.0.outbox.remove(journal_key(&place.tenant, id));
        for forgotten in expired.iter().map(forget).collect::<Vec<_>>() {
            let _full = forgotten.await;
        }
        let count = expired.len();
        self.remove_files(&place.tenant, expired).await;
        tracing::debug!(tenant = %place.tenant.name, artifacts = count, "artifacts expired");
        count
    }

    /// One that cannot be removed is removed at the next start.
    async fn remove_files(&self, tenant: &Tenant, ids: Vec<BlobId>) {
        let owner = Arc::clone(&tenant.name);
        self.blocking(move |it| {
            for id in ids {
                if let Err(error) = it.store.remove(&owner, &id) {
                    tracing::warn!(%error, "an artifact's file was not removed");
                }
            }
        })
        .await;
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> T {
        let inner = Arc::clone(&self.0);
        let worked = tokio::task::spawn_blocking(move || work(&inner));
        worked.await.expect("files are used without panics, and nobody aborts that")
    }

    fn place(&self, tenant: &Tenant) -> &Place {
        &self.0.places[&tenant.id]
    }

    /// Since 1970.
    fn now_ms(&self) -> u64 {
        self.0.clock.now().0 / 1_000
    }
}

fn journal_key(tenant: &Tenant, id: &BlobId) -> String {
    format!("{ARTIFACT}{}/{id}", tenant.name)
}

fn owner_and_id(key: &str) -> Option<(String, BlobId)> {
    let (tenant, id) = key.strip_prefix(ARTIFACT)?.split_once('/')?;
    Some((tenant.to_owned(), id.parse().ok()?))
}
