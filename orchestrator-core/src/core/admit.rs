//! Submission: every check that needs no waiting, the full queue, and the place in it.

use super::{Core, FullPolicy, Phase, Task};
use crate::event::{Availability, Effect, Ending, RejectReason};
use crate::placement::fits;
use crate::predict;
use crate::types::{Class, ModelId, TaskId, TaskSpec};

/// All models together may queue this many times one model's capacity.
const TOTAL_CAPACITY_FACTOR: usize = 4;

impl Core {
    pub(super) fn submitted(&mut self, spec: TaskSpec, effects: &mut Vec<Effect>) {
        let task = spec.task;
        if let Err(reason) = self.check(&spec).and_then(|()| self.make_room(&spec, effects)) {
            effects.push(Effect::Rejected { task, reason });
            return;
        }
        self.last_task = Some(task);
        // Before the push: afterwards the task would count as its own backlog.
        let predicted = self.predict(&spec, self.queue.len_of_lane(spec.model, spec.class) as u64);
        self.queue.push(spec.model, spec.class, task, self.now);
        let admitted = self.now;
        self.tasks.insert(task, Task { spec, admitted, attempts: 0, phase: Phase::Queued });
        let position = self.queue.rank(spec.model, spec.class, task);
        effects.push(Effect::Admitted {
            task,
            position,
            predicted_start: predicted.map(|it| it.0),
            predicted_start_p90: predicted.map(|it| it.1),
        });
        self.dispatch(spec.model, effects);
    }

    fn check(&self, spec: &TaskSpec) -> Result<(), RejectReason> {
        if self.last_task.is_some_and(|it| spec.task <= it) {
            return Err(RejectReason::DuplicateTask);
        }
        let hopeful: Vec<_> = self
            .replicas_of(spec.model)
            .map(|(_, replica)| replica.status)
            .filter(|it| it.availability != Availability::Down)
            .collect();
        if hopeful.is_empty() {
            return Err(RejectReason::Unavailable);
        }
        if spec.engine.is_some_and(|engine| hopeful.iter().all(|it| it.engine != engine)) {
            return Err(RejectReason::EngineMismatch);
        }
        if hopeful.iter().all(|it| !fits(spec, it.context_tokens)) {
            let context_tokens = hopeful.iter().map(|it| it.context_tokens).max().unwrap_or(0);
            return Err(RejectReason::ContextOverflow { context_tokens });
        }
        Ok(())
    }

    /// Lets the newcomer in if there is room, or by pushing out whom the policy names.
    fn make_room(
        &mut self,
        spec: &TaskSpec,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RejectReason> {
        let capacity = self.config.queue_capacity as usize;
        let total_full = TOTAL_CAPACITY_FACTOR * capacity <= self.queue.len();
        if self.queue.len_of_model(spec.model) < capacity && !total_full {
            return Ok(());
        }
        let victim = match self.config.full_policy {
            FullPolicy::Reject => None,
            FullPolicy::DropLru => {
                self.oldest_of_lowest(spec.model).map(|it| (it, Ending::Dropped))
            }
            FullPolicy::ShedLowPriority if spec.class == Class::Interactive => {
                self.queue.newest(spec.model, Class::Batch).map(|it| (it, Ending::Shed))
            }
            FullPolicy::ShedLowPriority => None,
        };
        let Some((victim, ending)) = victim else {
            let lane = self.queue.len_of_lane(spec.model, spec.class) as u64;
            let retry_after =
                self.predict(spec, lane / 2).map_or(self.config.unready_wait, |it| it.0);
            return Err(RejectReason::QueueFull { retry_after });
        };
        self.end_queued(victim, ending, effects);
        Ok(())
    }

    fn oldest_of_lowest(&self, model: ModelId) -> Option<TaskId> {
        [Class::Batch, Class::Interactive]
            .iter()
            .find_map(|class| self.queue.oldest(model, *class))
            .map(|(task, _)| task)
    }

    /// Predicted start of a task with `ahead` tasks of its lane before it; `None` while nothing is
    /// Ready.
    pub(super) fn predict(
        &self,
        spec: &TaskSpec,
        ahead: u64,
    ) -> Option<(crate::types::Micros, crate::types::Micros)> {
        let model = self.models.get(&spec.model)?;
        let ready = || {
            self.replicas_of(spec.model)
                .map(|(_, it)| it)
                .filter(|it| it.status.availability == Availability::Ready)
        };
        let slots: u64 = ready().map(|it| u64::from(it.status.slots)).sum();
        let busy: usize = ready().map(|it| it.held.len()).sum();
        if slots == 0 {
            return None;
        }
        if ahead == 0 && (busy as u64) < slots {
            return Some(Default::default());
        }
        let waits = |class| class == spec.class || self.queue.len_of_lane(spec.model, class) > 0;
        let weights = Class::ALL.iter().filter(|it| waits(**it)).map(|it| self.policy(*it).weight);
        let backlog = predict::Backlog {
            ahead,
            slots,
            weight: u64::from(self.policy(spec.class).weight),
            weight_sum: weights.map(u64::from).sum(),
        };
        Some(predict::start(&model.occupancy, spec, backlog))
    }
}
