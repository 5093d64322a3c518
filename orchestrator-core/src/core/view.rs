//! Read-only questions that the shell asks on behalf of clients.

use std::collections::BTreeMap;

use super::{Core, Phase, Task};
use crate::decision::DropReason;
use crate::event::Availability;
use crate::placement::admits;
use crate::types::{Class, Micros, ModelId, ReplicaId, TaskId, TenantId};

/// Where a waiting task stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Rank in its lane (tenant × class × model), 0 = next.
    pub position: u64,
    /// `None`: no replica of the model is ready.
    pub predicted_start: Option<Micros>,
    pub predicted_start_p90: Option<Micros>,
    pub reason: WaitReason,
}

/// Why a task waits, the strongest reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// An earlier turn of its session is open.
    SessionBusy,
    /// Its tenant is at a limit of its own.
    HeldByQuota,
    /// A replica of its model is being loaded, or will be.
    LoadingModel,
    NoReadyReplica,
    /// It ran, and goes on as soon as a replica is found.
    Resuming,
    /// Its tenant has had more than its share; others go first.
    OverFairShare,
    WaitingForSlot,
}

/// One tenant's tasks of one class for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneView {
    pub model: ModelId,
    pub class: Class,
    pub tenant: TenantId,
    pub queued: u64,
    pub running: u64,
    pub oldest_wait: Option<Micros>,
}

/// What a tenant has been charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Thousandths of a token over the tenant's weight; the smallest is served next.
    pub counter: u64,
    /// Cost of everything it used, in thousandths of a token, before weights.
    pub charged_milli: i128,
    /// What was added when it came back from idling.
    pub lifted: u64,
}

/// A replica on its way in or out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwapView {
    pub replica: ReplicaId,
    pub model: ModelId,
    /// It is being loaded; else it is being unloaded, or makes way.
    pub loading: bool,
}

impl Core {
    /// `None` for a task that does not wait.
    #[must_use]
    pub fn standing(&self, id: TaskId) -> Option<Standing> {
        let task = self.tasks.get(&id)?;
        task.running().is_none().then(|| self.standing_at(task, self.position(id)))
    }

    /// How many of its tenant, class and model go before a waiting task; of those behind a turn of a
    /// session, its own session's.
    pub(super) fn position(&self, id: TaskId) -> u64 {
        let task = self.task(id);
        let spec = &task.spec;
        let rank = || self.queue.rank(spec.model, spec.tenant, spec.class, (task.due, id));
        match task.phase {
            Phase::Queued(_) => rank(),
            Phase::Behind => rank() + self.sessions.place_behind(spec),
            Phase::Isolated | Phase::Running { .. } => 0,
        }
    }

    /// Every waiting task with its standing, in one pass.
    pub fn standings(&self) -> impl Iterator<Item = (TaskId, Standing)> {
        let queued = self.queue.lanes().flat_map(move |(_, _, keys)| {
            keys.zip(0..)
                .map(move |((_, id), position)| (id, self.standing_at(&self.tasks[&id], position)))
        });
        let behind = self.sessions.all_behind().map(|(id, place)| {
            let task = &self.tasks[&id];
            let spec = &task.spec;
            let rank = self.queue.rank(spec.model, spec.tenant, spec.class, (task.due, id));
            (id, self.standing_at(task, rank + place))
        });
        queued.chain(behind)
    }

    fn standing_at(&self, task: &Task, position: u64) -> Standing {
        let turnovers = self.turnovers(&task.spec, Some(position));
        let predicted = self.predict(&task.spec, turnovers).map(|it| match task.phase {
            Phase::Behind => {
                let turns = 1 + self.sessions.place_behind(&task.spec);
                self.behind_turns(&task.spec, it, turns)
            }
            Phase::Queued(_) | Phase::Isolated | Phase::Running { .. } => it,
        });
        Standing {
            position,
            predicted_start: predicted.map(|it| it.expected),
            predicted_start_p90: predicted.map(|it| it.p90),
            reason: self.wait_reason(task),
        }
    }

    fn wait_reason(&self, task: &Task) -> WaitReason {
        let (model, tenant, class) = (task.spec.model, task.spec.tenant, task.spec.class);
        let is = |wanted| self.replicas_of(model).any(|(_, it)| it.status.availability == wanted);
        if task.phase == Phase::Behind {
            WaitReason::SessionBusy
        } else if self.queue.is_held(tenant) {
            WaitReason::HeldByQuota
        } else if !is(Availability::Ready) {
            if is(Availability::Unloaded) || is(Availability::Coming) {
                WaitReason::LoadingModel
            } else {
                WaitReason::NoReadyReplica
            }
        } else if task.has_begun() {
            WaitReason::Resuming
        } else if 0 < self.queue.lead(model, tenant, class) {
            WaitReason::OverFairShare
        } else {
            WaitReason::WaitingForSlot
        }
    }

