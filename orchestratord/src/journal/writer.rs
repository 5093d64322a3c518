//! The one thread that writes.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api_types::{ErrorCode, TaskState};
use bytes::Bytes;
use journal::{Admitted, Journal, JournalError, Retention, Swept, Write};
use orchestrator_core::Event;
use tokio::sync::oneshot;

use super::documents::{PoolsDoc, RequestDoc, StateDoc};
use super::shelf::Shelf;
use super::show::Shows;
use super::{Message, Outbox, task_no};
use crate::clock::Clock;
use crate::crash::{self, Point};
use crate::driver::{Command, Handle};
use crate::fleet::FleetWatch;
use crate::task::{Stored, TaskRecord, Unwritten};
use crate::telemetry::Telemetry;
use crate::wire::{STORAGE_FULL, envelope};

/// Messages that become one commit at most.
const BATCH: usize = 1_024;
/// How long the tokens of streams that flow wait for company after a commit: one of a single token
/// takes several times the processor time of a token among ten.
const COMPANY: Duration = Duration::from_millis(4);
/// How long streams wait for room to be written before they end.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// How often ended tasks are looked through, and whether there is room again.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Written to see whether there is room again.
const PROBE: &str = "probe";
/// Tasks that are removed in one go: commits wait meanwhile.
const SWEEP_TASKS: usize = 64;

pub(crate) struct WriterConfig {
    pub(crate) retention: Retention,
    pub(crate) clock: Clock,
    pub(crate) fleet: FleetWatch,
    pub(crate) driver: Handle,
    pub(crate) telemetry: Arc<Telemetry>,
}

pub(crate) struct Writer {
    journal: Box<dyn Journal>,
    inbox: Receiver<Message>,
    patient: Arc<Mutex<Vec<Arc<TaskRecord>>>>,
    full: Arc<AtomicBool>,
    config: WriterConfig,
    /// Not written yet.
    values: BTreeMap<String, Option<Bytes>>,
    /// Ends of tasks that were shown and had no room.
    late: Vec<Write>,
    late_records: Vec<(Arc<TaskRecord>, u64)>,
    /// Since when nothing could be written.
    failing: Option<Instant>,
    shows: Shows,
    swept: Instant,
    /// More is to be removed, a step after each commit.
    sweeping: bool,
    /// When the last commit was made.
    committed: Instant,
}

/// One commit, and whom it concerns.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    /// With the last event that is written.
    records: Vec<(Arc<TaskRecord>, u64)>,
    /// Who waits for the commit.
    flushed: Vec<oneshot::Sender<()>>,
    /// Write it and end.
    last: bool,
}

/// Where a writer's messages come from; it exists before its writer, whose driver needs it.
pub(crate) struct Inbox {
    inbox: Receiver<Message>,
    patient: Arc<Mutex<Vec<Arc<TaskRecord>>>>,
    full: Arc<AtomicBool>,
}

pub(super) fn boxes(shelf: Shelf) -> (Outbox, Inbox) {
    let (messages, inbox) = mpsc::channel();
    let (patient, full) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let outbox = Outbox { messages, patient: Arc::clone(&patient), full: Arc::clone(&full), shelf };
    (outbox, Inbox { inbox, patient, full })
}

impl Writer {
    pub(crate) fn new(
        journal: Box<dyn Journal>,
        inbox: Inbox,
        shows: Shows,
        config: WriterConfig,
    ) -> Self {
        let Inbox { inbox, patient, full } = inbox;
        let (values, late, now) = (BTreeMap::new(), Vec::new(), Instant::now());
        Self {
            journal,
            inbox,
            patient,
            full,
            config,
            values,
            late,
            late_records: Vec::new(),
            failing: None,
            shows,
            swept: now,
            sweeping: false,
            committed: now,
        }
    }

