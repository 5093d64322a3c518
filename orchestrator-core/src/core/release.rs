//! Ends of attempts, cancellation, slots coming free and replicas changing under them.

use super::{ATTEMPTS_MAX, Core, Phase, Replica, SUSPECT_FOR, index};
use crate::event::{Availability, Effect, Ending, ReplicaStatus, Report, Run};
use crate::types::{ModelId, ReplicaId, TaskId, Timestamp};

impl Core {
    pub(super) fn cancel_requested(&mut self, task: TaskId, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.get(&task) else { return };
        match entry.phase {
            Phase::Queued => self.end_queued(task, Ending::Cancelled, effects),
            Phase::Running { run, .. } => {
                // The slot stays held: it is the engine that says when it is free.
                self.end_running(task, Ending::Cancelled, effects);
                effects.push(Effect::CancelOnReplica(run));
            }
        }
    }

    pub(super) fn finished(
        &mut self,
        run: Run,
        report: Report,
        slot_free: bool,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(since) = self.running_since(run) {
            match report {
                Report::Completed => {
                    let model = self.tasks[&run.task].spec.model;
                    let took = self.now.since(since);
                    self.models.entry(model).or_default().occupancy.record(took);
                    self.end_running(run.task, Ending::Completed, effects);
                }
                Report::Failed => self.end_running(run.task, Ending::Failed, effects),
                Report::NotTaken => self.not_taken(run, effects),
            }
        }
        if slot_free {
            self.slot_free(run, effects);
        }
    }

    /// `None` unless `run` is the task's current attempt.
    fn running_since(&self, run: Run) -> Option<Timestamp> {
        match self.tasks.get(&run.task)?.phase {
            Phase::Running { run: current, since } if current == run => Some(since),
            Phase::Running { .. } | Phase::Queued => None,
        }
    }

    /// Back to its old place in the queue, unless it has been sent often enough.
    fn not_taken(&mut self, run: Run, effects: &mut Vec<Effect>) {
        if let Some(it) = self.replicas.get_mut(&run.replica) {
            it.suspect_until = Some(self.now.after(SUSPECT_FOR));
        }
        let entry = self.tasks.get_mut(&run.task).expect("a running task is known");
        if ATTEMPTS_MAX <= entry.attempts {
            self.end_running(run.task, Ending::AttemptsExhausted, effects);
            return;
        }
        entry.phase = Phase::Queued;
        let (spec, admitted) = (entry.spec, entry.admitted);
        self.models.entry(spec.model).or_default().running[index(spec.class)] -= 1;
        self.queue.push(spec.model, spec.class, run.task, admitted);
        self.dispatch(spec.model, effects);
    }

    pub(super) fn slot_free(&mut self, run: Run, effects: &mut Vec<Effect>) {
        // A confirmation that comes before the attempt's own end would free a slot in use.
        if self.running_since(run).is_some() {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&run.replica) else { return };
        if replica.held.remove(&(run.task, run.attempt)) {
            let model = replica.status.model;
            self.dispatch(model, effects);
        }
    }

    pub(super) fn replica_changed(
        &mut self,
        id: ReplicaId,
        status: ReplicaStatus,
        effects: &mut Vec<Effect>,
    ) {
        let fresh = || Replica { status, held: Default::default(), suspect_until: None };
        let replica = self.replicas.entry(id).or_insert_with(fresh);
        let before = std::mem::replace(&mut replica.status, status);
        if before.incarnation != status.incarnation {
            // The process that held them is gone.
            replica.held.clear();
            replica.suspect_until = None;
        }
        if before.model != status.model {
            self.models.entry(before.model).or_default().replicas.remove(&id);
            self.note_readiness(before.model);
        }
        self.models.entry(status.model).or_default().replicas.insert(id);
        self.note_readiness(status.model);
        self.dispatch(status.model, effects);
    }

    pub(super) fn replica_removed(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.remove(&id) else { return };
        let model = replica.status.model;
        self.models.entry(model).or_default().replicas.remove(&id);
        self.note_readiness(model);
    }

    fn note_readiness(&mut self, model: ModelId) {
        let ready =
            self.replicas_of(model).any(|(_, it)| it.status.availability == Availability::Ready);
        let now = self.now;
        let since = &mut self.models.entry(model).or_default().unready_since;
        *since = if ready { None } else { since.or(Some(now)) };
    }

    fn end_running(&mut self, task: TaskId, ending: Ending, effects: &mut Vec<Effect>) {
        let entry = self.tasks.remove(&task).expect("a running task is known");
        let model = self.models.entry(entry.spec.model).or_default();
        model.running[index(entry.spec.class)] -= 1;
        effects.push(Effect::Ended { task, ending });
    }
}
