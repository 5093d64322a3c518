//! Progress and ends: of attempts, of waiting, of tasks; and slots coming free.

use super::timers::Timer;
use super::{Core, Phase};
use crate::event::{Effect, Ending, Report, Run, Usage};
use crate::types::{Class, Micros, ModelId, ReplicaId, TaskId, Timestamp};

/// Attempts of one task that fail before it does.
pub(super) const ATTEMPTS_MAX: u32 = 3;
/// The pause for a replica that refused or lost a request: the first, doubled each time.
const PAUSE: Micros = Micros(250_000);
/// Longest pause after a loss.
const LOST_PAUSE_MAX: Micros = Micros(10_000_000);
/// Longest pause after a refusal, which costs nobody anything.
const REFUSED_PAUSE_MAX: Micros = Micros(2_000_000);

impl Core {
    pub(super) fn cancel_requested(&mut self, task: TaskId, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.get(&task) else { return };
        match entry.running() {
            None => {
                let model = entry.spec.model;
                self.end_waiting(task, Ending::Cancelled, effects);
                // It may have kept a slot or a replica for itself.
                self.dispatch(model, effects);
            }
            Some(run) => {
                // The slot stays held: it is the engine that says when it is free.
                self.end_running(task, Ending::Cancelled, effects);
                effects.push(Effect::CancelOnReplica(run));
            }
        }
    }

    /// Takes a waiting task out for good.
    pub(super) fn end_waiting(&mut self, task: TaskId, ending: Ending, effects: &mut Vec<Effect>) {
        self.leave_waiting(task);
        self.forget(task);
        effects.push(Effect::Ended { task, ending });
    }

    /// Out of the queue, or out of isolation.
    pub(super) fn leave_waiting(&mut self, task: TaskId) {
        self.unwatch(task);
        let (phase, key, tenant) =
            (self.task(task).phase, self.key(task), self.task(task).spec.tenant);
        let model = self.task(task).spec.model;
        match phase {
            Phase::Queued(place) => {
                self.queue.remove(place, key);
                if let Some(it) = self.tenants.get_mut(&tenant) {
                    it.queued -= 1;
                }
            }
            Phase::Isolated => {
                self.models.entry(model).or_default().isolated.remove(&task);
                self.drop_reservation(task);
            }
            Phase::Behind => {
                self.sessions.step_out(&self.tasks[&task].spec);
                if let Some(it) = self.tenants.get_mut(&tenant) {
                    it.queued -= 1;
                }
            }
            Phase::Running { .. } => unreachable!("only a waiting task leaves the queue"),
        }
    }

    pub(super) fn progressed(&mut self, run: Run, usage: Usage, effects: &mut Vec<Effect>) {
        if self.is_current(run) {
            self.settle(run, usage);
            self.took(run.replica);
            self.clear_suspicion(run.task, effects);
        }
    }

    pub(super) fn finished(
        &mut self,
        run: Run,
        report: Report,
        usage: Usage,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_current(run) {
            return;
        }
        if report == Report::NotTaken {
            self.not_taken(run, effects);
            return;
        }
        self.settle(run, usage);
        self.took(run.replica);
        match report {
            Report::Completed => {
                self.learn(run);
                self.end_running(run.task, Ending::Completed, effects);
            }
            Report::Failed => self.end_running(run.task, Ending::Failed, effects),
            Report::Preempted => {
                let (model, tenant) =
                    (self.task(run.task).spec.model, self.task(run.task).spec.tenant);
                self.requeue(run.task);
                self.refresh_hold(tenant, effects);
                self.dispatch(model, effects);
            }
            Report::Lost => self.lost(run, effects),
            Report::NotTaken => unreachable!("handled above"),
        }
    }

    pub(super) fn is_current(&self, run: Run) -> bool {
        self.tasks.get(&run.task).is_some_and(|it| it.running() == Some(run))
    }

