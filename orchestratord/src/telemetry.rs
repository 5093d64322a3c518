//! The log line of each task, and the metrics: declared in `metrics`, moved here and nowhere else.

mod latencies;
mod shares;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use adapter_api::Usage;
use api_types::{Priority, TaskPlacement, TaskState};
use http_shell::{Counters, Exposition, Gauges, Histograms, Ratios};
use metrics::orchestrator as family;
use orchestrator_core::{
    Choice, Class, DecisionRecord, LaneView, ModelId, QuotaKind, RejectReason,
};
use prometheus::{Histogram, IntCounter, IntGauge};

pub(crate) use latencies::{Latencies, slo};
use shares::Fading;

use crate::attempt::Attempt;
use crate::fleet::Directory;
use crate::task::TaskRecord;

pub(crate) struct Telemetry {
    exposition: Exposition,
    enqueued: Counters,
    started: Counters,
    canceled: Counters,
    rejected: Counters,
    finished: Counters,
    backpressure: Counters,
    tokens_in: Counters,
    tokens_out: Counters,
    queue_depth: Gauges,
    /// Series of `queue_depth` that were ever set.
    depths: Mutex<BTreeMap<(ModelId, Class), IntGauge>>,
    queue_wait: Histograms,
    first_token: Histograms,
    decode: Histograms,
    placements: Counters,
    /// Those of tasks that name no pools, found once: every task moves one.
    plain_placements: [OnceLock<IntCounter>; 7],
    preemptions: Counters,
    resumptions: Counters,
    swaps: Counters,
    share: Ratios,
    /// Tokens by tenant and class.
    served: Mutex<Fading<(Arc<str>, &'static str)>>,
    deadlines_met: Ratios,
    /// Deadlines by class and whether they were met.
    deadlines: Mutex<BTreeMap<&'static str, Fading<bool>>>,
    journal_commit: Histograms,
    sessions: IntGauge,
    session_evictions: Counters,
    budget_rejections: Counters,
    subscribers: IntGauge,
}

/// The series of one replica, found once: they move with every task and token.
pub(crate) struct ReplicaSeries {
    pub(crate) tokens_out: IntCounter,
    tokens_in: IntCounter,
    interactive: ClassSeries,
    batch: ClassSeries,
}

struct ClassSeries {
    started: IntCounter,
    first_token: Histogram,
    decode: Histogram,
}

impl ReplicaSeries {
    fn class(&self, priority: Priority) -> &ClassSeries {
        match priority {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        }
    }
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        let exposition = Exposition::default();
        exposition.gauges(&family::BUILD_INFO).with(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            enqueued: exposition.counters(&family::TASKS_ENQUEUED),
            started: exposition.counters(&family::TASKS_STARTED),
            canceled: exposition.counters(&family::TASKS_CANCELED),
            rejected: exposition.counters(&family::TASKS_REJECTED),
            finished: exposition.counters(&family::TASKS_FINISHED),
            backpressure: exposition.counters(&family::BACKPRESSURE),
            tokens_in: exposition.counters(&family::TOKENS_IN),
            tokens_out: exposition.counters(&family::TOKENS_OUT),
            queue_depth: exposition.gauges(&family::QUEUE_DEPTH),
            depths: Mutex::default(),
            queue_wait: exposition.histograms(&family::QUEUE_WAIT),
            first_token: exposition.histograms(&family::FIRST_TOKEN),
            decode: exposition.histograms(&family::DECODE),
            placements: exposition.counters(&family::PLACEMENTS),
            plain_placements: Default::default(),
            preemptions: exposition.counters(&family::PREEMPTIONS),
            resumptions: exposition.counters(&family::RESUMPTIONS),
            swaps: exposition.counters(&family::MODEL_SWAPS),
            share: exposition.ratios(&family::ADMISSION_SHARE),
            served: Mutex::default(),
            deadlines_met: exposition.ratios(&family::DEADLINES_MET),
            deadlines: Mutex::default(),
            journal_commit: exposition.histograms(&family::JOURNAL_COMMIT),
            sessions: exposition.gauges(&family::SESSIONS_ACTIVE).with(&[]),
            session_evictions: exposition.counters(&family::SESSION_EVICTIONS),
            budget_rejections: exposition.counters(&family::BUDGET_REJECTIONS),
            subscribers: exposition.gauges(&family::STREAM_SUBSCRIBERS).with(&[]),
            exposition,
        }
    }

    pub(crate) fn render(&self) -> Vec<u8> {
        // Shares are worked out when they are read: each ended task moves all of them.
        let served = self.served.lock().expect("no holder panics");
        for ((tenant, priority), share) in served.shares() {
            self.share.with(&[tenant, priority]).set(share);
        }
        drop(served);
        for (priority, met) in &*self.deadlines.lock().expect("no holder panics") {
            let share = met.shares().find(|it| *it.0).map_or(0.0, |it| it.1);
            self.deadlines_met.with(&[priority]).set(share);
        }
        self.exposition.render()
    }

    pub(crate) fn subscribers(&self) -> &IntGauge {
        &self.subscribers
    }

