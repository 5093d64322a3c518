//! One task as the shell knows it: what was asked, its stream and its state.
//!
//! A record is shared by the driver, the attempt that runs it and the readers. Its lock is held for a
//! few copies at most and never across a wait.

mod job;
mod store;

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use api_types::{
    ErrorEnvelope, FinishReason, Metrics, Queued, QueuedReason, Task, TaskPlacement, TaskState,
    TaskTimings, TaskUsage,
};
use bytes::Bytes;
use orchestrator_core::{DecisionRecord, TaskId};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use job::{Input, Job};
pub(crate) use store::{Finished, Store};

use crate::driver::Leavings;
use crate::stream::frame;
use crate::stream::log::Log;
use crate::tenants::Tenant;

pub(crate) struct TaskRecord {
    pub(crate) id: Uuid,
    /// The core's name for it.
    pub(crate) core_id: TaskId,
    pub(crate) tenant: Tenant,
    pub(crate) job: Job,
    pub(crate) correlation_id: String,
    pub(crate) admitted_at: Instant,
    /// Where a reader that leaves is reported.
    leavings: Leavings,
    stream: Mutex<Stream>,
}

/// What changes while a task lives.
pub(crate) struct Stream {
    pub(crate) log: Log,
    pub(crate) progress: Progress,
    /// Open readers. A task without any may be cancelled after its grace.
    pub(crate) readers: u32,
    /// Readers that wait for more.
    waiting: Vec<Waker>,
    /// The attempt, to be told that the stream was closed by somebody else or that it must stop.
    attempt_waker: Option<Waker>,
    /// The current attempt must make way for another task.
    pub(crate) stopping: bool,
    queued: Option<Bytes>,
    queued_version: u64,
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

impl TaskRecord {
    pub(crate) fn new(id: Uuid, core_id: TaskId, job: Job, caller: Caller) -> Self {
        let admitted_at = Instant::now();
        let deadline = job.deadline.map(|it| admitted_at + it);
        Self {
            id,
            core_id,
            tenant: caller.tenant,
            job,
            correlation_id: caller.correlation_id,
            admitted_at,
            leavings: caller.leavings,
            stream: Mutex::new(Stream {
                log: Log::default(),
                progress: Progress { deadline, ..Progress::default() },
                readers: 0,
                waiting: Vec::new(),
                attempt_waker: None,
                stopping: false,
                queued: None,
                queued_version: 0,
                queued_as: None,
                metrics: None,
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().expect("a panic while appending ends the process")
    }

    /// Changes an open stream and wakes its readers; does nothing to a closed one and says so.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Stream)) -> bool {
        let mut stream = self.lock();
        if stream.log.is_closed() {
            return false;
        }
        change(&mut stream);
        let closed = stream.log.is_closed();
        let attempt = if closed { stream.attempt_waker.take() } else { None };
        // Woken after the lock is gone; in the common case there is one reader.
        let first = stream.waiting.pop();
        let others = if stream.waiting.is_empty() {
            // Keeps its memory: a token costs no allocation.
            Vec::new()
        } else {
            std::mem::take(&mut stream.waiting)
        };
        drop(stream);
        first.into_iter().chain(others).chain(attempt).for_each(Waker::wake);
        true
    }

    /// Tells the current attempt to stop, if that is `attempt`.
    pub(crate) fn stop_attempt(&self, attempt: u32) {
        let mut stream = self.lock();
        if stream.progress.attempt == attempt && !stream.log.is_closed() {
            stream.stopping = true;
            let waker = stream.attempt_waker.take();
            drop(stream);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// A reader joins; returns how long the log is, and the version of the current `queued` event.
    pub(crate) fn joined(&self) -> (usize, u64) {
        let mut stream = self.lock();
        stream.readers += 1;
        (stream.log.bytes().len(), stream.queued_version)
    }

    /// A reader is gone. The last one starts the clock of `on_disconnect`.
    pub(crate) fn left(self: &Arc<Self>) {
        let mut stream = self.lock();
        stream.readers -= 1;
        let abandoned = stream.readers == 0 && !stream.log.is_closed();
        drop(stream);
        if abandoned && self.job.cancel_on_disconnect {
            self.leavings.report(self);
        }
    }

    /// Its answer is a result and no text.
    fn is_computed(&self) -> bool {
        matches!(self.job.input, Input::Texts(_) | Input::Documents { .. })
    }

    pub(crate) fn view(&self) -> Task {
        let stream = self.lock();
        let progress = &stream.progress;
        Task {
            task_id: self.id,
            state: progress.state.wire(),
            attempt: progress.attempt,
            model_id: self.job.model_name.clone(),
            tenant: self.tenant.name.as_ref().into(),
            timings: progress.timings,
            usage: TaskUsage { tokens_out: stream.log.tokens(), ..progress.usage },
            placement: progress.placement.as_deref().cloned(),
            seed: self.job.seed,
            finish_reason: progress.finish_reason,
            text: (stream.log.tokens() > 0).then(|| stream.log.text()),
            result: self.is_computed().then(|| stream.log.result()).flatten(),
            error: progress.error.as_deref().cloned(),
        }
    }
}

/// What a record needs to know of the request that made it.
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    pub(crate) correlation_id: String,
    pub(crate) leavings: Leavings,
}

impl Stream {
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
