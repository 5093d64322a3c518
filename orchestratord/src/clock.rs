//! One clock for the scheduler, the journal and the records of tasks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orchestrator_core::{Micros, Timestamp};
use tokio::time::Instant;

/// Unix time that does not step while the process lives: read once, then counted on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    unix: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), unix }
    }

    /// Microseconds since 1970.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(micros(self.unix + self.started.elapsed()).0)
    }

    /// What is before the start of the process, is its start.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.started + Duration::from_micros(at.0).saturating_sub(self.unix)
    }
}

pub(crate) fn micros(span: Duration) -> Micros {
    Micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}
