//! From the queue to replicas, and out of the queue when that cannot happen.

use super::{Core, Phase, Replica, index};
use crate::event::{Availability, Effect, Ending, Run};
use crate::placement::{Candidate, place};
use crate::types::{Attempt, Class, ModelId, ReplicaId, TaskId, Timestamp};

impl Core {
    /// Hands waiting tasks of `model` to replicas until one of the two runs out.
    pub(super) fn dispatch(&mut self, model: ModelId, effects: &mut Vec<Effect>) {
        while let Some((class, task)) =
            self.queue.head(model, self.now, |it| self.policy(it).max_wait)
        {
            let spec = self.tasks[&task].spec;
            let candidates = self.replicas_of(model).map(|(replica, it)| Candidate {
                replica,
                status: it.status,
                busy: u32::try_from(it.held.len()).unwrap_or(u32::MAX),
                suspect: it.suspect_until.is_some_and(|until| self.now < until),
            });
            let Some(replica) = place(&spec, candidates) else { break };
            self.start(task, class, replica, effects);
        }
    }

    fn start(&mut self, task: TaskId, class: Class, replica: ReplicaId, effects: &mut Vec<Effect>) {
        let weight = self.policy(class).weight;
        let entry = self.tasks.get_mut(&task).expect("a queued task is known");
        entry.attempts += 1;
        let attempt = Attempt(entry.attempts);
        let run = Run { task, attempt, replica };
        entry.phase = Phase::Running { run, since: self.now };
        let model = entry.spec.model;
        self.queue.take(model, class, task, weight);
        self.models.entry(model).or_default().running[index(class)] += 1;
        let held = &mut self.replicas.get_mut(&replica).expect("placement names a replica").held;
        held.insert((task, attempt));
        effects.push(Effect::Dispatch(run));
    }

    pub(super) fn replicas_of(
        &self,
        model: ModelId,
    ) -> impl Iterator<Item = (ReplicaId, &Replica)> {
        let ids = self.models.get(&model).into_iter().flat_map(|it| &it.replicas);
        ids.filter_map(|id| self.replicas.get(id).map(|it| (*id, it)))
    }

    /// Ends tasks that have waited `unready_wait` without a Ready replica.
    pub(super) fn expire(&mut self, model: ModelId, effects: &mut Vec<Effect>) {
        let coming =
            self.replicas_of(model).any(|(_, it)| it.status.availability != Availability::Down);
        while self.next_expiry(model).is_some_and(|it| it <= self.now) {
            let Some((task, _)) = self.oldest_waiting(model) else { break };
            self.end_queued(task, Ending::NoReplica { coming }, effects);
        }
    }

    /// When the longest-waiting task of a model without a Ready replica has waited enough.
    pub(super) fn next_expiry(&self, model: ModelId) -> Option<Timestamp> {
        // A model that no replica ever served has no entry; its tasks were refused.
        let unready_since = self.models.get(&model)?.unready_since?;
        let (_, admitted) = self.oldest_waiting(model)?;
        Some(admitted.max(unready_since).after(self.config.unready_wait))
    }

    fn oldest_waiting(&self, model: ModelId) -> Option<(TaskId, Timestamp)> {
        Class::ALL.iter().filter_map(|it| self.queue.oldest(model, *it)).min_by_key(|it| it.1)
    }

    /// Takes a waiting task out of the queue for good.
    pub(super) fn end_queued(&mut self, task: TaskId, ending: Ending, effects: &mut Vec<Effect>) {
        let entry = self.tasks.remove(&task).expect("a queued task is known");
        let removed = self.queue.remove(entry.spec.model, entry.spec.class, task);
        assert!(removed, "a task that is not running waits");
        effects.push(Effect::Ended { task, ending });
    }
}