    /// Charges what was used since the last report, and learns how fast the replica is.
    fn settle(&mut self, run: Run, usage: Usage) {
        let now = self.now;
        let replica = self.replicas.get(&run.replica);
        let (busy, slots) = replica.map_or((1, 1), |it| (it.busy(), it.status.slots));
        let task = self.tasks.get_mut(&run.task).expect("the caller looked it up");
        let Phase::Running { since, ref mut progress, .. } = task.phase else { return };
        let (before, took) = (task.usage, now.since(*progress));
        // A report never takes back: what comes late or garbled counts as nothing new.
        let output = usage.output_tokens.max(before.output_tokens);
        let made = output - before.output_tokens;
        let prompt = usage.prompt_tokens.filter(|_| before.prompt_tokens.is_none());
        task.usage.output_tokens = output;
        task.usage.prompt_tokens = before.prompt_tokens.or(prompt);
        let first = before.output_tokens == 0 && 0 < made;
        let prefilled = task.spec.prompt_tokens.saturating_add(task.kept_tokens);
        if 0 < made {
            *progress = now;
        }
        let owner = (task.spec.model, task.spec.tenant, task.spec.class);
        let correction = prompt.filter(|_| task.attempts == task.refused + 1).map_or(0, |actual| {
            let estimate = std::mem::replace(&mut task.prompt_charged, actual);
            i64::from(actual) - i64::from(estimate)
        });
        if first {
            self.learn_prefill(run.replica, owner.0, prompt.unwrap_or(prefilled), now.since(since));
        } else if 0 < made {
            self.learn_decode(run.replica, owner.0, (made, took), (busy, slots));
        }
        self.charge(owner, correction, self.config.prices.input);
        self.charge(owner, i64::from(made), self.config.prices.output);
    }

    fn learn_prefill(&mut self, replica: ReplicaId, model: ModelId, tokens: u32, took: Micros) {
        if let Some(it) = self.replicas.get_mut(&replica) {
            it.speed.record_prefill(tokens, took);
        }
        self.models.entry(model).or_default().experience.speed.record_prefill(tokens, took);
    }

    fn learn_decode(
        &mut self,
        replica: ReplicaId,
        model: ModelId,
        (made, took): (u32, Micros),
        (busy, slots): (u32, u32),
    ) {
        if let Some(it) = self.replicas.get_mut(&replica) {
            it.speed.record_decode(made, took, busy, slots);
        }
        let shared = &mut self.models.entry(model).or_default().experience.speed;
        shared.record_decode(made, took, busy, slots);
    }

    /// What a finished task teaches.
    fn learn(&mut self, run: Run) {
        let now = self.now;
        let prices = self.config.prices;
        let task = &self.tasks[&run.task];
        let Phase::Running { since, .. } = task.phase else { return };
        let (spec, output, took) = (&task.spec, task.output(), now.since(since));
        let model = self.models.entry(spec.model).or_default();
        let cost_milli = u64::from(model.policy.cost_milli.max(1));
        let tokens = u64::from(prices.input) * u64::from(spec.prompt_tokens)
            + u64::from(prices.output) * u64::from(output);
        model.experience.record_cost(tokens.saturating_mul(cost_milli));
        model.experience.record_finished(spec, output, took);
        let incarnation = self.replicas.get(&run.replica).map(|it| it.status.incarnation);
        if let (Some(session), Some(incarnation)) = (spec.session, incarnation) {
            self.sessions.remember(session, run.task, run.replica, incarnation);
        }
    }

    /// As after a death, but nobody else was aboard. The replica rests, longer each time that this
    /// task is lost, so that another one is tried first. No jitter: one core sends, and no more than
    /// there are slots.
    fn lost(&mut self, run: Run, effects: &mut Vec<Effect>) {
        let task = self.task_mut(run.task);
        task.failures += 1;
        let (failures, model, tenant) = (task.failures, task.spec.model, task.spec.tenant);
        if ATTEMPTS_MAX <= failures {
            self.end_running(run.task, Ending::AttemptsExhausted, effects);
            return;
        }
        self.rest(run.replica, pause(failures, LOST_PAUSE_MAX));
        self.requeue(run.task);
        self.refresh_hold(tenant, effects);
        self.dispatch(model, effects);
    }

    fn has_open_tasks(&self, model: ModelId) -> bool {
        let state = &self.models[&model];
        self.queue.len_of_model(model) != 0 || !state.isolated.is_empty() || state.running != [0; 2]
    }

    /// The replica works on a request: what it refused before is past.
    fn took(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        if replica.refusals != 0 {
            replica.refusals = 0;
            let model = replica.status.model;
            self.note_readiness(model);
        }
    }

    /// The replica is spared for a while.
    fn rest(&mut self, id: ReplicaId, pause: Micros) {
        let until = self.now.after(pause);
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        replica.suspect_until = replica.suspect_until.max(Some(until));
        self.set_timer(until, Timer::Suspect(id));
        self.refresh_free(id);
    }

