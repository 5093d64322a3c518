//! From the queue to replicas.

use std::collections::BTreeMap;

use super::sessions::Home;
use super::{Core, Phase, Replica};
use crate::decision::{Choice, DecisionRecord, DropReason};
use crate::event::{Availability, Effect, Run, Usage};
use crate::placement::{Candidate, Plan, admits, needed, place};
use crate::queue::{Next, Route};
use crate::types::{Attempt, Class, Micros, ModelId, ReplicaId, SessionId, TaskId, TaskSpec};

impl Core {
    /// Hands waiting tasks of `model` to replicas until one of the two runs out.
    pub(super) fn dispatch(&mut self, model: ModelId, effects: &mut Vec<Effect>) {
        self.dispatch_isolated(model, effects);
        while let Some(next) = self.next(model) {
            let task = next.key.1;
            if let Some(ending) = self.out_of_time(task) {
                self.end_waiting(task, ending, effects);
                continue;
            }
            if self.must_wait_for_tokens(task) {
                continue;
            }
            let (plan, dropped) = self.place(task, self.queue.route(next.place.route));
            // The key-value cache has no room for it: the slot waits for this task, since smaller
            // ones would pass it for ever.
            let Some(plan) = plan else { break };
            self.decide(task, &plan, dropped, effects);
            self.start_queued(&next, plan.replica, effects);
        }
        self.dispatch_fenced(model, effects);
        self.preempt(model, effects);
    }

    /// The task that is served next, among those that some free replica can run.
    fn next(&self, id: ModelId) -> Option<Next> {
        let model = self.models.get(&id)?;
        if model.free.is_empty() {
            return None;
        }
        self.queue.next(id, self.now, &self.config, |_, route, class| {
            model.free.iter().any(|it| {
                let replica = &self.replicas[it];
                admits(route, &replica.status).is_none() && self.has_slot_for(replica, class)
            })
        })
    }

    /// A free slot that is not set aside for interactive work.
    pub(super) fn has_slot_for(&self, replica: &Replica, class: Class) -> bool {
        let set_aside = match class {
            Class::Interactive => 0,
            // One slot always remains for batch work.
            Class::Batch => self.config.headroom_slots.min(replica.status.slots.saturating_sub(1)),
        };
        set_aside < replica.free_slots()
    }

    /// Takes the task's tokens out of its tenant's limit; if they do not suffice, the tenant waits.
    fn must_wait_for_tokens(&mut self, id: TaskId) -> bool {
        let (tenant, tokens) = (self.task(id).spec.tenant, needed(&self.task(id).spec));
        let now = self.now;
        let Some(state) = self.tenants.get_mut(&tenant) else { return false };
        if !state.holds() || state.policy.tokens_per_min.is_none() {
            return false;
        }
        if self.tasks[&id].reserved.is_some() {
            return false;
        }
        match state.reserve(now, tokens) {
            Ok(()) => {
                self.task_mut(id).reserved = Some((now, tokens));
                false
            }
            Err(wait) => {
                // A limit that was lowered below the task: it waits until it is raised.
                let until = now.after(wait.unwrap_or(Micros::seconds(60)));
                state.held_until = Some(until);
                self.set_timer(until, super::timers::Timer::Tenant(tenant));
                self.queue.hold(tenant, true);
                true
            }
        }
    }

    fn place(&self, id: TaskId, route: &Route) -> (Option<Plan>, BTreeMap<DropReason, u32>) {
        let task = self.task(id);
        let model = &self.models[&task.spec.model];
        let warm = task.spec.session.and_then(|it| self.session_home(it));
        let length = model.experience.length(&task.spec).saturating_sub(task.kept_tokens);
        let free = || model.free.iter().map(|it| (*it, &self.replicas[it]));
        let plan = |refusing: bool| {
            let mut dropped = BTreeMap::new();
            let candidates = free()
                .filter(|(_, it)| refusing || it.refusals == 0)
                .filter(|(_, it)| self.has_slot_for(it, task.spec.class))
                .map(|(id, it)| self.candidate(id, it, &task.spec, length, warm == Some(id)));
            (place(&task.spec, route, candidates, &mut dropped), dropped)
        };
        // One that refuses is tried where no other can take the task.
        match plan(false) {
            (None, _) if free().any(|(_, it)| it.refusals != 0) => plan(true),
            planned => planned,
        }
    }

    fn candidate(
        &self,
        replica: ReplicaId,
        state: &Replica,
        spec: &TaskSpec,
        length: u32,
        warm: bool,
    ) -> Candidate {
        let speed = if state.speed.is_measured() {
            &state.speed
        } else {
            &self.models[&spec.model].experience.speed
        };
        let prefill = if warm { 0 } else { speed.prefill(spec.prompt_tokens) };
        let decode = speed.decode(length, state.busy() + 1, state.status.slots);
        Candidate {
            replica,
            status: state.status,
            busy: state.busy(),
            kv_reserved: state.kv_reserved,
            warm,
            takes: Micros(prefill.saturating_add(decode)),
        }
    }

