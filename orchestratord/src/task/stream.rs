//! What changes while a task lives: its events, its state, and who waits for more.

use std::sync::Arc;
use std::task::Waker;

use api_types::{
    ErrorEnvelope, FinishReason, Metrics, Queued, QueuedReason, TaskPlacement, TaskState,
    TaskTimings, TaskUsage,
};
use bytes::Bytes;
use orchestrator_core::{DecisionRecord, SavedStanding};
use tokio::time::Instant;

use crate::stream::frame;
use crate::stream::log::Log;

/// What changes while a task lives.
pub(crate) struct Stream {
    pub(crate) log: Log,
    pub(crate) progress: Progress,
    pub(crate) stored: Stored,
    /// The writer has it, and will look at everything that is new then.
    pub(super) queued_for_writing: ForWriting,
    /// The last event that the writer has taken.
    pub(super) taken: u64,
    /// The journal has its end.
    pub(super) settled: bool,
    /// `progress` holds something that is to be written.
    pub(super) changed: bool,
    /// Open readers. A task without any may be cancelled after its grace.
    pub(crate) readers: u32,
    /// Readers that wait for more.
    pub(super) waiting: Vec<Waker>,
    /// The attempt, to be told that the stream was closed by somebody else or that it must stop.
    pub(super) attempt_waker: Option<Waker>,
    /// The daemon ends before the task does.
    pub(crate) suspended: bool,
    /// The current attempt must make way for another task.
    pub(crate) stopping: bool,
    queued: Option<Bytes>,
    pub(super) queued_version: u64,
    queued_as: Option<(u64, QueuedReason, Option<u32>)>,
    metrics: Option<(Instant, Bytes)>,
}

/// State, places and times of a task. Terminal states are entered by closing the log only.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) state: State,
    pub(crate) attempt: u32,
    pub(crate) placement: Option<Arc<TaskPlacement>>,
    /// At admission.
    pub(crate) queue_position: u64,
    pub(crate) predicted_start_ms: u64,
    pub(crate) predicted_start_p90_ms: u64,
    pub(crate) timings: TaskTimings,
    pub(crate) usage: TaskUsage,
    pub(crate) finish_reason: Option<FinishReason>,
    pub(crate) error: Option<Box<ErrorEnvelope>>,
    /// Why the last attempt did not end, if its engine lost it.
    pub(crate) lost_by: Option<Box<ErrorEnvelope>>,
    /// What the core would need to take it in again, as of the last dispatch.
    pub(crate) standing: SavedStanding,
    /// How often it had to make way.
    pub(crate) preemptions: u32,
    /// When the last token must have come.
    pub(crate) deadline: Option<Instant>,
    /// Why it went where it went; the newest last.
    pub(crate) decisions: Vec<DecisionRecord>,
}

/// Choices of a replica that are kept for one task; the oldest go first.
const DECISIONS_MAX: usize = 64;

impl Progress {
    pub(crate) fn decided(&mut self, decision: DecisionRecord) {
        if self.decisions.len() == DECISIONS_MAX {
            self.decisions.remove(0);
        }
        self.decisions.push(decision);
    }

    /// Whether the replica of the current attempt is known to hold the session's cache.
    pub(crate) fn kv_warmth(&self) -> bool {
        self.decisions.last().is_some_and(|it| it.warm)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Queued,
    Running,
    /// Stopped for another task; waits to go on.
    Preempted,
    Ended(TaskState),
}

impl State {
    pub(crate) fn wire(self) -> TaskState {
        match self {
            Self::Queued => TaskState::Queued,
            Self::Running => TaskState::Running,
            Self::Preempted => TaskState::Preempted,
            Self::Ended(state) => state,
        }
    }
}

/// Whether a record stands in the writer's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ForWriting {
    No,
    /// Among those that can wait.
    Patiently,
    Now,
}

/// Whether the journal has a task. One that is kept in memory only counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    NotYet,
    Yes,
    Never,
}

/// What the journal does not have yet.
pub(crate) struct Unwritten {
    /// Encoded, `first` to `last`; empty where `last` is before `first`.
    pub(crate) events: Bytes,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// State, places or times have changed.
    pub(crate) changed: bool,
    pub(crate) ended: bool,
}