    /// How many of a thousand such tasks meet their deadline from here; `None`: it has none, or is
    /// not known.
    #[must_use]
    pub fn on_time_permille(&self, id: TaskId) -> Option<u64> {
        let task = self.tasks.get(&id)?;
        let left = task.spec.deadline?.0.saturating_sub(self.now.since(task.admitted).0);
        let experience = &self.models.get(&task.spec.model)?.experience;
        match task.phase {
            Phase::Running { .. } => Some(experience.on_time_permille(&task.spec, Micros(left))),
            Phase::Queued(_) | Phase::Isolated | Phase::Behind => {
                let position = self.standing(id)?.position;
                let turnovers = self.turnovers(&task.spec, Some(position));
                let start = self.predict(&task.spec, turnovers)?;
                Some(experience.chance_permille(&task.spec, start, turnovers, Micros(left)))
            }
        }
    }

    /// Why no replica takes the waiting task now: how many are ruled out by what.
    #[must_use]
    pub fn obstacles(&self, id: TaskId) -> BTreeMap<DropReason, u32> {
        let mut counts = BTreeMap::new();
        let Some(task) = self.tasks.get(&id) else { return counts };
        let route = self.route_of(&task.spec);
        for (_, replica) in self.replicas_of(task.spec.model) {
            let reason = self.drop_reason(replica);
            let set_aside = reason.is_none() && !self.has_slot_for(replica, task.spec.class);
            let reason = admits(&route, &replica.status)
                .or(reason)
                .or_else(|| set_aside.then_some(DropReason::Reserved));
            if let Some(reason) = reason {
                *counts.entry(reason).or_default() += 1;
            }
        }
        counts
    }

    /// Lanes with queued or running tasks, by model, class and tenant. O(open tasks).
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneView> {
        let mut lanes: BTreeMap<(ModelId, Class, TenantId), LaneView> = BTreeMap::new();
        for task in self.tasks.values() {
            let (model, class, tenant) = (task.spec.model, task.spec.class, task.spec.tenant);
            let lane = lanes.entry((model, class, tenant)).or_insert(LaneView {
                model,
                class,
                tenant,
                queued: 0,
                running: 0,
                oldest_wait: None,
            });
            match task.phase {
                Phase::Running { .. } => lane.running += 1,
                Phase::Queued(_) | Phase::Isolated | Phase::Behind => {
                    lane.queued += 1;
                    lane.oldest_wait = lane.oldest_wait.max(Some(self.now.since(task.admitted)));
                }
            }
        }
        lanes.into_values().collect()
    }

    /// Loads and unloads under way, and models that make way.
    #[must_use]
    pub fn swaps(&self) -> Vec<SwapView> {
        self.models
            .keys()
            .flat_map(|model| {
                self.swaps_of(*model).map(|(replica, loading)| SwapView {
                    replica,
                    model: *model,
                    loading,
                })
            })
            .collect()
    }

    /// A tenant's account where `model` is served.
    #[must_use]
    pub fn account(&self, model: ModelId, class: Class, tenant: TenantId) -> Account {
        let entry = self.queue.ledger.entry(self.queue.group(model), class, tenant);
        Account {
            counter: entry.rank().0,
            charged_milli: entry.charged_milli_tokens(),
            lifted: entry.lifted(),
        }
    }

    /// Tokens that a tenant may still reserve in this minute; `None`: no limit.
    #[must_use]
    pub fn tokens_left(&self, tenant: TenantId) -> Option<u64> {
        self.tenants.get(&tenant)?.tokens_left(self.now)
    }

    /// Slots of a replica that run an attempt or are not yet confirmed free.
    #[must_use]
    pub fn busy_slots(&self, replica: ReplicaId) -> u32 {
        self.replicas.get(&replica).map_or(0, super::Replica::busy)
    }

    /// How long a task may wait while no replica of its model is ready.
    #[must_use]
    pub fn unready_wait(&self) -> Micros {
        self.config.unready_wait
    }

    /// Tasks that wait for a model.
    #[must_use]
    pub fn queued_for(&self, model: ModelId) -> u64 {
        (self.queue.len_of_model(model) + self.sessions.behind_of_model(model)) as u64
    }

    /// Tasks that wait for a slot.
    #[must_use]
    pub fn queued(&self) -> u64 {
        let isolated: usize = self.models.values().map(|it| it.isolated.len()).sum();
        (self.queue.len() + self.sessions.behind_len() + isolated) as u64
    }
}
