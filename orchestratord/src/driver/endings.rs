//! How tasks end, and how that is worded and coded.

use std::sync::Arc;

use api_types::{Admission, End, ErrorCode, ErrorEnvelope, FinishReason, Links, TaskState};
use orchestrator_core::{Ending, Event, Micros, QuotaKind, RejectReason, TaskId};
use tokio::time::Instant;

use super::Driver;
use crate::crash::{self, Point};
use crate::task::{State, Stream, TaskRecord};
use crate::wire::envelope;

impl Driver {
    /// Closes the stream, unless the attempt did, and lets go of the task.
    pub(super) fn ended(&mut self, task: TaskId, ending: Ending) {
        let record = self.open.remove(&task).expect("only an open task ends");
        crash::here(Point::Ended);
        match ending {
            Ending::Completed | Ending::Failed => {}
            Ending::Cancelled => {
                crash::here(Point::Cancelled);
                close_cancelled(&record);
            }
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
            Ending::Expired => self.close_with(
                &record,
                ErrorCode::Expired,
                "the task waited for as long as `ttl_ms` allows",
            ),
            Ending::Late => self.close_with(
                &record,
                ErrorCode::Expired,
                "the task waited for so long that it can no longer meet its deadline",
            ),
            Ending::Poison => self.close_with(
                &record,
                ErrorCode::WorkerReset,
                "the engine died twice before this task's first token",
            ),
            Ending::AttemptsExhausted => self.close_exhausted(&record),
        }
        let (state, bytes) = {
            let stream = record.lock();
            (stream.progress.state.wire(), stream.log.len())
        };
        let bytes = bytes + record.job.bytes();
        self.finished.push(Instant::now(), Arc::clone(&record), bytes);
        self.end_turn(&record);
        if let Some(artifacts) = &self.artifacts {
            artifacts.transcribe(&record);
        }
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

    /// With what the last engine had to say, if it said something.
    fn close_exhausted(&self, record: &Arc<TaskRecord>) {
        let lost_by = record.lock().progress.lost_by.take();
        let message = "each of 3 attempts was lost with its engine";
        match lost_by {
            None => self.close_with(record, ErrorCode::WorkerReset, message),
            Some(error) => {
                let message = format!("{message}; the last: {}", error.message);
                close_failed(record, ErrorEnvelope { message, ..*error }, TaskState::Failed);
            }
        }
    }

    pub(super) fn close_with(&self, record: &Arc<TaskRecord>, code: ErrorCode, message: &str) {
        let mut error = envelope(code, message, &record.correlation_id);
        error.engine = self.directory.engine_of(record.job.model).map(str::to_owned);
        if code == ErrorCode::AdmissionReject {
            error.policy_label = Some("shed-low-priority".into());
        }
        let state = match code {
            ErrorCode::QueueFullDropLru | ErrorCode::AdmissionReject => TaskState::Dropped,
            ErrorCode::PoolUnready | ErrorCode::PoolUnavailable | ErrorCode::Expired => {
                TaskState::Expired
            }
            _ => TaskState::Failed,
        };
        close_failed(record, error, state);
    }

    /// Ends what the drain left over and would be lost with the process; what the journal has stops
    /// here and goes on in the next life.
    pub(super) fn end_all(&mut self) {
        let open: Vec<_> = self.open.values().cloned().collect();
        for record in open {
            if !record.is_ephemeral() {
                record.suspend();
                continue;
            }
            let message = "the server shuts down; submit the task again";
            let error = envelope(ErrorCode::ShuttingDown, message, &record.correlation_id);
            close_failed(&record, error, TaskState::Failed);
            self.apply(Event::CancelRequested { task: record.core_id });
        }
    }
}

/// Ends a stream with an `error` event; does nothing if it has ended.
pub(crate) fn close_failed(
    record: &Arc<TaskRecord>,
    error: ErrorEnvelope,
    state: TaskState,
) -> bool {
    record.update(|stream| stream.fail(error, state))
}

fn close_cancelled(record: &Arc<TaskRecord>) {
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
        deadline_met: match reason {
            FinishReason::Stop | FinishReason::Length => {
                progress.deadline.map(|it| Instant::now() <= it)
            }
            FinishReason::Cancelled => None,
        },
    };
    let state = match reason {
        FinishReason::Stop | FinishReason::Length => TaskState::Completed,
        FinishReason::Cancelled => TaskState::Cancelled,
    };
    progress.finish_reason = Some(reason);
    stream.enter(State::Ended(state));
    stream.log.close("end", &end);
}

