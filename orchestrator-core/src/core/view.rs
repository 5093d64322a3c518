//! Read-only questions that the shell asks on behalf of clients.

use super::{Core, Phase, index};
use crate::types::{Class, Micros, ModelId, ReplicaId, TaskId};

/// Where a waiting task stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Rank in its lane, 0 = next.
    pub position: u64,
    /// `None`: no replica of the model is ready.
    pub predicted_start: Option<Micros>,
    pub predicted_start_p90: Option<Micros>,
}

/// One class of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneView {
    pub model: ModelId,
    pub class: Class,
    pub queued: u64,
    pub running: u64,
    pub oldest_wait: Option<Micros>,
}

impl Core {
    /// `None` for a task that does not wait.
    #[must_use]
    pub fn standing(&self, task: TaskId) -> Option<Standing> {
        let entry = self.tasks.get(&task)?;
        let position = match entry.phase {
            Phase::Queued => self.queue.rank(entry.spec.model, entry.spec.class, task),
            Phase::Running { .. } => return None,
        };
        Some(self.standing_at(task, position))
    }

    /// Every waiting task with its standing, in one pass.
    pub fn standings(&self) -> impl Iterator<Item = (TaskId, Standing)> {
        self.queue.lanes().flat_map(move |(_, _, tasks)| {
            tasks.zip(0..).map(move |(task, position)| (task, self.standing_at(task, position)))
        })
    }

    fn standing_at(&self, task: TaskId, position: u64) -> Standing {
        let predicted = self.predict(&self.tasks[&task].spec, position);
        Standing {
            position,
            predicted_start: predicted.map(|it| it.0),
            predicted_start_p90: predicted.map(|it| it.1),
        }
    }

    /// Lanes with queued or running tasks, by model and class.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneView> {
        let lanes = self.models.iter().flat_map(|(model, state)| {
            Class::ALL.map(|class| LaneView {
                model: *model,
                class,
                queued: self.queue.len_of_lane(*model, class) as u64,
                running: state.running[index(class)],
                oldest_wait: self.queue.oldest(*model, class).map(|it| self.now.since(it.1)),
            })
        });
        lanes.filter(|it| it.queued + it.running > 0).collect()
    }

    /// Slots of a replica that run an attempt or are not yet confirmed free.
    #[must_use]
    pub fn busy_slots(&self, replica: ReplicaId) -> u32 {
        let held = self.replicas.get(&replica).map_or(0, |it| it.held.len());
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// How long a task may wait while no replica of its model is ready.
    #[must_use]
    pub fn unready_wait(&self) -> Micros {
        self.config.unready_wait
    }

    /// Tasks that wait for a slot.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queue.len() as u64
    }
}
