//! Reading back: what an earlier life of the daemon left.

use std::path::Path;
use std::sync::Arc;

use journal::{JournalReader, Stored};
use orchestrator_core::{ModelId, PoolId, SavedCounters, SavedQuota, TaskId, TenantId, Timestamp};
use uuid::Uuid;

use super::documents::{COUNTERS, CountersDoc, EPOCH, QUOTA, QuotaDoc, RequestDoc, StateDoc};
use super::{JournalStartError, Outbox};
use crate::admission::{Parts, job};
use crate::clock::Clock;
use crate::driver::Leavings;
use crate::sessions::{Key, SESSION, SessionDoc};
use crate::stream::log::Log;
use crate::task::{Caller, Progress, State, TaskRecord};
use crate::tenants::{Tenant, Tenants};

/// Tasks that are read at a time.
const PAGE: usize = 1_000;

/// What comes back at a start.
pub(crate) struct Past {
    /// Open tasks in the order of their admission.
    pub(crate) open: Vec<Arc<TaskRecord>>,
    pub(crate) quotas: Vec<(TenantId, SavedQuota)>,
    pub(crate) counters: SavedCounters,
    pub(crate) sessions: Vec<(Key, SessionDoc)>,
    /// The largest number that a task ever had.
    pub(crate) last_task: TaskId,
}

/// What a record needs of this life.
pub(crate) struct Present<'a> {
    pub(crate) tenants: &'a Tenants,
    pub(crate) clock: Clock,
    pub(crate) leavings: Leavings,
    pub(crate) outbox: Option<Outbox>,
}

impl Present<'_> {
    /// How much of a stream is kept in memory, in bytes.
    pub(super) fn window(&self) -> usize {
        self.outbox.as_ref().map_or(usize::MAX, |it| it.shelf.window)
    }
}

/// Gives the core's numbers to names.
pub(crate) trait Numbers {
    fn model(&mut self, name: &str) -> ModelId;
    fn pool(&mut self, name: &str) -> PoolId;
}

impl Past {
    pub(crate) fn read(
        folder: &Path,
        reader: &mut dyn JournalReader,
        present: &Present<'_>,
        numbers: &mut impl Numbers,
    ) -> Result<Self, JournalStartError> {
        let unread = |source| JournalStartError::Read { folder: folder.to_owned(), source };
        let strange = |what: String, source| JournalStartError::Document {
            folder: folder.to_owned(),
            what,
            source,
        };
        let mut open = Vec::new();
        let mut after = None;
        let mut foreign = 0_u64;
        loop {
            let page = reader.open_tasks(after, PAGE).map_err(unread)?;
            let Some(last) = page.last() else { break };
            after = Some(last.admitted.task);
            for stored in page {
                let task = stored.admitted.task;
                let Some(tenant) = present.tenants.named(&stored.admitted.tenant) else {
                    foreign += 1;
                    continue;
                };
                let log = log(reader, &stored, present.window()).map_err(unread)?;
                let record = log.and_then(|log| revive(&stored, log, tenant, present, numbers));
                let record = record.map_err(|it| strange(format!("task {}", task.0), it))?;
                open.push(Arc::new(record));
            }
        }
        if 0 < foreign {
            tracing::warn!(
                tasks = foreign,
                "open tasks of tenants that are not configured stay in the journal and do not run"
            );
        }
        let last_task = TaskId(reader.last_task().map_err(unread)?.0);
        let mut quotas = Vec::new();
        for (key, value) in reader.values(QUOTA).map_err(unread)? {
            let document: QuotaDoc =
                serde_json::from_slice(&value).map_err(|it| strange(key.clone(), it))?;
            let tenant = present.tenants.named(key.trim_start_matches(QUOTA));
            quotas.extend(tenant.map(|it| (it.id, document.quota())));
        }
        let mut counters = SavedCounters::default();
        for (key, value) in reader.values(COUNTERS).map_err(unread)? {
            let document: CountersDoc =
                serde_json::from_slice(&value).map_err(|it| strange(key, it))?;
            let tenant = |name: &str| present.tenants.named(name).map(|it| it.id);
            counters = document.counters(|it| numbers.model(it), tenant);
        }
        let mut sessions = Vec::new();
        for (key, value) in reader.values(SESSION).map_err(unread)? {
            let document: SessionDoc =
                serde_json::from_slice(&value).map_err(|it| strange(key.clone(), it))?;
            let name = key.trim_start_matches(SESSION).split_once('/');
            let owner =
                name.and_then(|it| Some((present.tenants.named(it.0)?.id, it.1.to_owned())));
            sessions.extend(owner.map(|it| (it, document)));
        }
        Ok(Self { open, quotas, counters, sessions, last_task })
    }
}

