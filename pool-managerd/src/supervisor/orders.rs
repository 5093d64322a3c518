//! What others want of a replica: its model loaded or unloaded, its devices gone or back.

use pool_api::ReplicaState;

use super::{CALM_POLL_MS, Effect, Failure, Millis, Supervisor, Wish};

impl Supervisor {
    /// Begins a load, or one after the unload that is under way.
    pub(super) fn load(&mut self, now: Millis) -> Vec<Effect> {
        if self.wish != Wish::Rest {
            return Vec::new();
        }
        self.wish = Wish::Run;
        match self.state {
            ReplicaState::Draining if self.patience.take().is_some() => self.back_to_service(now),
            ReplicaState::Unloaded => self.begin_load(now),
            // Its first check is under way, or its backoff: both go on to a load.
            ReplicaState::Starting
            | ReplicaState::Loading
            | ReplicaState::Probing
            | ReplicaState::Ready
            | ReplicaState::Draining
            | ReplicaState::Backoff
            | ReplicaState::Unready
            | ReplicaState::Stopped => {}
        }
        Vec::new()
    }

    pub(super) fn begin_load(&mut self, now: Millis) {
        self.state = ReplicaState::Starting;
        self.down_by = None;
        self.progress = (now, 0);
        self.due = Some(now);
    }

    fn back_to_service(&mut self, now: Millis) {
        self.wish = Wish::Run;
        self.state = ReplicaState::Ready;
        self.silences = 0;
        self.due = Some(now + CALM_POLL_MS);
    }

    pub(super) fn unload(&mut self, now: Millis, patience_ms: Millis) -> Vec<Effect> {
        if self.wish != Wish::Run || !self.policy.managed {
            return Vec::new();
        }
        self.wish = Wish::Rest;
        match self.state {
            ReplicaState::Ready => {
                self.state = ReplicaState::Draining;
                self.patience = Some(now + patience_ms);
                self.due = self.patience;
                vec![Effect::AwaitIdle]
            }
            ReplicaState::Starting | ReplicaState::Loading | ReplicaState::Probing => {
                if !self.alive {
                    self.rested();
                    return vec![Effect::Forget];
                }
                self.terminate(now)
            }
            ReplicaState::Backoff | ReplicaState::Unready if self.alive => {
                self.state = ReplicaState::Draining;
                Vec::new()
            }
            ReplicaState::Backoff | ReplicaState::Unready => self.rested(),
            ReplicaState::Unloaded | ReplicaState::Draining | ReplicaState::Stopped => Vec::new(),
        }
    }

    /// Nothing runs on an engine that is to rest.
    pub(super) fn idle(&mut self, now: Millis) -> Vec<Effect> {
        if self.wish != Wish::Rest || self.patience.take().is_none() {
            return Vec::new();
        }
        self.terminate(now)
    }

    fn terminate(&mut self, now: Millis) -> Vec<Effect> {
        self.state = ReplicaState::Draining;
        self.due = Some(now + self.policy.stop_grace_ms);
        vec![Effect::Terminate]
    }

    /// The engine is still busy, and was to rest only if it was not.
    pub(super) fn impatient(&mut self, now: Millis) -> Vec<Effect> {
        self.back_to_service(now);
        vec![Effect::Forget]
    }

    pub(super) fn rested(&mut self) -> Vec<Effect> {
        self.state = ReplicaState::Unloaded;
        self.due = None;
        Vec::new()
    }

    /// An engine on a device that has failed serves nobody, whatever it says.
    pub(super) fn devices_fail(&mut self, now: Millis, cause: String, random: u32) -> Vec<Effect> {
        if self.is_over() || !self.policy.managed {
            return Vec::new();
        }
        match self.state {
            ReplicaState::Starting
            | ReplicaState::Loading
            | ReplicaState::Probing
            | ReplicaState::Ready => self.fail(now, cause, Failure::Device, random),
            ReplicaState::Unloaded => {
                self.state = ReplicaState::Unready;
                self.last_error = Some(cause);
                self.due = Some(now + self.policy.restart.backoff_ms);
                Vec::new()
            }
            // What checks next finds out.
            ReplicaState::Draining
            | ReplicaState::Backoff
            | ReplicaState::Unready
            | ReplicaState::Stopped => Vec::new(),
        }
    }

    /// What waited for its devices need not wait any longer.
    pub(super) fn devices_work(&mut self, now: Millis) -> Vec<Effect> {
        let waits = self.state == ReplicaState::Unready && self.due.is_some();
        if waits && !self.alive && !self.is_given_up() {
            self.due = Some(now);
        }
        Vec::new()
    }
}