/// The answer to an admission, as it stood when the task was admitted.
pub(crate) fn admission(record: &TaskRecord) -> Admission {
    let stream = record.lock();
    let progress = &stream.progress;
    let this = format!("/v1/tasks/{}", record.id);
    Admission {
        task_id: record.id,
        state: stream.state(),
        queue_position: progress.queue_position,
        predicted_start_ms: progress.predicted_start_ms,
        predicted_start_p90_ms: progress.predicted_start_p90_ms,
        // One more turnover of the queue is good advice once something waits.
        backoff_ms: progress.predicted_start_ms.min(60_000),
        seed: record.job.seed,
        session_id: record.job.canonical.session_id.clone(),
        ephemeral: record.is_ephemeral(),
        links: Links { stream: format!("{this}/stream"), cancel: format!("{this}/cancel"), this },
    }
}

/// A refused submission as the caller is told.
pub(crate) struct Rejection {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// When to come back.
    pub(crate) retry_after: Option<Micros>,
    /// Which rule refused.
    pub(crate) policy: Option<&'static str>,
    /// The earliest end that is likely.
    pub(crate) earliest: Option<Micros>,
}

impl Rejection {
    pub(super) fn plain(code: ErrorCode, message: &str) -> Self {
        Self { code, message: message.into(), retry_after: None, policy: None, earliest: None }
    }
}

/// Advice where only somebody else's action helps.
const OUTAGE_RETRY: Micros = Micros(5_000_000);

/// How a rejection is worded and coded, and when to come back.
pub(super) fn rejection(reason: RejectReason) -> Rejection {
    let plain = Rejection::plain;
    let outage =
        |code, message| Rejection { retry_after: Some(OUTAGE_RETRY), ..plain(code, message) };
    match reason {
        RejectReason::QueueFull { retry_after } => Rejection {
            retry_after: Some(retry_after),
            policy: Some("reject"),
            ..plain(ErrorCode::AdmissionReject, "the queue is full")
        },
        RejectReason::Quota { kind, retry_after } => {
            let (policy, message) = quota(kind);
            Rejection {
                retry_after: Some(retry_after),
                policy: Some(policy),
                ..plain(ErrorCode::AdmissionReject, message)
            }
        }
        RejectReason::Unavailable => outage(
            ErrorCode::PoolUnavailable,
            "no replica of the model can serve it now: its host is gone or it is broken",
        ),
        RejectReason::EngineMismatch => outage(
            ErrorCode::PoolUnavailable,
            "no replica of the model runs the engine that was asked for",
        ),
        RejectReason::PoolMismatch => outage(
            ErrorCode::ReplicaExhausted,
            "no replica of the model is in a pool that `placement` allows",
        ),
        RejectReason::ContextOverflow { context_tokens } => {
            let message =
                format!("prompt and max_tokens exceed the context of {context_tokens} tokens");
            plain(ErrorCode::ContextOverflow, &message)
        }
        RejectReason::DeadlineUnmet { earliest } => {
            let ms = earliest.0.div_ceil(1_000);
            let message = format!("`deadline_ms` cannot be met: {ms} ms from now is the earliest");
            Rejection { earliest: Some(earliest), ..plain(ErrorCode::DeadlineUnmet, &message) }
        }
        RejectReason::DuplicateTask => plain(ErrorCode::Internal, "the task was numbered twice"),
    }
}

/// The label of a tenant's limit, and what is told.
fn quota(kind: QuotaKind) -> (&'static str, &'static str) {
    match kind {
        QuotaKind::Queued => ("quota-queued", "as many of the tenant's tasks wait as may"),
        QuotaKind::Concurrent => {
            ("quota-concurrent", "as many of the tenant's tasks are open as may run at once")
        }
        QuotaKind::Requests => ("rate", "the tenant submits faster than it may"),
        QuotaKind::Tokens => ("quota-tokens", "the tenant's tokens of this minute are used up"),
        QuotaKind::TokensOfTask => {
            ("quota-tokens", "prompt and max_tokens alone exceed the tenant's tokens of a minute")
        }
    }
}
