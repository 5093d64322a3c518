//! Waiting tasks' places, told to their readers.

use std::time::Duration;

use api_types::{Metrics, QueuedReason};
use orchestrator_core::TaskId;
use tokio::time::Instant;

use super::explain::reason;
use super::{Driver, POSITIONS_EVERY};
use crate::task::TaskRecord;

/// How often a running task's `metrics` are published, at most.
const METRICS_EVERY: Duration = Duration::from_secs(5);

impl Driver {
    /// Publishes how a running task fares, if anybody reads it.
    pub(super) fn tell_metrics(&self, task: TaskId) {
        let Some(record) = self.open.get(&task).filter(|_| self.sse_metrics) else { return };
        let now = Instant::now();
        {
            let stream = record.lock();
            let recent = stream.metrics_at().is_some_and(|it| now < it + METRICS_EVERY);
            if stream.readers == 0 || recent {
                return;
            }
        }
        let on_time = self.core.on_time_permille(task);
        let remaining = self.remaining(record);
        let queue_depth = self.core.queued_for(record.job.model);
        record.update(|stream| {
            let metrics = Metrics {
                on_time_probability: on_time.map(probability),
                queue_depth,
                kv_warmth: stream.progress.kv_warmth(),
                tokens_budget_remaining: remaining.tokens,
                time_budget_remaining_ms: remaining.time_ms,
                cost_budget_remaining: remaining.cost,
            };
            stream.publish_metrics(&metrics);
        });
    }

    /// Publishes each waiting task's place where it changed. One pass over the queue, at most once a
    /// second, and none while nothing waits: an event per shifted position would cost more than the
    /// tokens.
    pub(super) fn refresh_positions(&mut self) {
        let standings: Vec<_> = self.core.standings().collect();
        for (task, standing) in &standings {
            let record = &self.open[task];
            let predicted_ms = self.milliseconds(standing.predicted_start);
            let reason = reason(standing.reason);
            let load = self.load_waited_for(record, reason);
            record.update(|stream| stream.move_up(standing.position, predicted_ms, reason, load));
        }
        self.telemetry.queue(&self.core.lanes(), &self.directory);
        self.positions_due = (!standings.is_empty()).then(|| Instant::now() + POSITIONS_EVERY);
    }

    /// How far the load has come, in thousandths, that a task waits for.
    pub(super) fn load_waited_for(&self, record: &TaskRecord, why: QueuedReason) -> Option<u32> {
        let loading = why == QueuedReason::LoadingModel;
        loading.then(|| self.directory.load_progress(record.job.model)).flatten()
    }
}

/// Of a thousandth.
fn probability(permille: u64) -> f64 {
    f64::from(u32::try_from(permille).unwrap_or(u32::MAX)) / 1_000.0
}
