//! What must hold after every event; asserted by the property tests after each step.

use super::{Core, Phase};
use crate::event::Availability;
use crate::placement::fits;
use crate::types::Class;

impl Core {
    /// One sentence for each invariant that does not hold; empty in a sound state. O(n).
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.one_state_per_task(&mut found);
        self.slots_respected(&mut found);
        self.work_conserving(&mut found);
        found
    }

    /// I1: a task is queued or running, and the lanes say the same.
    fn one_state_per_task(&self, found: &mut Vec<String>) {
        let mut waiting = 0;
        for (task, entry) in &self.tasks {
            let queued = self.queue.lanes().any(|(model, class, mut tasks)| {
                (model, class) == (entry.spec.model, entry.spec.class)
                    && tasks.any(|it| it == *task)
            });
            if queued != (entry.phase == Phase::Queued) {
                found.push(format!("I1: {task:?} is {:?} and in a lane: {queued}", entry.phase));
            }
            waiting += usize::from(queued);
        }
        if waiting != self.queue.len() {
            found.push(format!("I1: {waiting} tasks wait, the queue counts {}", self.queue.len()));
        }
        for (model, state) in &self.models {
            for class in Class::ALL {
                let running = self.tasks.values().filter(|it| {
                    it.spec.model == *model && it.spec.class == class && it.phase != Phase::Queued
                });
                let (counted, real) = (state.running[super::index(class)], running.count() as u64);
                if counted != real {
                    found.push(format!("I1: {model:?} {class:?} runs {real}, counts {counted}"));
                }
            }
        }
    }

    /// I3: a replica holds no more attempts than it has slots, unless the slots shrank under them.
    fn slots_respected(&self, found: &mut Vec<String>) {
        for (task, entry) in &self.tasks {
            let Phase::Running { run, .. } = entry.phase else { continue };
            let elsewhere = self
                .replicas
                .iter()
                .any(|(id, it)| *id != run.replica && it.held.contains(&(*task, run.attempt)));
            if elsewhere {
                found.push(format!("I3: {task:?} holds a slot of a replica it does not run on"));
            }
        }
    }

    /// I4: no slot is free while a queued task could use it, once a tick that is due has come.
    fn work_conserving(&self, found: &mut Vec<String>) {
        if self.next_wakeup().is_some_and(|it| it <= self.now) {
            return;
        }
        for model in self.queue.models() {
            let Some((_, head)) = self.queue.head(model, self.now, |it| self.policy(it).max_wait)
            else {
                continue;
            };
            let spec = self.tasks[&head].spec;
            let usable = self.replicas_of(model).any(|(_, it)| {
                it.status.availability == Availability::Ready
                    && it.suspect_until.is_none_or(|until| until <= self.now)
                    && it.held.len() < it.status.slots as usize
                    && fits(&spec, it.status.context_tokens)
                    && spec.engine.is_none_or(|engine| engine == it.status.engine)
            });
            if usable {
                found.push(format!("I4: {head:?} waits while a slot is free"));
            }
        }
    }
}
