//! What outlives the process: read out for a journal, and taken in by the next life.

use super::{Core, Phase, Task, crash};
use crate::event::Usage;
use crate::policy::TenantPolicy;
use crate::predict::Start;
use crate::types::{Class, Micros, ModelId, TaskId, TaskSpec, TenantId, Timestamp};

/// An open task. What ran comes back as one that waits, with the tokens it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedTask {
    pub spec: TaskSpec,
    pub admitted: Timestamp,
    pub standing: SavedStanding,
}

/// What has become of an open task so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedStanding {
    /// Dispatches so far.
    pub attempts: u32,
    /// Those that count towards the most a task may have.
    pub failures: u32,
    /// Of the answer.
    pub tokens: u32,
    /// Prompt tokens that its tenant has paid for.
    pub prompt_charged: u32,
    pub preemptions: u8,
    /// Deaths of engines that ran it, and those since its last token.
    pub crashes: u8,
    pub strikes: u8,
    /// Tokens taken from its tenant's limit, and when.
    pub reserved: Option<(Timestamp, u64)>,
}

/// One tenant's use of its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedQuota {
    /// When its bucket of requests is full again.
    pub requests_until: Timestamp,
    /// Tokens reserved in each second since the start of time.
    pub tokens: Vec<(u64, u64)>,
}

/// The counters of fairness; see the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedCounters {
    pub entries: Vec<SavedEntry>,
    /// By group and class: the counter of the tenant that was the last to have nothing queued.
    pub left: Vec<(ModelId, Class, u64)>,
    pub turns: u64,
    pub shares: Vec<(ModelId, SavedShares)>,
}

/// One tenant × class × group of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedEntry {
    /// The smallest model of the group.
    pub group: ModelId,
    pub class: Class,
    pub tenant: TenantId,
    pub meter: SavedMeter,
    pub turn: u64,
    pub charged: i128,
    pub lifted: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SavedMeter {
    pub counter: u64,
    pub carry: i128,
}

/// How the two classes of a model share its replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SavedShares {
    pub meters: [SavedMeter; 2],
    pub left: u64,
    /// When the class was last served or began to wait.
    pub served: [Timestamp; 2],
}

impl Core {
    #[must_use]
    pub fn saved_task(&self, id: TaskId) -> Option<SavedTask> {
        let task = self.tasks.get(&id)?;
        let (crashes, strikes) = task.suspicion.counts();
        Some(SavedTask {
            spec: task.spec.clone(),
            admitted: task.admitted,
            standing: SavedStanding {
                attempts: task.attempts,
                failures: task.failures,
                tokens: task.output(),
                prompt_charged: task.prompt_charged,
                preemptions: task.preemptions,
                crashes,
                strikes,
                reserved: task.reserved,
            },
        })
    }

    /// Whether the tenant's use of its limits must be saved.
    #[must_use]
    pub fn is_limited(&self, tenant: TenantId) -> bool {
        let limits = |it: &TenantPolicy| it.requests.is_some() || it.tokens_per_min.is_some();
        self.tenants.get(&tenant).is_some_and(|it| limits(&it.policy))
    }

    #[must_use]
    pub fn saved_quota(&self, tenant: TenantId) -> SavedQuota {
        self.tenants.get(&tenant).map_or_else(SavedQuota::default, |it| it.saved())
    }

    #[must_use]
    pub fn saved_counters(&self) -> SavedCounters {
        self.queue.saved_counters()
    }

    /// Takes in what an earlier life left, before the first event about a replica. `tasks` by id,
    /// ascending. Nothing is refused: it was all admitted.
    pub fn restore(
        &mut self,
        now: Timestamp,
        tasks: Vec<SavedTask>,
        quotas: Vec<(TenantId, SavedQuota)>,
        counters: &SavedCounters,
    ) {
        self.now = self.now.max(now);
        for (tenant, quota) in quotas {
            self.tenants.entry(tenant).or_default().restore(quota);
        }
        for task in tasks {
            self.restore_task(task);
        }
        // After the tasks: to come back is not to come from idling, which would raise a counter.
        self.queue.restore_counters(counters);
    }

    fn restore_task(&mut self, saved: SavedTask) {
        let SavedTask { spec, admitted, standing } = saved;
        let (id, model) = (spec.task, spec.model);
        // What had begun goes first in its lane: a stream that stands still is worse than a late start.
        let wait = match standing.attempts {
            0 => spec.deadline.unwrap_or(self.config.class(spec.class).patience),
            _ => Micros(0),
        };
        let due = admitted.after(wait);
        let suspicion = crash::Suspicion::of(standing.crashes, standing.strikes);
        self.last_task = self.last_task.max(Some(id));
        let phase = if suspicion.must_run_alone() && self.open_turns(&spec) == 0 {
            self.sessions.enter(&spec);
            self.models.entry(model).or_default().isolated.insert(id);
            Phase::Isolated
        } else {
            self.enter(&spec, (due, id))
        };
        let task = Task {
            admitted,
            due,
            phase,
            attempts: standing.attempts,
            refused: 0,
            failures: standing.failures,
            // Its wait says nothing of how well this life predicts.
            predicted: Start::default(),
            turnovers: 0,
            usage: Usage::default(),
            prompt_charged: standing.prompt_charged,
            kept_tokens: standing.tokens,
            stopped_for: None,
            preemptions: standing.preemptions,
            suspicion,
            reserved: standing.reserved,
            look_at: None,
            spec,
        };
        self.tasks.insert(id, Box::new(task));
        self.watch(id);
        self.watch_unready(model);
    }
}
