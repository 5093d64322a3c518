//! The state machine: what is known of tasks and replicas, and the rules that move them.

mod admit;
mod dispatch;
mod invariants;
mod release;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Effect, Event, ReplicaStatus, Run};
use crate::predict::Occupancy;
use crate::queue::Queue;
use crate::types::{Attempt, Class, Micros, ModelId, ReplicaId, TaskId, TaskSpec, Timestamp};

pub use view::{LaneView, Standing};

/// Sends of one task before it fails, and the pause for a replica that did not take it.
const ATTEMPTS_MAX: u32 = 3;
const SUSPECT_FOR: Micros = Micros(1_000_000);

#[derive(Debug, Clone, Copy)]
pub struct CoreConfig {
    /// Queued tasks per model; all models together may queue four times as many.
    pub queue_capacity: u32,
    pub full_policy: FullPolicy,
    /// How long a task may wait while no replica of its model is ready.
    pub unready_wait: Micros,
    pub interactive: ClassPolicy,
    pub batch: ClassPolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullPolicy {
    /// The newcomer is refused.
    Reject,
    /// The oldest queued task of the lowest class goes.
    DropLru,
    /// The newest queued batch task goes, if the newcomer is interactive.
    ShedLowPriority,
}

#[derive(Debug, Clone, Copy)]
pub struct ClassPolicy {
    /// Share of dispatches while both classes wait, at least 1.
    pub weight: u32,
    /// After this wait a task is served next.
    pub max_wait: Micros,
}

/// Owned by one task of the shell; see the crate's documentation.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    now: Timestamp,
    /// Every task that is queued or running; ended ones are forgotten.
    tasks: BTreeMap<TaskId, Task>,
    queue: Queue,
    replicas: BTreeMap<ReplicaId, Replica>,
    models: BTreeMap<ModelId, Model>,
    /// The largest id submitted so far; ids ascend.
    last_task: Option<TaskId>,
}

#[derive(Debug)]
struct Task {
    spec: TaskSpec,
    admitted: Timestamp,
    attempts: u32,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Running { run: Run, since: Timestamp },
}

#[derive(Debug)]
struct Replica {
    status: ReplicaStatus,
    /// Attempts that occupy a slot: running, or cancelled and not yet confirmed gone.
    held: BTreeSet<(TaskId, Attempt)>,
    /// Refused a request a moment ago and is spared until then. A tick clears it, so that the tick is
    /// asked for until it came.
    suspect_until: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Model {
    replicas: BTreeSet<ReplicaId>,
    occupancy: Occupancy,
    running: [u64; 2],
    /// Since when no replica is Ready; `None` while one is.
    unready_since: Option<Timestamp>,
}

impl Core {
    #[must_use]
    pub fn new(config: CoreConfig) -> Self {
        Self {
            config,
            now: Timestamp::default(),
            tasks: BTreeMap::new(),
            queue: Queue::default(),
            replicas: BTreeMap::new(),
            models: BTreeMap::new(),
            last_task: None,
        }
    }

    /// Takes one event and returns what must be done, in order.
    ///
    /// `now` that lies before an earlier one counts as that earlier one.
    pub fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut effects = Vec::new();
        match event {
            Event::Submitted(spec) => self.submitted(spec, &mut effects),
            Event::CancelRequested { task } => self.cancel_requested(task, &mut effects),
            Event::Finished { run, report, slot_free } => {
                self.finished(run, report, slot_free, &mut effects);
            }
            Event::SlotConfirmedFree(run) => self.slot_free(run, &mut effects),
            Event::ReplicaChanged { replica, status } => {
                self.replica_changed(replica, status, &mut effects);
            }
            Event::ReplicaRemoved { replica } => self.replica_removed(replica),
            Event::Tick => self.tick(&mut effects),
        }
        effects
    }

    /// When the next [`Event::Tick`] is due, if any is: earlier ones do nothing.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let models = self.queue.models();
        let expiries = models.iter().filter_map(|model| self.next_expiry(*model));
        let retries = models
            .iter()
            .filter_map(|model| self.models.get(model))
            .flat_map(|model| &model.replicas)
            .filter_map(|replica| self.replicas.get(replica))
            .filter_map(|replica| replica.suspect_until);
        expiries.chain(retries).min()
    }

    fn policy(&self, class: Class) -> ClassPolicy {
        match class {
            Class::Interactive => self.config.interactive,
            Class::Batch => self.config.batch,
        }
    }

    fn tick(&mut self, effects: &mut Vec<Effect>) {
        for replica in self.replicas.values_mut() {
            replica.suspect_until = replica.suspect_until.filter(|until| self.now < *until);
        }
        for model in self.queue.models() {
            self.expire(model, effects);
            self.dispatch(model, effects);
        }
    }
}

/// Index of a class in a per-class array.
fn index(class: Class) -> usize {
    match class {
        Class::Interactive => 0,
        Class::Batch => 1,
    }
}
