//! Submission, and what the effects of the core that begin something mean outside.

use std::sync::Arc;

use api_types::{ErrorCode, FinishReason, QueuedReason};
use orchestrator_core::{
    Class, Effect, Event, Micros, ReplicaId, Report, Run, TaskId, TaskSpec, Usage,
};
use pool_api::Order;
use tokio::time::Instant;

use super::endings::{admission, close_with_end, rejection};
use super::explain::reason;
use super::sessions::session_id;
use super::{Command, Driver, Submission, SubmitReply};
use crate::attempt::{self, Attempt};
use crate::clock::micros;
use crate::crash::{self, Point};
use crate::sessions::key_of;
use crate::task::{Caller, State, TaskRecord};

/// For an engine to become idle that nothing of ours runs on; then the plan is made anew.
const UNLOAD_PATIENCE_MS: u64 = 10_000;

/// Of a swap.
#[derive(Debug, Clone, Copy)]
enum Direction {
    In,
    Out,
}

impl Driver {
    pub(super) fn submit(&mut self, submission: Submission) -> SubmitReply {
        if let Some(known) = self.store.find(submission.tenant.id, submission.id) {
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
        let Submission { id, tenant, job, correlation_id } = submission;
        let caller = Caller {
            tenant,
            correlation_id,
            leavings: self.handle.leavings(),
            clock: self.clock,
            admitted: self.clock.now(),
            outbox: self.outbox.clone().filter(|_| !job.is_ephemeral()),
        };
        let record = Arc::new(TaskRecord::new(id, core_id, job, caller));
        self.admit(record)
    }

    fn admit(&mut self, record: Arc<TaskRecord>) -> SubmitReply {
        let task = record.core_id;
        if let Err(rejection) = self.check_turn(&record) {
            return SubmitReply::Rejected(rejection);
        }
        self.begin_anew(&record);
        self.open.insert(task, Arc::clone(&record));
        let spec = spec(&record);
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
            return SubmitReply::Rejected(rejection(reason));
        }
        // Last, so that what became of it at once is written with it.
        self.save_admitted(&record);
        let admission = admission(&record);
        let remaining = self.remaining(&record);
        SubmitReply::Admitted { record, admission, remaining }
    }