    /// Runs until [`Outbox::stop`], or until every outbox is gone.
    pub(crate) fn run(mut self) {
        loop {
            let patience = if self.sweeping { Duration::ZERO } else { SWEEP_EVERY };
            let batch = match self.inbox.recv_timeout(patience) {
                Ok(Message::Patient) => {
                    let next = self.company();
                    self.gather(next)
                }
                Ok(first) => self.gather(Some(first)),
                Err(RecvTimeoutError::Timeout) => Batch::default(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let last = batch.last;
            self.write(batch);
            if last {
                return;
            }
            if self.sweeping || SWEEP_EVERY <= self.swept.elapsed() {
                self.sweep();
            }
        }
    }

    /// Waits for what flows, until there is something that does not wait.
    fn company(&self) -> Option<Message> {
        let left = COMPANY.checked_sub(self.committed.elapsed())?;
        self.inbox.recv_timeout(left).ok()
    }

    /// Whatever has arrived is one commit.
    fn gather(&mut self, first: Option<Message>) -> Batch {
        let mut batch = Batch::default();
        let mut next = first;
        while let Some(message) = next {
            match message {
                Message::Admitted(record) => batch.admit(record, &self.config),
                Message::Changed(record) => batch.change(record, self.config.clock),
                Message::Value { key, value } => {
                    self.values.insert(key, value);
                }
                Message::Flush(written) => batch.flushed.push(written),
                Message::Patient => {}
                Message::Stop => batch.last = true,
            }
            let more = batch.records.len() < BATCH && !batch.last;
            next = if more { self.inbox.try_recv().ok() } else { None };
        }
        // After the messages: one that was pushed before `Patient` was read is among them.
        let patient = std::mem::take(&mut *self.patient.lock().expect("no holder panics"));
        patient.into_iter().for_each(|it| batch.change(it, self.config.clock));
        batch
    }

    /// Returns when it is written, or never will be.
    fn write(&mut self, batch: Batch) {
        let Batch { writes: new, mut records, flushed, last } = batch;
        let mut writes = self.late.clone();
        writes.extend(new);
        let named = self.values.iter();
        let named =
            named.map(|(key, value)| Write::Value { key: key.clone(), value: value.clone() });
        writes.extend(named);
        if writes.is_empty() && self.failing.is_some() {
            writes.push(Write::Value { key: PROBE.into(), value: Some(Bytes::new()) });
        }
        while !writes.is_empty() {
            match self.commit(&writes) {
                Ok(()) => break,
                Err(error) => {
                    let since = self.failed(&error);
                    if last || PATIENCE <= since.elapsed() {
                        self.give_up(records);
                        return;
                    }
                    pause(RETRY_EVERY);
                }
            }
        }
        records.append(&mut self.late_records);
        self.shows.written(records);
        for written in flushed {
            let _gone = written.send(());
        }
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), JournalError> {
        crash::here(Point::BeforeCommit);
        let started = Instant::now();
        self.journal.commit(writes)?;
        crash::here(Point::AfterCommit);
        self.committed = Instant::now();
        self.config.telemetry.committed(self.committed - started);
        self.values.clear();
        self.late.clear();
        if self.failing.take().is_some() {
            self.full.store(false, Ordering::Relaxed);
            tracing::info!("the journal can be written again");
        }
        Ok(())
    }

    /// Says since when that is so. Nothing is admitted meanwhile.
    fn failed(&mut self, error: &JournalError) -> Instant {
        *self.failing.get_or_insert_with(|| {
            let cause = error.source().map(ToString::to_string);
            tracing::error!(%error, cause, "the journal cannot be written");
            self.full.store(true, Ordering::Relaxed);
            Instant::now()
        })
    }

    /// New tasks are refused, and streams end: with what their engines said where they were through,
    /// else with an error. There is room set aside for that.
    fn give_up(&mut self, records: Vec<(Arc<TaskRecord>, u64)>) {
        self.shows.flush();
        let mut ends = Batch::default();
        let mut seen = BTreeSet::new();
        for (record, _) in records {
            if !seen.insert(record.core_id) {
                continue;
            }
            let (stored, over) = {
                let stream = record.lock();
                (stream.stored, stream.log.is_over())
            };
            match stored {
                Stored::NotYet => {
                    record.not_written();
                    self.config.driver.send_blocking(Command::NotStored(record));
                }
                // Its end is among the late ones.
                Stored::Yes if over => {}
                Stored::Yes => {
                    cut_off(&record);
                    let task = record.core_id;
                    let unwritten = record.take_again();
                    ends.push(record, unwritten, self.config.clock);
                    let cancel = Command::Core(Event::CancelRequested { task });
                    self.config.driver.send_blocking(cancel);
                }
                Stored::Never => {}
            }
        }
        match self.journal.commit_reserved(&ends.writes) {
            Ok(()) => self.shows.written(ends.records),
            Err(error) => {
                tracing::error!(%error, tasks = ends.records.len(), "ends of tasks could not be written yet");
                self.late.append(&mut ends.writes);
                self.late_records.extend(ends.records.iter().cloned());
                self.shows.late(ends.records);
            }
        }
        self.shows.flush();
    }

    fn sweep(&mut self) {
        self.swept = Instant::now();
        let now_ms = self.config.clock.now().0 / 1_000;
        self.sweeping = match self.journal.sweep(self.config.retention, now_ms, SWEEP_TASKS) {
            Ok(Swept { removed, more }) => {
                tracing::debug!(tasks = removed.len(), more, "swept the journal");
                more
            }
            Err(error) => {
                tracing::warn!(%error, "the journal was not swept");
                false
            }
        };
    }
}

impl Batch {
    fn admit(&mut self, record: Arc<TaskRecord>, config: &WriterConfig) {
        let unwritten = record.take_unwritten();
        let job = &record.job;
        let pool = |id| {
            let fleet = config.fleet.now();
            let found = fleet.pools.iter().find(|it| it.core_id == id);
            found.map(|it| it.pool.pool_id.clone())
        };
        let request = RequestDoc {
            request: job.canonical.clone(),
            model: job.model_name.clone(),
            prompt_tokens: job.prompt_tokens,
            max_tokens: job.max_tokens,
            sampling: job.sampling,
            cancel_on_disconnect: job.cancel_on_disconnect,
            pools: job.pools.as_deref().map(|it| PoolsDoc::of(it, pool)),
            correlation_id: record.correlation_id.clone(),
            admitted_us: record.admitted.0,
        };
        self.writes.push(Write::Admitted(Admitted {
            task: task_no(record.core_id),
            tenant: record.tenant.name.as_ref().into(),
            id: *record.id.as_bytes(),
            session: job.canonical.session_id.clone(),
            admitted_at_ms: record.admitted.0 / 1_000,
            request: json(&request),
            state: json(&StateDoc::of(&record)),
        }));
        // It has the state already, unless that is an end.
        let unwritten = Unwritten { changed: unwritten.ended, ..unwritten };
        self.push(record, unwritten, config.clock);
    }

    fn change(&mut self, record: Arc<TaskRecord>, clock: Clock) {
        let unwritten = record.take_unwritten();
        self.push(record, unwritten, clock);
    }

    fn push(&mut self, record: Arc<TaskRecord>, unwritten: Unwritten, clock: Clock) {
        let Unwritten { events, first, last, changed, ended } = unwritten;
        if record.lock().stored == Stored::Never {
            return;
        }
        let task = task_no(record.core_id);
        if first <= last {
            self.writes.push(Write::Events { task, first, last, frames: events });
        }
        if changed {
            let ended_at_ms = ended.then(|| clock.now().0 / 1_000);
            let state = json(&StateDoc::of(&record));
            self.writes.push(Write::State { task, state, ended_at_ms });
        }
        self.records.push((record, last));
    }
}

/// Ends a stream whose tokens cannot be written, unless its engine was through.
fn cut_off(record: &Arc<TaskRecord>) {
    let error = envelope(ErrorCode::StorageFull, STORAGE_FULL, &record.correlation_id);
    record.update(|stream| {
        stream.log.retract();
        stream.fail(error, TaskState::Failed);
    });
}

fn json(document: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(document).expect("documents always serialise").into()
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which nothing else waits for")]
fn pause(span: Duration) {
    std::thread::sleep(span);
}
