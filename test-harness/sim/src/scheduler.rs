//! What decides: the real core, or a baseline behind the same interface.

use orchestrator_core::{Core, Effect, Event, Timestamp};

pub(crate) trait Scheduler {
    fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect>;

    fn next_wakeup(&self) -> Option<Timestamp> {
        None
    }

    /// Broken invariants.
    fn violations(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Scheduler for Core {
    fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        Self::apply(self, now, event)
    }

    fn next_wakeup(&self) -> Option<Timestamp> {
        Self::next_wakeup(self)
    }

    fn violations(&self) -> Vec<String> {
        Self::violations(self)
    }
}
