//! Engines that die, and the tasks that may be why.
//!
//! A task whose engine died before it made a token is under suspicion: it runs alone until it makes
//! one. A second such death, alone, ends it. What was decoding well is resumed at once. A task that
//! was aboard more deaths than chance explains runs alone, too, and is given up in the end.

use super::release::ATTEMPTS_MAX;
use super::{Core, Replica};
use crate::event::{Availability, Effect, Ending, Run};
use crate::placement::admits;
use crate::types::{ModelId, ReplicaId, TaskId};

/// Deaths aboard, from which on a task runs alone, and at which it is given up.
const CRASHES_SUSPECT: u8 = 3;
const CRASHES_MAX: u8 = 5;
/// Deaths before the first token that end a task, if it was alone at the last.
const STRIKES_MAX: u8 = 2;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Suspicion {
    /// Deaths of engines that ran it.
    crashes: u8,
    /// Those since its last token.
    strikes: u8,
}

impl Suspicion {
    pub(super) fn of(crashes: u8, strikes: u8) -> Self {
        Self { crashes, strikes }
    }

    /// Deaths, and those since the last token.
    pub(super) fn counts(self) -> (u8, u8) {
        (self.crashes, self.strikes)
    }

    pub(super) fn must_run_alone(self) -> bool {
        0 < self.strikes || CRASHES_SUSPECT <= self.crashes
    }
}

impl Core {
    pub(super) fn replica_failed(
        &mut self,
        id: ReplicaId,
        incarnation: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        if replica.status.incarnation != incarnation {
            return;
        }
        if replica.status.availability == Availability::Ready {
            replica.status.availability = Availability::Coming;
        }
        let model = replica.status.model;
        replica.suspect_until = None;
        replica.refusals = 0;
        let reserved = replica.reserved_for.take();
        replica.kv_reserved = 0;
        let held = std::mem::take(&mut replica.held);
        let aboard: Vec<Run> = held
            .keys()
            .map(|(task, attempt)| Run { task: *task, attempt: *attempt, replica: id })
            .filter(|run| self.is_current(*run))
            .collect();
        if let Some(task) = reserved {
            self.models.entry(model).or_default().reserved.remove(&task);
        }
        let alone = aboard.len() == 1 && held.len() == 1;
        self.refresh_free(id);
        self.note_readiness(model);
        for run in aboard {
            self.survive(run, alone, effects);
        }
        self.dispatch(model, effects);
    }

    /// The task's engine died under it.
    fn survive(&mut self, run: Run, alone: bool, effects: &mut Vec<Effect>) {
        let task = self.task_mut(run.task);
        let tenant = task.spec.tenant;
        let suspicion = &mut task.suspicion;
        suspicion.crashes = suspicion.crashes.saturating_add(1);
        if task.usage.output_tokens == 0 {
            suspicion.strikes = suspicion.strikes.saturating_add(1);
        } else {
            suspicion.strikes = 0;
        }
        let poison = alone && STRIKES_MAX <= suspicion.strikes;
        let worn = CRASHES_MAX <= suspicion.crashes;
        if alone && !poison {
            task.failures += 1;
        }
        if poison {
            self.end_running(run.task, Ending::Poison, effects);
        } else if worn || ATTEMPTS_MAX <= self.task(run.task).failures {
            self.end_running(run.task, Ending::AttemptsExhausted, effects);
        } else {
            self.requeue(run.task);
        }
        self.refresh_hold(tenant, effects);
    }

    /// It made a token: whatever kills engines has not happened where it happened before.
    pub(super) fn clear_suspicion(&mut self, id: TaskId, effects: &mut Vec<Effect>) {
        let task = self.task_mut(id);
        if task.usage.output_tokens == 0 {
            return;
        }
        task.suspicion.strikes = 0;
        let cleared = !task.suspicion.must_run_alone();
        let Some(run) = task.running() else { return };
        let reserved = self.replicas.get(&run.replica).and_then(|it| it.reserved_for);
        // One that has seen many deaths stays alone to its end.
        if reserved == Some(id) && cleared && self.drop_reservation(id) {
            let model = self.task(id).spec.model;
            self.dispatch(model, effects);
        }
    }

    /// Starts isolated tasks on empty replicas, one each, and sets a replica aside for one where
    /// none is about to become empty.
    pub(super) fn dispatch_isolated(&mut self, model: ModelId, effects: &mut Vec<Effect>) {
        let Some(state) = self.models.get(&model) else { return };
        if state.isolated.is_empty() {
            return;
        }
        for task in state.isolated.clone() {
            if let Some(replica) = self.empty_replica_for(task) {
                self.leave_waiting(task);
                self.set_aside(replica, task);
                self.run(task, replica, effects);
            } else {
                self.set_replica_aside(model, task);
            }
        }
    }

    /// One that refuses only where there is no other: it is always empty.
    fn empty_replica_for(&self, task: TaskId) -> Option<ReplicaId> {
        let spec = &self.task(task).spec;
        let route = self.route_of(spec);
        let ready: Vec<(ReplicaId, &Replica)> = self
            .replicas_of(spec.model)
            .filter(|(_, it)| it.status.availability == Availability::Ready && 0 < it.status.slots)
            .filter(|(_, it)| admits(&route, &it.status).is_none())
            .collect();
        let all_refuse = ready.iter().all(|(_, it)| it.refusals != 0);
        ready
            .into_iter()
            .filter(|(_, it)| all_refuse || it.refusals == 0)
            .filter(|(_, it)| it.held.is_empty() && it.fence.is_none() && !it.swap.is_leaving())
            .filter(|(_, it)| it.reserved_for.is_none_or(|other| other == task))
            .find(|(_, it)| it.suspect_until.is_none())
            .map(|(id, _)| id)
    }

    /// One replica at a time is emptied for an isolated task, and none while another restarts: that
    /// one will be empty.
    fn set_replica_aside(&mut self, model: ModelId, task: TaskId) {
        let route = self.route_of(&self.task(task).spec);
        let coming = |it: Availability| it == Availability::Coming;
        let waits = self
            .replicas_of(model)
            .any(|(_, it)| it.reserved_for.is_some() || coming(it.status.availability));
        if waits {
            return;
        }
        let least = self
            .replicas_of(model)
            .filter(|(_, it)| it.status.availability == Availability::Ready)
            .filter(|(_, it)| admits(&route, &it.status).is_none() && 0 < it.status.slots)
            // One that refuses is always empty, and no use.
            .min_by_key(|(id, it)| (it.refusals != 0, it.busy(), *id))
            .map(|(id, _)| id);
        if let Some(id) = least {
            self.set_aside(id, task);
        }
    }

    fn set_aside(&mut self, replica: ReplicaId, task: TaskId) {
        if let Some(it) = self.replicas.get_mut(&replica) {
            it.reserved_for = Some(task);
            let reserved = &mut self.models.entry(it.status.model).or_default().reserved;
            let before = reserved.insert(task, replica).filter(|before| *before != replica);
            if let Some(before) = before {
                if let Some(it) = self.replicas.get_mut(&before) {
                    it.reserved_for = None;
                }
                self.refresh_free(before);
            }
        }
        self.refresh_free(replica);
    }

    /// The replica that was set aside for a task serves others again; says whether there was one.
    pub(super) fn drop_reservation(&mut self, task: TaskId) -> bool {
        let model = self.task(task).spec.model;
        let reserved = &mut self.models.entry(model).or_default().reserved;
        let Some(id) = reserved.remove(&task) else { return false };
        if let Some(it) = self.replicas.get_mut(&id) {
            it.reserved_for = None;
        }
        self.refresh_free(id);
        true
    }
}