    fn admitted(&mut self, record: &Arc<TaskRecord>, position: u64, predicted: Option<Micros>) {
        let predicted_ms = self.milliseconds(predicted);
        // One that has started already does not wait for long.
        let standing = self.core.standing(record.core_id);
        let reason = standing.map_or(QueuedReason::WaitingForSlot, |it| reason(it.reason));
        let load = self.load_waited_for(record, reason);
        record.update(|stream| {
            stream.progress.queue_position = position;
            stream.progress.predicted_start_ms = predicted_ms;
            stream.move_up(position, predicted_ms, reason, load);
        });
        crash::here(Point::Admitted);
        self.store.insert(Arc::clone(record));
        self.begin_turn(record);
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
            Effect::Preempt(run) => {
                let record = &self.open[&run.task];
                record.stop_attempt(run.attempt.0);
                self.telemetry.preempted(self.engine_of(record));
            }
            Effect::Decided(decision) => {
                let record = &self.open[&decision.task];
                self.telemetry.decided(record, &decision);
                record.lock().progress.decided(*decision);
            }
            Effect::Load { replica } => self.order(replica, Direction::In),
            Effect::Unload { replica } => self.order(replica, Direction::Out),
            Effect::Ended { task, ending } => self.ended(task, ending),
            Effect::Admitted { .. } | Effect::Rejected { .. } => {
                unreachable!("only a submission is admitted or rejected")
            }
        }
    }

    /// Has a replica's manager load or unload it; an order that is not taken is the core's to give
    /// again.
    fn order(&mut self, replica: ReplicaId, direction: Direction) {
        let (commander, replica_id) = self.directory.commander(replica);
        tracing::info!(replica_id, direction = ?direction, "swap");
        let order = match direction {
            Direction::In => {
                self.loading.insert(replica);
                Order::Load { replica_id }
            }
            Direction::Out => Order::Unload { replica_id, patience_ms: UNLOAD_PATIENCE_MS },
        };
        let handle = self.handle.clone();
        self.tracker.spawn(async move {
            if let Err(error) = commander.give(order).await {
                tracing::warn!(%error, "a swap was not ordered");
                handle.send(Command::Core(Event::OrderFailed { replica })).await;
            }
        });
    }

    fn dispatch(&mut self, run: Run) {
        let record = Arc::clone(&self.open[&run.task]);
        if self.is_for_next_life(&record) {
            return;
        }
        crash::here(Point::Dispatched);
        let tokens = record.lock().log.tokens();
        let kept = u32::try_from(tokens).expect("max_tokens bounds it");
        if 0 < kept && !record.job.is_resumable() {
            self.cannot_go_on(&record, run);
            return;
        }
        if record.job.max_tokens <= kept {
            self.had_ended(&record, run);
            return;
        }
        let time_left = self.run_turn(&record, run);
        if time_left.is_some_and(|it| it.is_zero()) {
            self.has_no_time(&record, run);
            return;
        }
        let replica = self.directory.replica(run.replica).expect("the core knows live replicas");
        let first = run.attempt.0 == 1;
        let standing = self.core.saved_task(run.task).map(|it| it.standing);
        let queue_time = record.waited_ms();
        let preempted = record.lock().progress.state == State::Preempted;
        let mode = if preempted { "hard" } else { "failover" };
        record.update(|stream| {
            stream.enter(State::Running);
            // That was for an attempt before, which ended by itself.
            stream.stopping = false;
            stream.progress.standing = standing.unwrap_or_default();
            stream.progress.attempt = run.attempt.0;
            stream.progress.placement = Some(Arc::clone(&replica.placement));
            stream.progress.timings.queue_time_ms.get_or_insert(queue_time);
        });
        if 0 < kept {
            self.telemetry.resumed(mode, self.engine_of(&record));
        }
        let series = replica.series(&self.telemetry);
        self.telemetry.dispatched(&record, series, first.then_some(queue_time));
        let attempt = Attempt {
            run,
            record,
            replica,
            handle: self.handle.clone(),
            config: self.attempts.within(time_left),
            telemetry: Arc::clone(&self.telemetry),
            kept,
        };
        self.tracker.spawn(attempt::run(attempt));
    }

    fn engine_of(&self, record: &TaskRecord) -> &str {
        self.directory.engine_of(record.job.model).unwrap_or("unknown")
    }

    /// The engine was lost between the last token and the end that follows it.
    fn had_ended(&mut self, record: &Arc<TaskRecord>, run: Run) {
        record.update(|stream| close_with_end(stream, FinishReason::Length, None));
        let (report, usage) = (Report::Completed, Usage::default());
        self.apply(Event::Finished { run, report, usage, slot_free: true });
    }

    /// Its session's time was used up while it waited.
    fn has_no_time(&mut self, record: &Arc<TaskRecord>, run: Run) {
        let message = "the session's time budget was used up before this turn began";
        self.close_with(record, ErrorCode::DecodeTimeout, message);
        let (report, usage) = (Report::Failed, Usage::default());
        self.apply(Event::Finished { run, report, usage, slot_free: true });
    }

    /// The engine was lost under an answer that cannot be continued: token ids of the prompt cannot
    /// be followed by text.
    fn cannot_go_on(&mut self, record: &Arc<TaskRecord>, run: Run) {
        self.close_with(record, ErrorCode::WorkerReset, "the engine was lost in mid-stream");
        let (report, usage) = (Report::Failed, Usage::default());
        self.apply(Event::Finished { run, report, usage, slot_free: true });
    }
}

/// What the core needs to know of a task.
pub(super) fn spec(record: &TaskRecord) -> TaskSpec {
    let job = &record.job;
    TaskSpec {
        task: record.core_id,
        model: job.model,
        class: class(record),
        prompt_tokens: job.prompt_tokens,
        max_tokens: job.max_tokens,
        engine: job.engine,
        tenant: record.tenant.id,
        expected_tokens: job.canonical.expected_tokens,
        deadline: job.deadline.map(micros),
        ttl: job.ttl.map(micros),
        session: key_of(record).as_ref().map(session_id),
        resumable: job.is_resumable(),
        pools: job.pools.clone(),
    }
}

fn class(record: &TaskRecord) -> Class {
    match record.job.priority() {
        api_types::Priority::Interactive => Class::Interactive,
        api_types::Priority::Batch => Class::Batch,
    }
}
