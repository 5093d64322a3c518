//! Waiting tasks' places, told to their readers.

use tokio::time::Instant;

use super::explain::reason;
use super::{Driver, POSITIONS_EVERY};

impl Driver {
    /// Publishes each waiting task's place where it changed. One pass over the queue, at most once a
    /// second, and none while nothing waits: an event per shifted position would cost more than the
    /// tokens.
    pub(super) fn refresh_positions(&mut self) {
        let standings: Vec<_> = self.core.standings().collect();
        for (task, standing) in &standings {
            let record = &self.open[task];
            let predicted_ms = self.milliseconds(standing.predicted_start);
            let reason = reason(standing.reason);
            record.update(|stream| stream.move_up(standing.position, predicted_ms, reason));
        }
        self.telemetry.queue(&self.core.lanes(), &self.directory);
        self.positions_due = (!standings.is_empty()).then(|| Instant::now() + POSITIONS_EVERY);
    }
}