    pub(crate) fn replica(&self, placement: &TaskPlacement) -> ReplicaSeries {
        let (engine, version) = (&*placement.engine, &*placement.engine_version);
        let (pool, replica) = (&*placement.pool_id, &*placement.replica_id);
        let class = |priority: Priority| {
            let priority = priority.as_str();
            let latency = [engine, version, pool, priority];
            ClassSeries {
                started: self.started.with(&[engine, version, pool, replica, priority]),
                first_token: self.first_token.with(&latency),
                decode: self.decode.with(&latency),
            }
        };
        let labels = [engine, version, pool, replica];
        ReplicaSeries {
            tokens_out: self.tokens_out.with(&labels),
            tokens_in: self.tokens_in.with(&labels),
            interactive: class(Priority::Interactive),
            batch: class(Priority::Batch),
        }
    }

    pub(crate) fn enqueued(&self, record: &TaskRecord, engine: Option<&str>) {
        let labels = [engine.unwrap_or("unknown"), record.job.priority().as_str()];
        self.enqueued.with(&labels).inc();
    }

    /// `wait_ms` is that of a first attempt.
    pub(crate) fn dispatched(
        &self,
        record: &TaskRecord,
        series: &ReplicaSeries,
        wait_ms: Option<u64>,
    ) {
        series.class(record.job.priority()).started.inc();
        if let Some(wait_ms) = wait_ms {
            self.observe_wait(record, wait_ms, "dispatched");
        }
    }

    pub(crate) fn rejected(&self, record: &TaskRecord, engine: Option<&str>, reason: RejectReason) {
        let engine = engine.unwrap_or("unknown");
        let reason = match reason {
            RejectReason::QueueFull { .. } => {
                self.backpressure.with(&[engine, "reject"]).inc();
                "queue_full"
            }
            RejectReason::Unavailable => "unavailable",
            RejectReason::Quota { kind: QuotaKind::Requests, .. } => "rate",
            RejectReason::Quota { .. } => "quota",
            RejectReason::DeadlineUnmet { .. } => "deadline",
            RejectReason::PoolMismatch => "pool_mismatch",
            RejectReason::EngineMismatch => "engine_mismatch",
            RejectReason::ContextOverflow { .. } => "context_overflow",
            RejectReason::DuplicateTask => "duplicate",
        };
        self.refused(record, Some(engine), reason);
    }

    /// A turn does not fit the budget of its session.
    pub(crate) fn over_budget(&self, record: &TaskRecord, engine: Option<&str>, kind: &str) {
        self.budget_rejections.with(&[kind]).inc();
        self.refused(record, engine, "budget");
    }

    pub(crate) fn refused(&self, record: &TaskRecord, engine: Option<&str>, reason: &str) {
        let engine = engine.unwrap_or("unknown");
        self.rejected.with(&[engine, reason]).inc();
        tracing::info!(
            task_id = %record.id, correlation_id = %record.correlation_id,
            tenant = %record.tenant.name, model_id = %record.job.model_name, engine, outcome = "rejected", error_code = reason,
            "task rejected"
        );
    }

    pub(crate) fn decided(&self, record: &TaskRecord, decision: &DecisionRecord) {
        let (index, outcome) = match decision.choice {
            Choice::Only => (0, "only"),
            Choice::Preferred => (1, "preferred"),
            Choice::Warm => (2, "warm"),
            Choice::Fastest => (3, "fastest"),
            Choice::LeastLoaded => (4, "least_loaded"),
            Choice::Topology => (5, "topology"),
            Choice::Order => (6, "order"),
        };
        let Some(pools) = record.job.pools.as_deref() else {
            let find = || self.placements.with(&[outcome, "no", "no"]);
            self.plain_placements[index].get_or_init(find).inc();
            return;
        };
        let (pinned, wished) = (!pools.pin.is_empty(), !pools.prefer.is_empty());
        let fallback = wished && decision.choice != Choice::Preferred && !decision.preferred;
        self.placements.with(&[outcome, yes_or_no(pinned), yes_or_no(fallback)]).inc();
    }

    /// A running task must make way.
    pub(crate) fn preempted(&self, engine: &str) {
        self.preemptions.with(&["hard", engine]).inc();
    }

    /// An answer goes on in a further attempt.
    pub(crate) fn resumed(&self, mode: &str, engine: &str) {
        self.resumptions.with(&[mode, engine]).inc();
    }

