//! Submission, and what each effect of the core means outside.

use std::sync::Arc;

use api_types::{Admission, End, ErrorCode, ErrorEnvelope, FinishReason, Links, TaskState};
use orchestrator_core::{
    Class, Effect, Ending, Event, Micros, RejectReason, Report, Run, TaskId, TaskSpec, TenantId,
    Usage,
};
use tokio::time::Instant;

use super::{Driver, Submission, SubmitReply};
use crate::attempt::{self, Attempt};
use crate::task::{Caller, State, Stream, TaskRecord};
use crate::wire::envelope;

impl Driver {
    pub(super) fn submit(&mut self, submission: Submission) -> SubmitReply {
        if let Some(known) = self.store.find(submission.id) {
            return if known.job.canonical == submission.job.canonical {
                SubmitReply::Known(known)
            } else {
                SubmitReply::Conflict
            };
        }
        if self.shutting_down {
            return SubmitReply::ShuttingDown;
        }
        self.next_task += 1;
        let core_id = TaskId(self.next_task);
        let Submission { id, job, correlation_id } = submission;
        let caller = Caller { correlation_id, leavings: self.handle.leavings() };
        let record = Arc::new(TaskRecord::new(id, core_id, job, caller));
        self.admit(record)
    }

    fn admit(&mut self, record: Arc<TaskRecord>) -> SubmitReply {
        let task = record.core_id;
        self.open.insert(task, Arc::clone(&record));
        let spec = TaskSpec {
            task,
            model: record.job.model,
            class: class(&record),
            prompt_tokens: record.job.prompt_tokens,
            max_tokens: record.job.max_tokens,
            engine: record.job.engine,
            tenant: TenantId(0),
            expected_tokens: None,
            deadline: None,
            ttl: None,
            session: None,
            pools: None,
        };
        let effects = self.core.apply(self.now(), Event::Submitted(spec));
        let mut rejected = None;
        for effect in effects {
            match effect {
                Effect::Rejected { reason, .. } => rejected = Some(reason),
                Effect::Admitted { position, predicted_start, predicted_start_p90, .. } => {
                    self.admitted(&record, position, predicted_start);
                    let p90 = self.milliseconds(predicted_start_p90);
                    record.lock().progress.predicted_start_p90_ms = p90;
                }
                Effect::Dispatch { .. }
                | Effect::CancelOnReplica(_)
                | Effect::Preempt(_)
                | Effect::Ended { .. }
                | Effect::Load { .. }
                | Effect::Unload { .. }
                | Effect::Decided(_) => self.perform_effect(effect),
            }
        }
        if let Some(reason) = rejected {
            self.open.remove(&task);
            let engine = self.directory.engine_of(record.job.model);
            self.telemetry.rejected(&record, engine, reason);
            return SubmitReply::Rejected(reason);
        }
        let admission = admission(&record);
        SubmitReply::Admitted { record, admission }
    }

    fn admitted(&mut self, record: &Arc<TaskRecord>, position: u64, predicted: Option<Micros>) {
        let predicted_ms = self.milliseconds(predicted);
        let reason = self.directory.published().waiting_reason(&record.job.model_name);
        record.update(|stream| {
            stream.progress.queue_position = position;
            stream.progress.predicted_start_ms = predicted_ms;
            stream.move_up(position, predicted_ms, reason);
        });
        self.store.insert(Arc::clone(record));
        self.telemetry.enqueued(record, self.directory.engine_of(record.job.model));
        self.positions_due.get_or_insert(Instant::now() + super::POSITIONS_EVERY);
    }

    /// A start that cannot be predicted happens within the time that a task may wait for a replica,
    /// or not at all: that limit is the honest answer.
    pub(super) fn milliseconds(&self, predicted: Option<Micros>) -> u64 {
        predicted.unwrap_or(self.core.unready_wait()).0 / 1_000
    }

