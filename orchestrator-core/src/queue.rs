//! The waiting tasks: one lane per model × class, ordered by arrival.
//!
//! Between the classes of a model stands a stride scheduler: each dispatch moves its class forward by
//! 1/weight, and the class that is furthest behind goes next. A class that was idle is lifted to the
//! others when it comes back, so that idling earns nothing.

use std::collections::BTreeMap;

use crate::types::{Class, Micros, ModelId, TaskId, Timestamp};

/// Divisible by every weight up to 16, so that small weights divide without remainder.
const STRIDE: u64 = 720_720;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    lanes: BTreeMap<(ModelId, Class), Lane>,
    /// Stride position of the model's last dispatch.
    clocks: BTreeMap<ModelId, u64>,
    len: usize,
}

#[derive(Debug, Default)]
struct Lane {
    /// Task ids ascend with submission, so their order is the order of arrival; a task that comes
    /// back takes its old place.
    waiting: BTreeMap<TaskId, Timestamp>,
    pass: u64,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn len_of_model(&self, model: ModelId) -> usize {
        Class::ALL.iter().map(|class| self.len_of_lane(model, *class)).sum()
    }

    pub(crate) fn len_of_lane(&self, model: ModelId, class: Class) -> usize {
        self.lanes.get(&(model, class)).map_or(0, |it| it.waiting.len())
    }

    pub(crate) fn push(&mut self, model: ModelId, class: Class, task: TaskId, admitted: Timestamp) {
        let lift = self.lift(model);
        let lane = self.lanes.entry((model, class)).or_default();
        if lane.waiting.is_empty() {
            lane.pass = lane.pass.max(lift);
        }
        let before = lane.waiting.insert(task, admitted);
        assert!(before.is_none(), "a task waits once");
        self.len += 1;
    }

    /// The stride position at which a class joins: that of the backlogged one furthest behind, or of
    /// the last dispatch if none waits.
    fn lift(&self, model: ModelId) -> u64 {
        let backlogged = Class::ALL
            .iter()
            .filter_map(|class| self.lanes.get(&(model, *class)))
            .filter(|lane| !lane.waiting.is_empty())
            .map(|lane| lane.pass)
            .min();
        backlogged.unwrap_or_else(|| self.clocks.get(&model).copied().unwrap_or(0))
    }

    pub(crate) fn remove(&mut self, model: ModelId, class: Class, task: TaskId) -> bool {
        let removed = self
            .lanes
            .get_mut(&(model, class))
            .is_some_and(|it| it.waiting.remove(&task).is_some());
        self.len -= usize::from(removed);
        removed
    }

    /// The task that is served next for `model`: the one most overdue beyond its class's
    /// `max_wait`, else the head of the class that is furthest behind its share.
    pub(crate) fn head(
        &self,
        model: ModelId,
        now: Timestamp,
        max_wait: impl Fn(Class) -> Micros,
    ) -> Option<(Class, TaskId)> {
        let heads = Class::ALL.iter().filter_map(|class| {
            let lane = self.lanes.get(&(model, *class))?;
            let (task, admitted) = lane.waiting.first_key_value()?;
            let due = admitted.after(max_wait(*class));
            Some((*class, *task, due, lane.pass))
        });
        // Overdue heads first, by how long they are due; the others by stride, ties to interactive.
        heads
            .min_by_key(|(class, _, due, pass)| {
                let overdue = *due <= now;
                (!overdue, if overdue { due.0 } else { *pass }, *class)
            })
            .map(|(class, task, ..)| (class, task))
    }

    /// Takes a task out for dispatch and charges its class.
    pub(crate) fn take(&mut self, model: ModelId, class: Class, task: TaskId, weight: u32) {
        let removed = self.remove(model, class, task);
        assert!(removed, "only a waiting task is dispatched");
        let lane = self.lanes.entry((model, class)).or_default();
        self.clocks.insert(model, lane.pass);
        lane.pass += STRIDE / u64::from(weight.max(1));
    }

    /// How many tasks of its lane go before `task`.
    pub(crate) fn rank(&self, model: ModelId, class: Class, task: TaskId) -> u64 {
        let ahead =
            self.lanes.get(&(model, class)).map_or(0, |it| it.waiting.range(..task).count());
        ahead as u64
    }

    pub(crate) fn oldest(&self, model: ModelId, class: Class) -> Option<(TaskId, Timestamp)> {
        let lane = self.lanes.get(&(model, class))?;
        lane.waiting.first_key_value().map(|(task, admitted)| (*task, *admitted))
    }

    pub(crate) fn newest(&self, model: ModelId, class: Class) -> Option<TaskId> {
        self.lanes.get(&(model, class))?.waiting.last_key_value().map(|(task, _)| *task)
    }

    /// Models with waiting tasks, ascending.
    pub(crate) fn models(&self) -> Vec<ModelId> {
        let mut models: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.waiting.is_empty())
            .map(|((model, _), _)| *model)
            .collect();
        models.dedup();
        models
    }

    /// Lanes with waiting tasks, and those tasks in their order.
    pub(crate) fn lanes(
        &self,
    ) -> impl Iterator<Item = (ModelId, Class, impl Iterator<Item = TaskId>)> {
        self.lanes
            .iter()
            .filter(|(_, lane)| !lane.waiting.is_empty())
            .map(|((model, class), lane)| (*model, *class, lane.waiting.keys().copied()))
    }
}
