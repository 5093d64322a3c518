//! Metrics and the log line of each task: one declaration, one place that moves them.
//!
//! Label values come from configuration and our own enums, never from clients.

use adapter_api::Usage;
use api_types::{TaskPlacement, TaskState};
use orchestrator_core::{Class, LaneView, RejectReason};
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::attempt::Attempt;
use crate::fleet::Directory;
use crate::task::{TENANT, TaskRecord};

const FIRST_TOKEN_MS: [f64; 11] =
    [50., 100., 150., 200., 300., 500., 750., 1_000., 1_500., 2_000., 3_000.];
const DECODE_MS: [f64; 10] =
    [250., 500., 1_000., 1_500., 2_000., 3_000., 4_000., 6_000., 8_000., 12_000.];
const QUEUE_WAIT_MS: [f64; 9] = [1., 10., 50., 200., 1_000., 5_000., 15_000., 60_000., 300_000.];

pub(crate) struct Telemetry {
    registry: Registry,
    enqueued: IntCounterVec,
    started: IntCounterVec,
    canceled: IntCounterVec,
    rejected: IntCounterVec,
    finished: IntCounterVec,
    backpressure: IntCounterVec,
    tokens_in: IntCounterVec,
    tokens_out: IntCounterVec,
    queue_depth: IntGaugeVec,
    queue_wait: HistogramVec,
    first_token: HistogramVec,
    decode: HistogramVec,
    subscribers: IntGauge,
}

const REPLICA: [&str; 4] = ["engine", "engine_version", "pool_id", "replica_id"];

/// Name, help and labels of a counter or gauge.
type Declared = (&'static str, &'static str, &'static [&'static str]);

const BUILD_INFO: Declared = ("build_info", "Constant 1", &["version"]);
const ENQUEUED: Declared = ("tasks_enqueued_total", "Admitted tasks", &["engine", "priority"]);
const STARTED: Declared = (
    "tasks_started_total",
    "Attempts handed to a replica",
    &["engine", "engine_version", "pool_id", "replica_id", "priority"],
);
const CANCELED: Declared = ("tasks_canceled_total", "Cancelled tasks", &["engine", "reason"]);
const REJECTED: Declared = ("tasks_rejected_total", "Refused submissions", &["engine", "reason"]);
const FINISHED: Declared = ("tasks_finished_total", "Ended tasks", &["engine", "outcome"]);
const BACKPRESSURE: Declared = (
    "admission_backpressure_events_total",
    "Times a full queue refused or pushed out a task",
    &["engine", "policy"],
);
const TOKENS_IN: Declared = ("tokens_in_total", "Prompt tokens", &REPLICA);
const TOKENS_OUT: Declared = ("tokens_out_total", "Generated tokens", &REPLICA);
const QUEUE_DEPTH: Declared = ("queue_depth", "Waiting tasks", &["engine", "model_id", "priority"]);
const QUEUE_WAIT: Declared =
    ("queue_wait_ms", "From admission to dispatch or end", &["priority", "tenant", "outcome"]);
const LATENCY: [&str; 4] = ["engine", "engine_version", "pool_id", "priority"];
const FIRST_TOKEN: Declared =
    ("latency_first_token_ms", "From dispatch to the first token", &LATENCY);
const DECODE: Declared = ("latency_decode_ms", "From the first token to the last", &LATENCY);

