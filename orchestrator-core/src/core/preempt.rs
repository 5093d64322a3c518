//! Stopping running batch work for interactive work that waits.

use super::{Core, Phase};
use crate::event::{Availability, Effect, Run};
use crate::placement::admits;
use crate::types::{Class, Micros, ModelId, PoolId, ReplicaId, TaskId, TenantId};

/// A task is stopped at most this often.
const PREEMPTIONS_MAX: u8 = 2;
const MINUTE: Micros = Micros(60_000_000);

impl Core {
    /// Stops as many batch tasks as interactive ones wait without a slot, within the limits.
    pub(super) fn preempt(&mut self, model: ModelId, effects: &mut Vec<Effect>) {
        if self.config.preemptions_per_min == 0 {
            return;
        }
        while let Some((victim, cause)) = self.victim(model) {
            self.preemptions.push(self.now);
            let task = self.task_mut(victim.task);
            task.preemptions += 1;
            task.stopped_for = Some(cause);
            if let Phase::Running { stopping, .. } = &mut task.phase {
                *stopping = true;
            }
            self.models.entry(model).or_default().stopping += 1;
            effects.push(Effect::Preempt(victim));
        }
    }

    /// Stops what a pool runs and can go on elsewhere: its drain has lasted long enough. Not counted
    /// against the task, for it is not the one to blame.
    pub(super) fn hand_back(&mut self, pool: PoolId, effects: &mut Vec<Effect>) {
        let of_pool = self.replicas.iter().filter(|(_, it)| it.status.pool == pool);
        let held: Vec<(ReplicaId, TaskId)> = of_pool
            .filter(|(_, it)| it.status.interruptible)
            .flat_map(|(id, it)| it.held.keys().map(move |(task, _)| (*id, *task)))
            .collect();
        for (replica, id) in held {
            let Some(task) = self.tasks.get_mut(&id).filter(|it| it.spec.resumable) else {
                continue;
            };
            let model = task.spec.model;
            let Phase::Running { run, stopping, .. } = &mut task.phase else { continue };
            if run.replica != replica || *stopping {
                continue;
            }
            *stopping = true;
            effects.push(Effect::Preempt(*run));
            self.models.entry(model).or_default().stopping += 1;
        }
    }

    /// The attempt that loses least, and the tenant of the task that is to run instead.
    fn victim(&mut self, id: ModelId) -> Option<(Run, TenantId)> {
        let model = self.models.get(&id)?;
        let waiting = self.queue.len_of_class(id, Class::Interactive) as u64;
        if waiting <= model.stopping || model.running[Class::Batch.index()] <= model.stopping {
            return None;
        }
        let now = self.now;
        self.preemptions.retain(|at| now < at.after(MINUTE));
        if self.config.preemptions_per_min as usize <= self.preemptions.len() {
            return None;
        }
        let next = self.queue.next(id, now, &self.config, |_, _, _| true)?;
        if next.place.class != Class::Interactive {
            return None;
        }
        let route = self.queue.route(next.place.route);
        let replicas = self.replicas_of(id).filter(|(_, it)| {
            it.status.interruptible
                && it.status.availability == Availability::Ready
                && it.fence.is_none()
                && it.reserved_for.is_none()
                && admits(route, &it.status).is_none()
        });
        let held = replicas.flat_map(|(id, it)| it.held.keys().map(move |it| (id, *it)));
        let (_, run) = held
            .filter_map(|(replica, (task, _))| self.loss(replica, task))
            .min_by_key(|(loss, run)| (*loss, std::cmp::Reverse(run.task)))?;
        Some((run, next.place.tenant))
    }

    /// Tokens that must be computed again when the task is stopped; `None`: it may not be.
    fn loss(&self, replica: ReplicaId, id: TaskId) -> Option<(u32, Run)> {
        let task = self.tasks.get(&id)?;
        let Phase::Running { run, stopping: false, .. } = task.phase else { return None };
        let (output, budget) = (task.output(), task.spec.max_tokens);
        let nearly_done = u64::from(budget.saturating_sub(output)) * 10 < u64::from(budget);
        let stoppable = task.spec.class == Class::Batch
            && task.spec.resumable
            && run.replica == replica
            && task.preemptions < PREEMPTIONS_MAX
            && !nearly_done;
        stoppable.then(|| (task.spec.prompt_tokens.saturating_add(output), run))
    }
}