    pub(super) fn perform_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Dispatch { run, .. } => self.dispatch(run),
            // The attempt has seen its stream close and reports when its slot is free.
            Effect::CancelOnReplica(_) => {}
            Effect::Decided(_) => {}
            Effect::Preempt(_) | Effect::Load { .. } | Effect::Unload { .. } => {
                unreachable!("no replica says that it can be stopped or loaded")
            }
            Effect::Ended { task, ending } => self.ended(task, ending),
            Effect::Admitted { .. } | Effect::Rejected { .. } => {
                unreachable!("only a submission is admitted or rejected")
            }
        }
    }

    fn dispatch(&mut self, run: Run) {
        let record = Arc::clone(&self.open[&run.task]);
        if record.lock().log.last_id() != 0 {
            self.cannot_go_on(&record, run);
            return;
        }
        let replica = self.directory.replica(run.replica).expect("the core knows live replicas");
        let queue_time = record.admitted_at.elapsed();
        record.update(|stream| {
            stream.progress.state = State::Running;
            stream.progress.attempt = run.attempt.0;
            stream.progress.placement = Some(Arc::clone(&replica.placement));
            stream.progress.timings.queue_time_ms = Some(attempt::millis(queue_time));
        });
        let series = replica.series(&self.telemetry);
        self.telemetry.dispatched(&record, series, attempt::millis(queue_time));
        let attempt = Attempt {
            run,
            record,
            replica,
            handle: self.handle.clone(),
            config: self.attempts,
            telemetry: Arc::clone(&self.telemetry),
        };
        self.tracker.spawn(attempt::run(attempt));
    }

    /// The engine died under a stream that has begun, and it cannot be resumed.
    fn cannot_go_on(&mut self, record: &Arc<TaskRecord>, run: Run) {
        self.close_with(record, ErrorCode::WorkerReset, "the engine was lost in mid-stream");
        let (report, usage) = (Report::Failed, Usage::default());
        self.apply(Event::Finished { run, report, usage, slot_free: true });
    }

    /// Closes the stream, unless the attempt did, and lets go of the task.
    fn ended(&mut self, task: TaskId, ending: Ending) {
        let record = self.open.remove(&task).expect("only an open task ends");
        match ending {
            Ending::Completed | Ending::Failed => {}
            Ending::Cancelled => close_cancelled(&record),
            Ending::Dropped => self.close_with(
                &record,
                ErrorCode::QueueFullDropLru,
                "the queue was full and this task was the oldest of the lowest class",
            ),
            Ending::Shed => self.close_with(
                &record,
                ErrorCode::AdmissionReject,
                "the queue was full and interactive work took this task's place",
            ),
            Ending::NoReplica { coming: true } => self.close_with(
                &record,
                ErrorCode::PoolUnready,
                "no replica of the model became ready in the time a task may wait for one",
            ),
            Ending::NoReplica { coming: false } => self.close_with(
                &record,
                ErrorCode::PoolUnavailable,
                "no replica of the model is left that could become ready",
            ),
            Ending::Expired | Ending::Late => self.close_with(
                &record,
                ErrorCode::PoolUnready,
                "the task's time in the queue is over",
            ),
            Ending::Poison => self.close_with(
                &record,
                ErrorCode::WorkerReset,
                "the engine died twice before this task's first token",
            ),
            Ending::AttemptsExhausted => self.close_with(
                &record,
                ErrorCode::WorkerReset,
                "no engine took the task: each of 3 attempts was refused",
            ),
        }
        let (state, bytes) = {
            let stream = record.lock();
            (stream.progress.state.wire(), stream.log.bytes().len())
        };
        self.finished.push(Instant::now(), record.id, bytes + record.job.bytes());
        let engine = self.directory.engine_of(record.job.model);
        match ending {
            Ending::Dropped => self.telemetry.pushed_out(engine, "drop-lru"),
            Ending::Shed => self.telemetry.pushed_out(engine, "shed-low-priority"),
            Ending::Completed
            | Ending::Failed
            | Ending::Cancelled
            | Ending::NoReplica { .. }
            | Ending::Expired
            | Ending::Late
            | Ending::Poison
            | Ending::AttemptsExhausted => {}
        }
        self.telemetry.ended(&record, engine, state);
    }

    fn close_with(&self, record: &TaskRecord, code: ErrorCode, message: &str) {
        let mut error = envelope(code, message, &record.correlation_id);
        error.engine = self.directory.engine_of(record.job.model).map(str::to_owned);
        if code == ErrorCode::AdmissionReject {
            error.policy_label = Some("shed-low-priority".into());
        }
        let state = match code {
            ErrorCode::QueueFullDropLru | ErrorCode::AdmissionReject => TaskState::Dropped,
            ErrorCode::PoolUnready | ErrorCode::PoolUnavailable => TaskState::Expired,
            _ => TaskState::Failed,
        };
        close_failed(record, error, state);
    }

    /// Ends what the drain left over. Queued work is lost with the process: the journal is not here
    /// yet, and saying so beats a stream that just stops.
    pub(super) fn end_all(&mut self) {
        let open: Vec<_> = self.open.values().cloned().collect();
        for record in open {
            let message = "the server shuts down; submit the task again";
            let error = envelope(ErrorCode::ShuttingDown, message, &record.correlation_id);
            close_failed(&record, error, TaskState::Failed);
            self.apply(Event::CancelRequested { task: record.core_id });
        }
    }
}

