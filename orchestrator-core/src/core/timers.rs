//! What becomes due by the clock alone.

use super::Core;
use crate::event::{Availability, Effect, Ending};
use crate::types::{Micros, ModelId, ReplicaId, TaskId, TenantId, Timestamp};

/// What to look at. A timer may come too early or for nothing; it looks, and sets the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A waiting task may have run out of time.
    Task(TaskId),
    /// A model without a ready replica may have tasks that waited enough.
    Unready(ModelId),
    /// A replica that refused a request may be tried again.
    Suspect(ReplicaId),
    /// A tenant may have tokens again.
    Tenant(TenantId),
    /// A swap may be possible or due.
    Swap,
    /// A replica may have been idle for long enough to go.
    Idle(ReplicaId),
}

/// How often a task whose time seems to be up is looked at.
const LOOK_EVERY: u64 = 100_000;

impl Core {
    pub(super) fn on_time(&mut self, effects: &mut Vec<Effect>) {
        while let Some((at, timer)) = self.timers.first().copied() {
            if self.now < at {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Task(task) => self.look_at_waiting(task, effects),
                Timer::Unready(model) => self.expire_unready(model, effects),
                Timer::Suspect(replica) => self.try_again(replica, effects),
                Timer::Tenant(tenant) => {
                    if let Some(it) = self.tenants.get_mut(&tenant) {
                        it.held_until = it.held_until.filter(|until| self.now < *until);
                    }
                    self.refresh_hold(tenant, effects);
                }
                Timer::Swap => {}
                Timer::Idle(replica) => self.look_at_idle(replica, effects),
            }
        }
    }

    pub(super) fn set_timer(&mut self, at: Timestamp, timer: Timer) {
        // A timer for this very moment would be looked at again and again.
        self.timers.insert((at.max(self.now.after(Micros(1))), timer));
    }

    /// Sets the timer of a task that waits with a limit.
    pub(super) fn watch(&mut self, task: TaskId) {
        let Some(at) = self.gives_up_at(task) else { return };
        let at = at.max(self.now.after(Micros(1)));
        self.task_mut(task).look_at = Some(at);
        self.timers.insert((at, Timer::Task(task)));
    }

    /// The task starts or ends: its timer goes.
    pub(super) fn unwatch(&mut self, task: TaskId) {
        if let Some(at) = self.task_mut(task).look_at.take() {
            self.timers.remove(&(at, Timer::Task(task)));
        }
    }

    fn look_at_waiting(&mut self, task: TaskId, effects: &mut Vec<Effect>) {
        self.task_mut(task).look_at = None;
        match self.out_of_time(task) {
            Some(ending) => {
                let model = self.task(task).spec.model;
                self.end_waiting(task, ending, effects);
                self.dispatch(model, effects);
            }
            None => self.watch(task),
        }
    }

    /// When a waiting task's time to live ends, or its deadline cannot be met any more.
    fn gives_up_at(&self, id: TaskId) -> Option<Timestamp> {
        let task = self.task(id);
        if task.has_begun() {
            return None;
        }
        let ttl = task.spec.ttl.map(|it| task.admitted.after(it));
        let deadline = task.spec.deadline.map(|it| {
            let end = task.admitted.after(it);
            let slack = end.since(self.now).0.saturating_sub(self.least_service(id).0);
            // What is known of the model changes, so that it may still have a chance then.
            self.now.after(Micros(slack.max(LOOK_EVERY)))
        });
        ttl.into_iter().chain(deadline).min()
    }

    pub(super) fn out_of_time(&self, id: TaskId) -> Option<Ending> {
        let task = self.task(id);
        if task.has_begun() {
            return None;
        }
        if task.spec.ttl.is_some_and(|it| task.admitted.after(it) <= self.now) {
            return Some(Ending::Expired);
        }
        let left = task.spec.deadline?.0.checked_sub(self.now.since(task.admitted).0);
        let hopeless = left.is_none_or(|it| self.is_hopeless(id, Micros(it)));
        hopeless.then_some(Ending::Late)
    }

    fn is_hopeless(&self, id: TaskId, left: Micros) -> bool {
        let spec = &self.task(id).spec;
        let floor = u64::from(self.config.on_time_percent_min) * 10;
        let known = self.models.get(&spec.model);
        known.is_some_and(|it| it.experience.on_time_permille(spec, left) < floor.max(1))
    }

    /// The shortest service that is likely enough to hope for.
    fn least_service(&self, id: TaskId) -> Micros {
        let spec = &self.task(id).spec;
        let Some(model) = self.models.get(&spec.model) else { return Micros(0) };
        model.experience.service(spec, spec.expected_tokens.unwrap_or(1).min(spec.max_tokens))
    }

    /// Whether a task that no replica takes has waited for as long as it may.
    pub(super) fn has_waited_enough(&self, id: TaskId) -> bool {
        let task = self.task(id);
        self.unready_limit(task.spec.model, task.admitted).is_some_and(|at| at <= self.now)
    }

    /// When a task that was admitted then has waited enough for a Ready replica; `None`: there is one.
    fn unready_limit(&self, model: ModelId, admitted: Timestamp) -> Option<Timestamp> {
        // A model that no replica ever served has no entry; its tasks were refused.
        let since = admitted.max(self.models.get(&model)?.unready_since?);
        let loadable = self.replicas_of(model).any(|(_, it)| !it.footprint.memory_bytes.is_empty());
        // What is loaded on demand first waits for its right of way.
        let patience = if loadable { self.config.swap.max_wait } else { Micros(0) };
        Some(since.after(patience).after(self.config.unready_wait))
    }

    fn expire_unready(&mut self, model: ModelId, effects: &mut Vec<Effect>) {
        if self.is_tried(model) {
            self.set_timer(self.now.after(Micros(LOOK_EVERY)), Timer::Unready(model));
            return;
        }
        let coming = self.is_hopeful(model);
        while let Some((task, at)) = self.next_unready(model) {
            if self.now < at {
                self.set_timer(at, Timer::Unready(model));
                break;
            }
            self.end_waiting(task, Ending::NoReplica { coming }, effects);
        }
    }

    /// Whether a replica that refused has a request again, and has not said yet whether it takes it.
    fn is_tried(&self, model: ModelId) -> bool {
        self.replicas_of(model).any(|(_, it)| {
            it.refusals != 0 && it.busy() != 0 && it.status.availability == Availability::Ready
        })
    }

    /// The longest-waiting task of a model without a Ready replica, and when it has waited enough.
    pub(super) fn next_unready(&self, model: ModelId) -> Option<(TaskId, Timestamp)> {
        let state = self.models.get(&model)?;
        let oldest = self.oldest_waiting(model).into_iter().chain(state.isolated.first().copied());
        let task = oldest.min()?;
        Some((task, self.unready_limit(model, self.task(task).admitted)?))
    }
}
