//! After a connection was closed early: when is the engine's slot really free?

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Attempt;

/// A streaming llama.cpp frees the slot 0.2 to 0.35 s after the close. While nothing was streamed it
/// looks for a dead peer only after 1 s without any other traffic, so later looks leave it that
/// quiet second.
const FIRST_LOOK: Duration = Duration::from_millis(350);
const LATER_LOOKS: Duration = Duration::from_millis(1_300);

impl Attempt {
    /// Returns when the engine runs no more sequences than we have attempts on it, or when it is
    /// gone, or after the release time-out: an engine that cannot say is given that time.
    pub(super) async fn confirm_release(&self) {
        let deadline = Instant::now() + self.config.release_timeout;
        let mut pause = FIRST_LOOK;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(
                    task_id = %self.record.id, replica_id = %self.replica.placement.replica_id,
                    "engine did not confirm a free slot in time"
                );
                return;
            }
            sleep(pause.min(left)).await;
            pause = LATER_LOOKS;
            // This attempt still holds its slot in the core's count, hence the strict comparison.
            match self.replica.adapter.load().await {
                Ok(load) if load.running < self.held_slots().await => return,
                Err(adapter_api::EngineError::Unreachable { .. }) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    async fn held_slots(&self) -> u32 {
        let busy = self.handle.busy_slots().await;
        let here = busy.iter().find(|(replica, _)| *replica == self.run.replica);
        here.map_or(0, |(_, busy)| *busy)
    }
}