/// Readers to be woken after the lock is gone.
#[derive(Default)]
pub(super) struct Waiting {
    /// In the common case there is one.
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Waiting {
    pub(super) fn wake(self) {
        self.first.into_iter().chain(self.others).for_each(Waker::wake);
    }
}

impl Stream {
    pub(super) fn new(stored: Stored, deadline: Option<Instant>) -> Self {
        Self {
            log: Log::default(),
            progress: Progress { deadline, ..Progress::default() },
            stored,
            // The writer gets it with its admission, and whatever there is of it by then.
            queued_for_writing: ForWriting::Now,
            taken: 0,
            settled: false,
            changed: false,
            readers: 0,
            waiting: Vec::new(),
            attempt_waker: None,
            suspended: false,
            stopping: false,
            queued: None,
            queued_version: 0,
            queued_as: None,
            metrics: None,
        }
    }

    /// Ends it with an `error` event.
    pub(crate) fn fail(&mut self, error: ErrorEnvelope, state: TaskState) {
        self.log.close("error", &error);
        self.progress.error = Some(Box::new(error));
        self.enter(State::Ended(state));
    }

    pub(crate) fn enter(&mut self, state: State) {
        self.progress.state = state;
        self.changed = true;
    }

    /// Readers do not know yet that it has ended.
    pub(super) fn is_ending(&self) -> bool {
        self.log.is_closed() && !self.log.is_over()
    }

    /// As readers know it.
    pub(crate) fn state(&self) -> TaskState {
        if self.is_ending() { TaskState::Running } else { self.progress.state.wire() }
    }

    pub(super) fn waiting(&mut self) -> Waiting {
        let first = self.waiting.pop();
        // Keeps its memory: a token costs no allocation.
        let others =
            if self.waiting.is_empty() { Vec::new() } else { std::mem::take(&mut self.waiting) };
        Waiting { first, others }
    }

    /// Registers a reader's waker.
    pub(crate) fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|it| it.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    /// Registers the attempt's waker; it is woken when the stream is closed.
    pub(crate) fn watch_close(&mut self, waker: &Waker) {
        if !self.attempt_waker.as_ref().is_some_and(|it| it.will_wake(waker)) {
            self.attempt_waker = Some(waker.clone());
        }
    }

    /// Publishes a waiting task's place if it, its reason or the load that it waits for changed.
    pub(crate) fn move_up(
        &mut self,
        position: u64,
        predicted_ms: u64,
        reason: QueuedReason,
        load_permille: Option<u32>,
    ) {
        if self.queued_as == Some((position, reason, load_permille)) {
            return;
        }
        let event = Queued::Waiting {
            queue_position: position,
            predicted_start_ms: predicted_ms,
            reason,
            load_progress: load_permille.map(|it| f64::from(it) / 1_000.0),
        };
        let mut out = Vec::with_capacity(128);
        frame::write(&mut out, None, "queued", &event);
        self.queued = Some(out.into());
        self.queued_version += 1;
        self.queued_as = Some((position, reason, load_permille));
    }

    /// Publishes how a running task fares.
    pub(crate) fn publish_metrics(&mut self, metrics: &Metrics) {
        let mut out = Vec::with_capacity(128);
        frame::write(&mut out, None, "metrics", metrics);
        self.metrics = Some((Instant::now(), out.into()));
    }

    /// When that was last done.
    pub(crate) fn metrics_at(&self) -> Option<Instant> {
        self.metrics.as_ref().map(|it| it.0)
    }

    /// What was published after `seen`, while the task runs.
    pub(crate) fn metrics_after(&self, seen: Option<Instant>) -> Option<(Instant, Bytes)> {
        let fresh = self.metrics.as_ref().filter(|it| seen.is_none_or(|seen| seen < it.0))?;
        (self.progress.state == State::Running).then(|| fresh.clone())
    }

    /// Why the task waits, as its readers were last told.
    pub(crate) fn waiting_reason(&self) -> QueuedReason {
        self.queued_as.map_or(QueuedReason::WaitingForSlot, |it| it.1)
    }

    /// The current `queued` event, unless the reader has it or the task no longer waits.
    pub(crate) fn queued_after(&self, version: u64) -> Option<(u64, Bytes)> {
        let waits = matches!(self.progress.state, State::Queued | State::Preempted);
        let queued = self.queued.as_ref().filter(|_| waits && version < self.queued_version)?;
        Some((self.queued_version, queued.clone()))
    }
}