impl Telemetry {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let build = gauges(&registry, BUILD_INFO);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let subscribers =
            IntGauge::new("stream_subscribers", "Open streams").expect("a valid name");
        register(&registry, &subscribers);
        Self {
            enqueued: counters(&registry, ENQUEUED),
            started: counters(&registry, STARTED),
            canceled: counters(&registry, CANCELED),
            rejected: counters(&registry, REJECTED),
            finished: counters(&registry, FINISHED),
            backpressure: counters(&registry, BACKPRESSURE),
            tokens_in: counters(&registry, TOKENS_IN),
            tokens_out: counters(&registry, TOKENS_OUT),
            queue_depth: gauges(&registry, QUEUE_DEPTH),
            queue_wait: histogram(&registry, QUEUE_WAIT, &QUEUE_WAIT_MS),
            first_token: histogram(&registry, FIRST_TOKEN, &FIRST_TOKEN_MS),
            decode: histogram(&registry, DECODE, &DECODE_MS),
            subscribers,
            registry,
        }
    }

    /// The exposition text (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let families = self.registry.gather();
        TextEncoder::new().encode(&families, &mut out).expect("a vector takes every byte");
        out
    }

    pub(crate) fn subscribers(&self) -> &IntGauge {
        &self.subscribers
    }

    pub(crate) fn tokens_out(&self, placement: &TaskPlacement) -> IntCounter {
        self.tokens_out.with_label_values(&replica_labels(placement))
    }

    pub(crate) fn enqueued(&self, record: &TaskRecord, engine: Option<&str>) {
        let labels = [engine.unwrap_or("unknown"), record.job.priority().as_str()];
        self.enqueued.with_label_values(&labels).inc();
    }

    pub(crate) fn dispatched(&self, record: &TaskRecord, placement: &TaskPlacement, wait_ms: u64) {
        let priority = record.job.priority().as_str();
        let [engine, version, pool, replica] = replica_labels(placement);
        self.started.with_label_values(&[engine, version, pool, replica, priority]).inc();
        self.observe_wait(record, wait_ms, "dispatched");
    }

    pub(crate) fn rejected(&self, record: &TaskRecord, engine: Option<&str>, reason: RejectReason) {
        let engine = engine.unwrap_or("unknown");
        let reason = match reason {
            RejectReason::QueueFull { .. } => {
                self.backpressure.with_label_values(&[engine, "reject"]).inc();
                "queue_full"
            }
            RejectReason::Unavailable => "unavailable",
            RejectReason::EngineMismatch => "engine_mismatch",
            RejectReason::ContextOverflow { .. } => "context_overflow",
            RejectReason::DuplicateTask => "duplicate",
        };
        self.rejected.with_label_values(&[engine, reason]).inc();
        tracing::info!(
            task_id = %record.id, correlation_id = %record.correlation_id, tenant = TENANT,
            model_id = %record.job.model_name, engine, outcome = "rejected", error_code = reason,
            "task rejected"
        );
    }

    /// A queued task was pushed out of a full queue.
    pub(crate) fn pushed_out(&self, engine: Option<&str>, policy: &str) {
        self.backpressure.with_label_values(&[engine.unwrap_or("unknown"), policy]).inc();
    }

    pub(crate) fn completed(&self, attempt: &Attempt, usage: Usage) {
        let placement = &attempt.replica.placement;
        let labels = replica_labels(placement);
        self.tokens_in.with_label_values(&labels).inc_by(u64::from(usage.prompt_tokens));
        let priority = attempt.record.job.priority().as_str();
        let latency = [labels[0], labels[1], labels[2], priority];
        let timings = attempt.record.lock().progress.timings;
        if let Some(ms) = timings.first_token_ms {
            self.first_token.with_label_values(&latency).observe(float(ms));
        }
        if let Some(ms) = timings.decode_time_ms {
            self.decode.with_label_values(&latency).observe(float(ms));
        }
    }

    /// The one log line of a task, and its outcome.
    pub(crate) fn ended(&self, record: &TaskRecord, engine: Option<&str>, state: TaskState) {
        let engine = engine.unwrap_or("unknown");
        let outcome = outcome(state);
        self.finished.with_label_values(&[engine, outcome]).inc();
        if state == TaskState::Cancelled {
            self.canceled.with_label_values(&[engine, "requested"]).inc();
        }
        let task = record.lock();
        let progress = &task.progress;
        if progress.timings.queue_time_ms.is_none() {
            let waited = crate::attempt::millis(record.admitted_at.elapsed());
            self.observe_wait(record, waited, outcome);
        }
        let placement = progress.placement.as_deref();
        tracing::info!(
            task_id = %record.id, correlation_id = %record.correlation_id, tenant = TENANT, engine,
            engine_version = placement.map(|it| it.engine_version.as_str()),
            pool_id = placement.map(|it| it.pool_id.as_str()),
            replica_id = placement.map(|it| it.replica_id.as_str()),
            model_id = %record.job.model_name,
            model_digest = placement.and_then(|it| it.model_digest.as_deref()),
            sampler_profile_version = api_types::SAMPLER_PROFILE, seed = record.job.seed,
            kv_warmth = false, priority = record.job.priority().as_str(),
            queue_position = progress.queue_position,
            predicted_start_ms = progress.predicted_start_ms,
            queue_time_ms = progress.timings.queue_time_ms,
            first_token_ms = progress.timings.first_token_ms,
            decode_time_ms = progress.timings.decode_time_ms,
            tokens_in = progress.usage.tokens_in, tokens_out = task.log.tokens(),
            attempt = progress.attempt, outcome,
            error_code = progress.error.as_ref().map(|it| it.code.as_str()),
            "task ended"
        );
    }

    /// Sets the depth of every lane; a lane that emptied is set to zero, not forgotten.
    pub(crate) fn queue(&self, lanes: &[LaneView], directory: &Directory) {
        self.queue_depth.reset();
        for lane in lanes {
            let engine = directory.engine_of(lane.model).unwrap_or("unknown");
            let priority = match lane.class {
                Class::Interactive => "interactive",
                Class::Batch => "batch",
            };
            let model = directory.model_name(lane.model);
            let gauge = self.queue_depth.with_label_values(&[engine, &model, priority]);
            gauge.set(i64::try_from(lane.queued).unwrap_or(i64::MAX));
        }
    }

    fn observe_wait(&self, record: &TaskRecord, wait_ms: u64, outcome: &str) {
        let labels = [record.job.priority().as_str(), TENANT, outcome];
        self.queue_wait.with_label_values(&labels).observe(float(wait_ms));
    }
}

fn replica_labels(placement: &TaskPlacement) -> [&str; 4] {
    [&placement.engine, &placement.engine_version, &placement.pool_id, &placement.replica_id]
}

fn outcome(state: TaskState) -> &'static str {
    match state {
        TaskState::Queued | TaskState::Running => "open",
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

fn counters(registry: &Registry, (name, help, labels): Declared) -> IntCounterVec {
    let vec = IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name");
    register(registry, &vec);
    vec
}

fn gauges(registry: &Registry, (name, help, labels): Declared) -> IntGaugeVec {
    let vec = IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid name");
    register(registry, &vec);
    vec
}

fn histogram(registry: &Registry, (name, help, labels): Declared, buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let vec = HistogramVec::new(options, labels).expect("a valid name");
    register(registry, &vec);
    vec
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: &C) {
    registry.register(Box::new(metric.clone())).expect("each name is declared once");
}