/// Ends a stream with an `error` event; does nothing if it has ended.
pub(crate) fn close_failed(record: &TaskRecord, error: ErrorEnvelope, state: TaskState) -> bool {
    record.update(|stream| {
        stream.log.close("error", &error);
        stream.progress.state = State::Ended(state);
        stream.progress.error = Some(Box::new(error));
    })
}

fn close_cancelled(record: &TaskRecord) {
    record.update(|stream| close_with_end(stream, FinishReason::Cancelled, None));
}

/// Ends a stream with an `end` event.
pub(crate) fn close_with_end(stream: &mut Stream, reason: FinishReason, stop: Option<String>) {
    let progress = &mut stream.progress;
    progress.usage.tokens_out = stream.log.tokens();
    let end = End {
        tokens_in: progress.usage.tokens_in,
        tokens_out: progress.usage.tokens_out,
        queue_time_ms: progress.timings.queue_time_ms.unwrap_or(0),
        first_token_ms: progress.timings.first_token_ms,
        decode_time_ms: progress.timings.decode_time_ms,
        finish_reason: reason,
        stop,
    };
    let state = match reason {
        FinishReason::Stop | FinishReason::Length => TaskState::Completed,
        FinishReason::Cancelled => TaskState::Cancelled,
    };
    progress.state = State::Ended(state);
    progress.finish_reason = Some(reason);
    stream.log.close("end", &end);
}

fn class(record: &TaskRecord) -> Class {
    match record.job.priority() {
        api_types::Priority::Interactive => Class::Interactive,
        api_types::Priority::Batch => Class::Batch,
    }
}

/// The answer to an admission, as it stood when the task was admitted.
pub(crate) fn admission(record: &TaskRecord) -> Admission {
    let stream = record.lock();
    let progress = &stream.progress;
    let this = format!("/v1/tasks/{}", record.id);
    Admission {
        task_id: record.id,
        state: progress.state.wire(),
        queue_position: progress.queue_position,
        predicted_start_ms: progress.predicted_start_ms,
        predicted_start_p90_ms: progress.predicted_start_p90_ms,
        // One more turnover of the queue is good advice once something waits.
        backoff_ms: progress.predicted_start_ms.min(60_000),
        seed: record.job.seed,
        session_id: None,
        ephemeral: true,
        links: Links { stream: format!("{this}/stream"), cancel: format!("{this}/cancel"), this },
    }
}

/// How a rejection is worded and coded, and when to come back.
pub(crate) fn rejection(reason: RejectReason) -> (ErrorCode, String, Option<Micros>) {
    match reason {
        RejectReason::QueueFull { retry_after } => {
            (ErrorCode::AdmissionReject, "the queue is full".into(), Some(retry_after))
        }
        RejectReason::Unavailable => {
            let message =
                "no replica of the model can serve it now: its host is gone or it is broken";
            (ErrorCode::PoolUnavailable, message.into(), Some(Micros(5_000_000)))
        }
        RejectReason::Quota { retry_after, .. } => (
            ErrorCode::AdmissionReject,
            "a limit of the tenant is reached".into(),
            Some(retry_after),
        ),
        RejectReason::DeadlineUnmet { .. } => {
            (ErrorCode::ContextOverflow, "the deadline cannot be met".into(), None)
        }
        RejectReason::EngineMismatch | RejectReason::PoolMismatch => (
            ErrorCode::PoolUnavailable,
            "no replica of the model runs the engine that was asked for".into(),
            Some(Micros(5_000_000)),
        ),
        RejectReason::ContextOverflow { context_tokens } => {
            let message =
                format!("prompt and max_tokens exceed the context of {context_tokens} tokens");
            (ErrorCode::ContextOverflow, message, None)
        }
        RejectReason::DuplicateTask => {
            (ErrorCode::Internal, "the task was numbered twice".into(), None)
        }
    }
}