    fn decide(
        &mut self,
        id: TaskId,
        plan: &Plan,
        mut dropped: BTreeMap<DropReason, u32>,
        effects: &mut Vec<Effect>,
    ) {
        let model = &self.models[&self.task(id).spec.model];
        for (reason, count) in &model.ruled_out {
            *dropped.entry(*reason).or_default() += count;
        }
        effects.push(Effect::Decided(Box::new(DecisionRecord {
            task: id,
            at: self.now,
            replica: plan.replica,
            warm: plan.warm,
            preferred: plan.preferred,
            choice: plan.choice,
            candidates: plan.candidates.clone(),
            dropped: dropped.into_iter().collect(),
        })));
    }

    fn start_queued(&mut self, next: &Next, replica: ReplicaId, effects: &mut Vec<Effect>) {
        let task = next.key.1;
        let model = self.task(task).spec.model;
        self.queue.served(model, next.place, self.now);
        self.leave_waiting(task);
        self.run(task, replica, effects);
    }

    /// The task occupies a slot from here on.
    pub(super) fn run(&mut self, id: TaskId, replica: ReplicaId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let task = self.tasks.get_mut(&id).expect("a waiting task is known");
        task.attempts += 1;
        let run = Run { task: id, attempt: Attempt(task.attempts), replica };
        task.phase = Phase::Running { run, since: now, stopping: false, progress: now };
        task.usage = Usage::default();
        let (model, tenant, class) = (task.spec.model, task.spec.tenant, task.spec.class);
        let (kept_tokens, tokens) = (task.kept_tokens, needed(&task.spec));
        let first = task.attempts == 1;
        let (predicted, turnovers, waited) =
            (task.predicted, task.turnovers, now.since(task.admitted));
        let state = self.models.entry(model).or_default();
        state.running[class.index()] += 1;
        if first {
            state.experience.record_wait(predicted, turnovers, waited);
        }
        self.tenants.entry(tenant).or_default().running += 1;
        let held = self.replicas.get_mut(&replica).expect("placement names a replica");
        held.hold(id, run.attempt, tokens);
        self.refresh_free(replica);
        self.charge_prompt(id);
        self.refresh_hold(tenant, effects);
        effects.push(Effect::Dispatch { run, kept_tokens });
    }

    /// The first attempt's prompt is the tenant's; that of one after a preemption belongs to the
    /// tenant for whom it was stopped; after a failure nobody pays.
    fn charge_prompt(&mut self, id: TaskId) {
        let task = self.task_mut(id);
        let (model, tenant, class) = (task.spec.model, task.spec.tenant, task.spec.class);
        let prompt = task.spec.prompt_tokens;
        if let Some(cause) = task.stopped_for.take() {
            let again = i64::from(prompt) + i64::from(task.kept_tokens);
            self.charge((model, cause, Class::Interactive), again, self.config.prices.input);
        } else if task.prompt_charged == 0 && task.kept_tokens == 0 {
            task.prompt_charged = prompt;
            self.charge((model, tenant, class), i64::from(prompt), self.config.prices.input);
        }
    }

    pub(super) fn replicas_of(
        &self,
        model: ModelId,
    ) -> impl Iterator<Item = (ReplicaId, &Replica)> {
        let ids = self.models.get(&model).into_iter().flat_map(|it| &it.replicas);
        ids.filter_map(|id| self.replicas.get(id).map(|it| (*id, it)))
    }

    /// The replica that ran the session's last turn and still holds it.
    #[must_use]
    pub fn session_home(&self, session: SessionId) -> Option<ReplicaId> {
        let Home { replica, incarnation } = self.sessions.home(session)?;
        let known = self.replicas.get(&replica)?;
        (known.status.incarnation == incarnation).then_some(replica)
    }

    /// While a waiting model has the right of way, its resident takes what arrived earlier, oldest
    /// first, and nothing else.
    fn dispatch_fenced(&mut self, model: ModelId, effects: &mut Vec<Effect>) {
        let own = |it: &&ReplicaId| self.replicas[it].status.model == model;
        let fenced: Vec<ReplicaId> = self.fenced.iter().filter(own).copied().collect();
        for replica in fenced {
            while let Some(next) = self.before_fence(model, replica) {
                let choice = Choice::Only;
                let candidates = Vec::new();
                let plan = Plan { replica, warm: false, preferred: false, choice, candidates };
                self.decide(next.key.1, &plan, BTreeMap::new(), effects);
                self.start_queued(&next, replica, effects);
            }
        }
    }

    fn before_fence(&self, model: ModelId, id: ReplicaId) -> Option<Next> {
        let replica = self.replicas.get(&id)?;
        let fence = replica.fence?;
        if replica.status.availability != Availability::Ready || replica.free_slots() == 0 {
            return None;
        }
        let oldest = |class| {
            let routes = self.queue.routes_of(model);
            routes
                .filter(|(_, route)| admits(route, &replica.status).is_none())
                .filter_map(move |(route, _)| self.queue.oldest_on(route, class))
        };
        let task = Class::ALL.into_iter().flat_map(oldest).min()?;
        let Phase::Queued(place) = self.task(task).phase else { return None };
        (task < fence && !self.queue.is_held(place.tenant))
            .then(|| Next { place, key: self.key(task) })
    }
}