/// The epoch of the last start; 0 before the first.
pub(crate) fn last_epoch(reader: &mut dyn JournalReader) -> Result<u64, journal::JournalError> {
    let found = reader.values(EPOCH)?;
    Ok(found.first().and_then(|it| serde_json::from_slice(&it.1).ok()).unwrap_or(0))
}

/// The events of a task, as many of the newest as are kept in memory. Each is read, so that damage
/// shows here.
pub(super) fn log(
    reader: &mut dyn JournalReader,
    stored: &Stored,
    window: usize,
) -> Result<Result<Log, serde_json::Error>, journal::JournalError> {
    let mut log = Log::default();
    while log.last_id() < stored.last_event {
        let rows = reader.events(stored.admitted.task, log.last_id(), window)?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let next = log.last_id() + 1;
            if row.first != next {
                let found = format!("event {} where {next} should be", row.first);
                return Ok(Err(serde::de::Error::custom(found)));
            }
            if let Err(error) = log.read_back(&row.frames) {
                return Ok(Err(error));
            }
            log.trim(window);
        }
    }
    if stored.ended_at_ms.is_some() {
        log.read_to_the_end();
    }
    let (found, expected) = (log.last_id(), stored.last_event);
    let missing = || format!("{found} events where {expected} should be");
    Ok(if found == expected { Ok(log) } else { Err(serde::de::Error::custom(missing())) })
}

/// The record of a task that the journal has.
pub(super) fn revive(
    stored: &Stored,
    log: Log,
    tenant: &Tenant,
    present: &Present<'_>,
    numbers: &mut impl Numbers,
) -> Result<TaskRecord, serde_json::Error> {
    let request: RequestDoc = serde_json::from_slice(&stored.admitted.request)?;
    let state: StateDoc = serde_json::from_slice(&stored.admitted.state)?;
    let job = job(Parts {
        model: numbers.model(&request.model),
        model_name: request.model,
        prompt_tokens: request.prompt_tokens,
        max_tokens: request.max_tokens,
        sampling: request.sampling,
        cancel_on_disconnect: request.cancel_on_disconnect,
        pools: request.pools.map(|it| Box::new(it.choice(|name| numbers.pool(name)))),
        request: request.request,
    });
    let caller = Caller {
        tenant: tenant.clone(),
        correlation_id: request.correlation_id,
        leavings: present.leavings.clone(),
        clock: present.clock,
        admitted: Timestamp(request.admitted_us),
        outbox: present.outbox.clone(),
    };
    let tokens = u32::try_from(log.tokens()).unwrap_or(u32::MAX);
    let task = state.task;
    let progress = Progress {
        state: match stored.ended_at_ms {
            Some(_) => State::Ended(task.state),
            None => State::Queued,
        },
        attempt: task.attempt,
        placement: task.placement.map(Arc::new),
        queue_position: state.queue_position,
        predicted_start_ms: state.predicted_start_ms,
        predicted_start_p90_ms: state.predicted_start_p90_ms,
        timings: task.timings,
        usage: task.usage,
        // An open task's document may be of the moment at which it ended, and its end not written.
        finish_reason: task.finish_reason.filter(|_| log.is_closed()),
        error: task.error.filter(|_| log.is_closed()).map(Box::new),
        lost_by: None,
        standing: state.standing.standing(tokens),
        preemptions: state.preemptions,
        deadline: None,
        decisions: Vec::new(),
    };
    let id = Uuid::from_bytes(stored.admitted.id);
    let number = TaskId(stored.admitted.task.0);
    Ok(TaskRecord::restored(id, number, job, caller, (log, progress)))
}

#[cfg(test)]
mod tests;
