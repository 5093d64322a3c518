//! What a replica's next supervisor goes on from, so that a new manager is no fresh start for what
//! fails.

use pool_api::ReplicaState;
use serde::{Deserialize, Serialize};

use super::{Failure, Millis, Supervisor};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    incarnation: u64,
    failures: u32,
    falls: u32,
    restarts: u64,
    down_by: Option<Failure>,
    last_error: Option<String>,
    /// Of one that is down: as what, and how long it still waits for its next try.
    down: Option<(ReplicaState, Millis)>,
}

impl Supervisor {
    pub(crate) fn standing(&self, now: Millis) -> Standing {
        let (failures, falls) = self.failures_at(now);
        let wait = self.due.map_or(0, |it| it.saturating_sub(now));
        Standing {
            incarnation: self.incarnation,
            failures,
            falls,
            restarts: self.restarts,
            down_by: self.down_by,
            last_error: self.last_error.clone(),
            down: self.is_down().then_some((self.state, wait)),
        }
    }

    /// Before anything else is told. What is down waits no longer than it would by the present policy.
    pub(crate) fn inherit(&mut self, standing: Standing) {
        self.incarnation = standing.incarnation;
        (self.failures, self.falls) = (standing.failures, standing.falls);
        self.restarts = standing.restarts;
        self.down_by = standing.down_by;
        self.last_error = standing.last_error;
        if let Some((state, wait)) = standing.down {
            let restart = self.policy.restart;
            self.state = state;
            self.due = Some(wait.min(restart.breaker_ms.max(restart.backoff_max_ms)));
        }
    }

    /// It waits for its next try; an engine that is still there is on its way out.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state, ReplicaState::Backoff | ReplicaState::Unready)
    }
}