    /// A load of ours has ended.
    pub(crate) fn swapped(&self, model: &str, outcome: &str) {
        self.swaps.with(&[model, outcome]).inc();
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn session_evicted(&self, reason: &str) {
        self.session_evictions.with(&[reason]).inc();
    }

    /// One commit of the journal.
    pub(crate) fn committed(&self, took: Duration) {
        self.journal_commit.with(&[]).observe(took.as_secs_f64() * 1_000.0);
    }

    /// A queued task was pushed out of a full queue.
    pub(crate) fn pushed_out(&self, engine: Option<&str>, policy: &str) {
        self.backpressure.with(&[engine.unwrap_or("unknown"), policy]).inc();
    }

    pub(crate) fn completed(attempt: &Attempt, usage: Usage) {
        let series = attempt.series();
        series.tokens_in.inc_by(u64::from(usage.prompt_tokens));
        let class = series.class(attempt.record.job.priority());
        let (timings, tokens) = {
            let task = attempt.record.lock();
            (task.progress.timings, task.log.tokens())
        };
        if let Some(first_token_ms) = timings.first_token_ms {
            let (priority, decode_ms) = (attempt.record.job.priority(), timings.decode_time_ms);
            let latencies = &attempt.replica.latencies;
            latencies.observe(priority, first_token_ms, decode_ms.unwrap_or(0), tokens);
        }
        if let Some(ms) = timings.first_token_ms {
            class.first_token.observe(float(ms));
        }
        if let Some(ms) = timings.decode_time_ms {
            class.decode.observe(float(ms));
        }
    }

    /// The one log line of a task, and its outcome.
    pub(crate) fn ended(&self, record: &TaskRecord, engine: Option<&str>, state: TaskState) {
        let engine = engine.unwrap_or("unknown");
        let outcome = outcome(state);
        self.finished.with(&[engine, outcome]).inc();
        if state == TaskState::Cancelled {
            self.canceled.with(&[engine, "requested"]).inc();
        }
        let task = record.lock();
        let progress = &task.progress;
        let tokens = progress.usage.tokens_in + task.log.tokens();
        if 0 < tokens {
            let whose = (Arc::clone(&record.tenant.name), record.job.priority().as_str());
            self.served.lock().expect("no holder panics").add(&whose, float(tokens));
        }
        if progress.deadline.is_some() && state != TaskState::Cancelled {
            let met = state == TaskState::Completed
                && progress.deadline.is_some_and(|it| tokio::time::Instant::now() <= it);
            let mut deadlines = self.deadlines.lock().expect("no holder panics");
            deadlines.entry(record.job.priority().as_str()).or_default().add(&met, 1.0);
        }
        if progress.timings.queue_time_ms.is_none() {
            let waited = record.waited_ms();
            self.observe_wait(record, waited, outcome);
        }
        let placement = progress.placement.as_deref();
        tracing::info!(
            task_id = %record.id, correlation_id = %record.correlation_id,
            tenant = %record.tenant.name, session_id = record.job.canonical.session_id.as_deref(), engine,
            engine_version = placement.map(|it| it.engine_version.as_str()),
            pool_id = placement.map(|it| it.pool_id.as_str()),
            replica_id = placement.map(|it| it.replica_id.as_str()),
            model_id = %record.job.model_name,
            model_digest = placement.and_then(|it| it.model_digest.as_deref()),
            sampler_profile_version = record.job.canonical.sampler_profile_version.as_deref(), seed = record.job.seed,
            kv_warmth = progress.kv_warmth(), priority = record.job.priority().as_str(),
            queue_position = progress.queue_position,
            predicted_start_ms = progress.predicted_start_ms,
            queue_time_ms = progress.timings.queue_time_ms,
            first_token_ms = progress.timings.first_token_ms,
            decode_time_ms = progress.timings.decode_time_ms,
            tokens_in = progress.usage.tokens_in, tokens_out = task.log.tokens(),
            attempt = progress.attempt, preempted = (0 < progress.preemptions).then_some(progress.preemptions),
            deadline_ms = record.job.canonical.deadline_ms,
            decision = progress.decisions.last().map(|it| tracing::field::debug(it.choice)), outcome,
            error_code = progress.error.as_ref().map(|it| it.code.as_str()),
            "task ended"
        );
    }

    /// Sets the depth of every lane; one that emptied is set to zero, not forgotten.
    pub(crate) fn queue(&self, lanes: &[LaneView], directory: &Directory) {
        let mut depths = self.depths.lock().expect("no holder panics");
        depths.values().for_each(|it| it.set(0));
        for lane in lanes {
            let depth = depths.entry((lane.model, lane.class)).or_insert_with(|| {
                let engine = directory.engine_of(lane.model).unwrap_or("unknown");
                let priority = match lane.class {
                    Class::Interactive => "interactive",
                    Class::Batch => "batch",
                };
                self.queue_depth.with(&[engine, &directory.model_name(lane.model), priority])
            });
            // Added, because lanes past the label's budget share a series.
            depth.add(i64::try_from(lane.queued).unwrap_or(i64::MAX));
        }
    }

    fn observe_wait(&self, record: &TaskRecord, wait_ms: u64, outcome: &str) {
        let labels = [record.job.priority().as_str(), &*record.tenant.name, outcome];
        self.queue_wait.with(&labels).observe(float(wait_ms));
    }
}

fn yes_or_no(it: bool) -> &'static str {
    if it { "yes" } else { "no" }
}

fn outcome(state: TaskState) -> &'static str {
    match state {
        TaskState::Queued | TaskState::Running | TaskState::Preempted => "open",
        TaskState::Completed => "completed",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
        TaskState::Expired => "expired",
        TaskState::Dropped => "dropped",
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds stay far below 2^52")]
fn float(ms: u64) -> f64 {
    ms as f64
}