    /// Back to its old place in the queue, at no cost. A replica that refuses is tried again after
    /// pauses that grow, and counts as not ready until it takes something.
    fn not_taken(&mut self, run: Run, effects: &mut Vec<Effect>) {
        let now = self.now;
        if let Some(replica) = self.replicas.get_mut(&run.replica) {
            // What was sent at the same time is refused as one.
            if replica.suspect_until.is_none_or(|until| until <= now) {
                replica.refusals = replica.refusals.saturating_add(1);
            }
            let (model, pause) = (replica.status.model, pause(replica.refusals, REFUSED_PAUSE_MAX));
            self.rest(run.replica, pause);
            self.note_readiness(model);
        }
        let task = self.task_mut(run.task);
        task.refused += 1;
        let charged = i64::from(std::mem::take(&mut task.prompt_charged));
        let owner = (task.spec.model, task.spec.tenant, task.spec.class);
        self.charge(owner, -charged, self.config.prices.input);
        if self.has_waited_enough(run.task) {
            let coming = self.is_hopeful(owner.0);
            self.end_running(run.task, Ending::NoReplica { coming }, effects);
        } else {
            self.requeue(run.task);
            self.watch(run.task);
            self.refresh_hold(owner.1, effects);
        }
        self.dispatch(owner.0, effects);
    }

    /// From running to waiting: in the queue, in the place of its arrival, or alone.
    pub(super) fn requeue(&mut self, id: TaskId) {
        self.leave_running(id);
        self.drop_reservation(id);
        let task = self.task_mut(id);
        task.kept_tokens = task.output();
        task.usage = Usage::default();
        self.wait(id);
    }

    /// In the queue, or alone.
    pub(super) fn wait(&mut self, id: TaskId) {
        let task = self.task_mut(id);
        let (model, owner) = (task.spec.model, (task.spec.tenant, task.spec.class));
        if task.suspicion.must_run_alone() {
            task.phase = Phase::Isolated;
            self.models.entry(model).or_default().isolated.insert(id);
        } else {
            let (route, key) = (self.route_of(&self.task(id).spec), self.key(id));
            let place = self.queue.push(model, route, owner, key, self.now);
            self.tenants.entry(owner.0).or_default().queued += 1;
            self.task_mut(id).phase = Phase::Queued(place);
        }
        self.watch_unready(model);
    }

    pub(super) fn slot_free(&mut self, run: Run, effects: &mut Vec<Effect>) {
        // A confirmation that comes before the attempt's own end would free a slot in use.
        if self.is_current(run) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&run.replica) else { return };
        if replica.release(run.task, run.attempt) {
            let model = replica.status.model;
            self.refresh_free(run.replica);
            self.dispatch(model, effects);
            self.watch_idle(run.replica);
        }
    }

    pub(super) fn end_running(&mut self, id: TaskId, ending: Ending, effects: &mut Vec<Effect>) {
        let tenant = self.task(id).spec.tenant;
        let model = self.task(id).spec.model;
        self.leave_running(id);
        let reopened = self.drop_reservation(id);
        self.forget(id);
        effects.push(Effect::Ended { task: id, ending });
        self.refresh_hold(tenant, effects);
        if reopened {
            self.dispatch(model, effects);
        }
    }

    /// The task no longer runs; its slot may still be held.
    pub(super) fn leave_running(&mut self, id: TaskId) {
        let task = self.task(id);
        let Phase::Running { stopping, .. } = task.phase else { return };
        let (model, tenant, class) = (task.spec.model, task.spec.tenant, task.spec.class);
        let state = self.models.entry(model).or_default();
        state.running[class.index()] -= 1;
        state.stopping -= u64::from(stopping);
        self.tenants.entry(tenant).or_default().running -= 1;
    }

    /// The task is over: what it reserved and did not use goes back.
    pub(super) fn forget(&mut self, id: TaskId) {
        let task = self.tasks.remove(&id).expect("a task that ends is known");
        if let Some(session) = task.spec.session {
            self.sessions.leave(session, id);
        }
        let Some((since, reserved)) = task.reserved else { return };
        let used = u64::from(task.prompt_charged) + u64::from(task.output());
        if let Some(tenant) = self.tenants.get_mut(&task.spec.tenant) {
            tenant.refund(since, reserved.saturating_sub(used));
        }
    }

    /// A pause is over.
    pub(super) fn try_again(&mut self, replica: ReplicaId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(state) = self.replicas.get_mut(&replica) else { return };
        state.suspect_until = state.suspect_until.filter(|until| now < *until);
        let model = state.status.model;
        self.refresh_free(replica);
        self.dispatch(model, effects);
        if !self.has_open_tasks(model) {
            // Nobody is left to try it: whoever comes next finds it as good as any.
            self.took(replica);
        }
    }

    /// The task that has waited longest for a model.
    pub(super) fn oldest_waiting(&self, model: ModelId) -> Option<TaskId> {
        Class::ALL.iter().filter_map(|it| self.queue.oldest(model, *it)).min()
    }

    pub(super) fn admitted(&self, task: TaskId) -> Timestamp {
        self.task(task).admitted
    }
}

/// The `nth` pause in a row.
fn pause(nth: u32, max: Micros) -> Micros {
    Micros(PAUSE.0.saturating_mul(1 << nth.saturating_sub(1).min(16)).min(max.0))
}
