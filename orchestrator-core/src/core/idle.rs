//! Models that nobody asks for leave on their own.

use super::Core;
use super::timers::Timer;
use crate::event::{Availability, Effect};
use crate::types::{ReplicaId, Timestamp};

/// Since when a replica has had nothing to do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Idle {
    since: Timestamp,
    /// A timer is set: it looks at `since` when it is due, so that there is one for each replica.
    watched: bool,
}

impl Core {
    /// The replica is ready, or has become idle.
    pub(super) fn watch_idle(&mut self, id: ReplicaId) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let Some(ttl) = replica.footprint.idle_ttl else { return };
        if replica.status.availability != Availability::Ready || !replica.held.is_empty() {
            return;
        }
        replica.idle.since = now;
        if !replica.idle.watched {
            replica.idle.watched = true;
            self.set_timer(now.after(ttl), Timer::Idle(id));
        }
    }

    pub(super) fn look_at_idle(&mut self, id: ReplicaId, effects: &mut Vec<Effect>) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        replica.idle.watched = false;
        let Some(ttl) = replica.footprint.idle_ttl else { return };
        let until = replica.idle.since.after(ttl);
        let ready = replica.status.availability == Availability::Ready;
        // One that works or is set aside becomes idle again, and is watched from then on.
        let idle = replica.held.is_empty() && replica.reserved_for.is_none();
        if !ready || !idle || replica.footprint.pinned || replica.swap.has_order() {
            return;
        }
        if self.now < until {
            replica.idle.watched = true;
            self.set_timer(until, Timer::Idle(id));
            return;
        }
        let model = replica.status.model;
        if self.oldest_waiting(model).is_none() {
            self.unload(id, effects);
        }
    }
}
