//! One task as the shell knows it: what was asked, its stream and its state.
//!
//! A record is shared by the driver, the attempt that runs it and the readers. Its lock is held for a
//! few copies at most and never across a wait.

mod job;
mod store;
mod stream;

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use api_types::{Priority, Task, TaskUsage};
use bytes::Bytes;
use journal::JournalError;
use orchestrator_core::{TaskId, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use job::{Input, Job};
pub(crate) use store::{Finished, Store};
use stream::{ForWriting, Waiting};
pub(crate) use stream::{Progress, State, Stored, Stream, Unwritten};

use crate::clock::{Clock, micros};
use crate::driver::Leavings;
use crate::journal::Outbox;
use crate::stream::log::Log;
use crate::tenants::Tenant;

pub(crate) struct TaskRecord {
    pub(crate) id: Uuid,
    /// The core's name for it.
    pub(crate) core_id: TaskId,
    pub(crate) tenant: Tenant,
    pub(crate) job: Job,
    pub(crate) correlation_id: String,
    pub(crate) admitted: Timestamp,
    pub(crate) clock: Clock,
    /// Where a reader that leaves is reported.
    leavings: Leavings,
    /// Where it is written; `None`: it is kept in memory only.
    outbox: Option<Outbox>,
    stream: Mutex<Stream>,
}

impl TaskRecord {
    pub(crate) fn new(id: Uuid, core_id: TaskId, job: Job, caller: Caller) -> Self {
        let Caller { tenant, correlation_id, leavings, clock, admitted, outbox } = caller;
        let stored = if outbox.is_some() { Stored::NotYet } else { Stored::Yes };
        let deadline = job.deadline.map(|it| clock.instant(admitted.after(micros(it))));
        Self {
            id,
            core_id,
            tenant,
            job,
            correlation_id,
            admitted,
            clock,
            leavings,
            stream: Mutex::new(Stream::new(stored, deadline)),
            outbox,
        }
    }

    /// The task that a journal has, with its events; readers see all of them. What ran waits again.
    pub(crate) fn restored(
        id: Uuid,
        core_id: TaskId,
        job: Job,
        caller: Caller,
        (log, progress): (Log, Progress),
    ) -> Self {
        let record = Self::new(id, core_id, job, caller);
        {
            let mut stream = record.lock();
            stream.stored = Stored::Yes;
            stream.queued_for_writing = ForWriting::No;
            stream.taken = log.last_id();
            let deadline = stream.progress.deadline;
            stream.log = log;
            stream.progress = Progress { deadline, ..progress };
        }
        record
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().expect("a panic while appending ends the process")
    }

    /// Changes an open stream; does nothing to a closed one and says so. Readers are woken, or the
    /// writer is told, who wakes them when the journal has it.
    pub(crate) fn update(self: &Arc<Self>, change: impl FnOnce(&mut Stream)) -> bool {
        let mut stream = self.lock();
        if stream.log.is_closed() {
            return false;
        }
        let before = stream.log.last_id();
        change(&mut stream);
        let closed = stream.log.is_closed();
        let attempt = if closed { stream.attempt_waker.take() } else { None };
        let to_write = before < stream.log.last_id() || stream.changed;
        let told = match &self.outbox {
            Some(outbox) if to_write => {
                // Readers wait for the first token and for the end; for the rest there is a moment.
                let first = before < stream.log.last_id() && !stream.log.has_shown_token();
                let wanted = if first || closed { ForWriting::Now } else { ForWriting::Patiently };
                if stream.queued_for_writing < wanted {
                    stream.queued_for_writing = wanted;
                    match wanted {
                        ForWriting::Patiently => outbox.flows(Arc::clone(self)),
                        ForWriting::Now | ForWriting::No => outbox.changed(Arc::clone(self)),
                    }
                }
                Waiting::default()
            }
            Some(_) => stream.waiting(),
            None => {
                stream.changed = false;
                stream.log.show(u64::MAX);
                stream.waiting()
            }
        };
        drop(stream);
        told.wake();
        attempt.into_iter().for_each(Waker::wake);
        true
    }

    /// Takes out what is to be written: the writer's alone.
    pub(crate) fn take_unwritten(&self) -> Unwritten {
        let mut stream = self.lock();
        stream.queued_for_writing = ForWriting::No;
        let changed = std::mem::take(&mut stream.changed);
        let first = stream.taken + 1;
        let (events, last) = stream.log.after(first - 1);
        let events = Bytes::copy_from_slice(events);
        stream.taken = last;
        let ended = stream.log.is_closed();
        Unwritten { events, first, last, changed, ended }
    }

    /// As [`Self::take_unwritten`], with what was taken before and could not be written.
    pub(crate) fn take_again(&self) -> Unwritten {
        {
            let mut stream = self.lock();
            stream.taken = stream.log.last_shown();
        }
        Unwritten { changed: true, ..self.take_unwritten() }
    }

    /// The journal has it, and its events up to `last`. What it will never have stays so: that task's
    /// readers see its end, and nobody is told that it is kept.
    pub(crate) fn written(&self, last: u64) {
        let mut stream = self.lock();
        if stream.stored == Stored::NotYet {
            stream.stored = Stored::Yes;
        }
        stream.log.show(last);
        stream.settled |= stream.log.is_over();
        if let (Stored::Yes, Some(outbox)) = (stream.stored, &self.outbox) {
            stream.log.trim(outbox.shelf.window);
        }
        let told = stream.waiting();
        drop(stream);
        told.wake();
    }

    /// Readers see its end though the journal has no room for it yet: nothing is dropped.
    pub(crate) fn shown_unwritten(&self, last: u64) {
        let mut stream = self.lock();
        stream.log.show(last);
        let told = stream.waiting();
        drop(stream);
        told.wake();
    }

    /// It has ended, and can be found again where it is kept longest.
    pub(crate) fn is_settled(&self) -> bool {
        self.outbox.is_none() || self.lock().settled
    }

    /// The next events after `seen`, which are no longer in memory, and the id of the last.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) async fn read_back(
        self: Arc<Self>,
        seen: u64,
    ) -> Result<(Bytes, u64), JournalError> {
        match &self.outbox {
            Some(outbox) => outbox.shelf.events(self.core_id, seen).await,
            None => Ok((Bytes::new(), seen)),
        }
    }

    /// The text so far, shown or not; `None` where a part of it is no longer kept.
    ///
    /// # Errors
    /// When the journal has a part of it and cannot be read.
    pub(crate) async fn text(&self) -> Result<Option<String>, JournalError> {
        let (past, text) = {
            let stream = self.lock();
            (stream.log.last_past(), stream.log.text())
        };
        self.behind(past, text).await
    }

    /// Puts the text of the first events before `text`.
    async fn behind(&self, past: u64, text: String) -> Result<Option<String>, JournalError> {
        match &self.outbox {
            Some(outbox) if past != 0 => {
                let before = outbox.shelf.text(self.core_id, past).await?;
                Ok(before.map(|it| it + &text))
            }
            Some(_) | None => Ok(Some(text)),
        }
    }

    /// The journal will never have it.
    pub(crate) fn not_written(&self) {
        let mut stream = self.lock();
        stream.stored = Stored::Never;
        let told = stream.waiting();
        drop(stream);
        told.wake();
    }

    /// Resolves once the journal has the task; false if it never will.
    pub(crate) async fn stored(&self) -> bool {
        self.until(|stream| match stream.stored {
            Stored::NotYet => None,
            Stored::Yes => Some(true),
            Stored::Never => Some(false),
        })
        .await
    }

    /// Resolves once its readers see that a task which has ended is over.
    pub(crate) async fn over(&self) {
        self.until(|stream| (!stream.log.is_closed() || stream.log.is_over()).then_some(())).await;
    }

    async fn until<T>(&self, holds: impl Fn(&Stream) -> Option<T>) -> T {
        std::future::poll_fn(|cx| {
            let mut stream = self.lock();
            match holds(&stream) {
                Some(found) => Poll::Ready(found),
                None => {
                    stream.wait(cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
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

    /// Stops here; the next life of the daemon goes on with it.
    pub(crate) fn suspend(&self) {
        let mut stream = self.lock();
        stream.suspended = true;
        let told = stream.waiting();
        let attempt = stream.attempt_waker.take();
        drop(stream);
        told.wake();
        attempt.into_iter().for_each(Waker::wake);
    }

    /// A reader joins; returns how many bytes the stream has, and the version of the current `queued` event.
    pub(crate) fn joined(&self) -> (usize, u64) {
        let mut stream = self.lock();
        stream.readers += 1;
        (stream.log.bytes_shown(), stream.queued_version)
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

    /// Zero once it has passed; `None`: it has none.
    pub(crate) fn until_deadline(&self) -> Option<Duration> {
        let deadline = self.lock().progress.deadline;
        deadline.map(|it| it.saturating_duration_since(Instant::now()))
    }

    /// Since it was admitted.
    pub(crate) fn waited_ms(&self) -> u64 {
        self.clock.now().since(self.admitted).0 / 1_000
    }

    /// Lost if the daemon dies.
    pub(crate) fn is_ephemeral(&self) -> bool {
        self.outbox.is_none()
    }

    /// As readers know it; `None` where a part of it is no longer kept.
    ///
    /// # Errors
    /// When the journal has a part of the text and cannot be read.
    pub(crate) async fn view(&self) -> Result<Option<Task>, JournalError> {
        let (task, past, text) = {
            let stream = self.lock();
            let task = Task {
                result: self.is_computed().then(|| stream.log.result()).flatten(),
                record: Some(Box::new(self.job.record())),
                ..self.seen(&stream)
            };
            (task, stream.log.last_past(), stream.log.text_shown())
        };
        let text = self.behind(past, text).await?;
        let begun = 0 < task.usage.tokens_out;
        Ok(text.map(|text| Task { text: begun.then_some(text), ..task }))
    }

    fn seen(&self, stream: &Stream) -> Task {
        let (tokens_out, ending) = (stream.log.tokens_shown(), stream.is_ending());
        Task {
            state: stream.state(),
            usage: TaskUsage { tokens_out, ..stream.progress.usage },
            finish_reason: stream.progress.finish_reason.filter(|_| !ending),
            error: stream.progress.error.as_deref().filter(|_| !ending).cloned(),
            ..self.outline(stream)
        }
    }

    /// As a list of tasks has it.
    pub(crate) fn listed(&self) -> Listed {
        let stream = self.lock();
        let task = self.seen(&stream);
        let session = self.job.canonical.session_id.clone();
        Listed { number: self.core_id, priority: self.job.priority(), session, task }
    }

    /// As the journal is to know it: its events have the rest.
    pub(crate) fn written_view(&self) -> Task {
        self.outline(&self.lock())
    }

    fn outline(&self, stream: &Stream) -> Task {
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
            text: None,
            result: None,
            transcript_id: None,
            record: None,
            error: progress.error.as_deref().cloned(),
        }
    }
}

/// A task in a list, without its text.
pub(crate) struct Listed {
    pub(crate) number: TaskId,
    pub(crate) priority: Priority,
    pub(crate) session: Option<String>,
    pub(crate) task: Task,
}

/// What a record needs to know of the request that made it.
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    pub(crate) correlation_id: String,
    pub(crate) leavings: Leavings,
    pub(crate) clock: Clock,
    pub(crate) admitted: Timestamp,
    pub(crate) outbox: Option<Outbox>,
}
