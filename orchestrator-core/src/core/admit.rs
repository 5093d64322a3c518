//! Submission: every check that needs no waiting, the full queue, and the place in it.

use super::{Core, Replica, Task};
use crate::event::{Availability, Effect, Ending, QuotaKind, RejectReason, ReplicaStatus, Usage};
use crate::placement::{admits, needed, room};
use crate::policy::FullPolicy;
use crate::predict::{Backlog, Start};
use crate::queue::Route;
use crate::types::{Class, Micros, ModelId, TaskId, TaskSpec};

/// All models together may queue this many times one model's capacity.
const TOTAL_CAPACITY_FACTOR: usize = 4;
/// When a limit of running tasks refuses, one may end at any time.
const CONCURRENCY_RETRY: Micros = Micros(1_000_000);

impl Core {
    pub(super) fn submitted(&mut self, spec: TaskSpec, effects: &mut Vec<Effect>) {
        let task = spec.task;
        match self.admit(spec, effects) {
            Ok((model, admitted)) => {
                effects.push(admitted);
                self.dispatch(model, effects);
            }
            Err(reason) => effects.push(Effect::Rejected { task, reason }),
        }
    }

    fn admit(
        &mut self,
        spec: TaskSpec,
        effects: &mut Vec<Effect>,
    ) -> Result<(ModelId, Effect), RejectReason> {
        let (task, model, class, tenant) = (spec.task, spec.model, spec.class, spec.tenant);
        self.check(&spec)?;
        self.check_limits(&spec)?;
        let (turnovers, start) = self.foresee(&spec);
        self.check_deadline(&spec, start, turnovers)?;
        let reserved = self.reserve(&spec)?;
        if let Err(reason) = self.make_room(&spec, start, effects) {
            let state = self.tenants.entry(tenant).or_default();
            state.refund(self.now, reserved.unwrap_or(0));
            return Err(reason);
        }
        // Once more: who was pushed out is no longer ahead.
        let (turnovers, start) = self.foresee(&spec);
        let turns = self.open_turns(&spec);
        self.last_task = Some(task);
        let due = self.now.after(spec.deadline.unwrap_or(self.config.class(class).patience));
        let phase = self.enter(&spec, (due, task));
        let admitted = Task {
            admitted: self.now,
            due,
            phase,
            attempts: 0,
            refused: 0,
            failures: 0,
            // What it waits for in its session says nothing of the queue.
            predicted: start.filter(|_| turns == 0).unwrap_or_default(),
            turnovers,
            usage: Usage::default(),
            prompt_charged: 0,
            kept_tokens: 0,
            stopped_for: None,
            preemptions: 0,
            suspicion: super::crash::Suspicion::default(),
            reserved: reserved.map(|tokens| (self.now, tokens)),
            look_at: None,
            spec,
        };
        self.tasks.insert(task, Box::new(admitted));
        self.watch(task);
        self.watch_unready(model);
        let position = self.position(task);
        let effect = Effect::Admitted {
            task,
            position,
            predicted_start: start.map(|it| it.expected),
            predicted_start_p90: start.map(|it| it.p90),
        };
        Ok((model, effect))
    }

    fn check(&self, spec: &TaskSpec) -> Result<(), RejectReason> {
        if self.last_task.is_some_and(|it| spec.task <= it) {
            return Err(RejectReason::DuplicateTask);
        }
        if spec.engine.is_none() && spec.pools.is_none() {
            return self.check_rooms(spec);
        }
        let hopeful: Vec<ReplicaStatus> = self
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
        let mut wanted = bare_route(spec);
        if hopeful.iter().all(|it| admits(&wanted, it).is_some()) {
            return Err(RejectReason::PoolMismatch);
        }
        wanted.tokens = needed(spec);
        if hopeful.iter().all(|it| admits(&wanted, it).is_some()) {
            let largest = hopeful.iter().filter_map(room).max().unwrap_or(0);
            let context_tokens = u32::try_from(largest).unwrap_or(u32::MAX);
            return Err(RejectReason::ContextOverflow { context_tokens });
        }
        Ok(())
    }

    /// The checks of a task that any replica of the model may run.
    fn check_rooms(&self, spec: &TaskSpec) -> Result<(), RejectReason> {
        let rooms = self.models.get(&spec.model).map(|it| &it.rooms).filter(|it| 0 < it.hopeful);
        let rooms = rooms.ok_or(RejectReason::Unavailable)?;
        if rooms.hopeful_unknown || needed(spec) <= rooms.hopeful_max {
            return Ok(());
        }
        let context_tokens = u32::try_from(rooms.hopeful_max).unwrap_or(u32::MAX);
        Err(RejectReason::ContextOverflow { context_tokens })
    }

    fn check_limits(&mut self, spec: &TaskSpec) -> Result<(), RejectReason> {
        let retry_after = self.config.interactive.max_wait;
        let now = self.now;
        let tenant = self.tenants.entry(spec.tenant).or_default();
        let refuse = |kind, retry_after| Err(RejectReason::Quota { kind, retry_after });
        if let Err(wait) = tenant.take_request(now) {
            return refuse(QuotaKind::Requests, wait);
        }
        if tenant.policy.tokens_per_min.is_some_and(|it| it < needed(spec)) {
            return refuse(QuotaKind::TokensOfTask, Micros(0));
        }
        if tenant.policy.queued.is_some_and(|it| it <= tenant.queued) {
            return refuse(QuotaKind::Queued, retry_after);
        }
        let open = tenant.queued + tenant.running;
        if !tenant.holds() && tenant.policy.concurrent.is_some_and(|it| it <= open) {
            return refuse(QuotaKind::Concurrent, CONCURRENCY_RETRY);
        }
        Ok(())
    }

    /// Takes the task's tokens out of its tenant's limit, unless it is to wait for them.
    fn reserve(&mut self, spec: &TaskSpec) -> Result<Option<u64>, RejectReason> {
        let now = self.now;
        let tenant = self.tenants.entry(spec.tenant).or_default();
        if tenant.policy.tokens_per_min.is_none() || tenant.holds() {
            return Ok(None);
        }
        let tokens = needed(spec);
        tenant.reserve(now, tokens).map(|()| Some(tokens)).map_err(|wait| RejectReason::Quota {
            kind: QuotaKind::Tokens,
            retry_after: wait.unwrap_or_default(),
        })
    }

    fn check_deadline(
        &self,
        spec: &TaskSpec,
        start: Option<Start>,
        turnovers: u64,
    ) -> Result<(), RejectReason> {
        let (Some(deadline), Some(start)) = (spec.deadline, start) else { return Ok(()) };
        let Some(model) = self.models.get(&spec.model) else { return Ok(()) };
        let experience = &model.experience;
        let chance = experience.chance_permille(spec, start, turnovers, deadline);
        if u64::from(self.config.on_time_percent_min) * 10 <= chance {
            return Ok(());
        }
        let length = experience.length(spec);
        let earliest = start.expected.plus(experience.service(spec, length));
        Err(RejectReason::DeadlineUnmet { earliest })
    }

    /// Lets the newcomer in if there is room, or by pushing out whom the policy names.
    fn make_room(
        &mut self,
        spec: &TaskSpec,
        start: Option<Start>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RejectReason> {
        let capacity = self.config.queue_capacity as usize;
        let total = self.queue.len() + self.sessions.behind_len();
        let of_model =
            self.queue.len_of_model(spec.model) + self.sessions.behind_of_model(spec.model);
        if of_model < capacity && total < TOTAL_CAPACITY_FACTOR * capacity {
            return Ok(());
        }
        let victim = match self.config.full_policy {
            FullPolicy::Reject => None,
            FullPolicy::DropLru => {
                self.oldest_of_lowest(spec.model).map(|it| (it, Ending::Dropped))
            }
            FullPolicy::ShedLowPriority if spec.class == Class::Interactive => {
                let queued = self.queue.newest(spec.model, Class::Batch);
                let behind = self.sessions.newest_behind(spec.model, Class::Batch);
                queued.max(behind).map(|it| (it, Ending::Shed))
            }
            FullPolicy::ShedLowPriority => None,
        };
        let Some((victim, ending)) = victim else {
            // Half of the wait is over when half of the queue is gone.
            let half = start.map(|it| Micros(it.expected.0 / 2));
            let retry_after = half.unwrap_or(self.config.unready_wait);
            return Err(RejectReason::QueueFull { retry_after });
        };
        self.end_waiting(victim, ending, effects);
        Ok(())
    }

    fn oldest_of_lowest(&self, model: ModelId) -> Option<TaskId> {
        [Class::Batch, Class::Interactive].into_iter().find_map(|class| {
            let behind = self.sessions.oldest_behind(model, class);
            self.queue.oldest(model, class).into_iter().chain(behind).min()
        })
    }

    /// Which replicas can run the task.
    pub(super) fn route_of(&self, spec: &TaskSpec) -> Route {
        let rooms = self.models.get(&spec.model).map_or(&[][..], |it| &it.rooms.known);
        // Sizes that the same replicas hold must not tell routes apart. What no known room holds goes
        // where the room is not known.
        let unknown = if rooms.is_empty() { 0 } else { u64::MAX };
        let fitting = rooms.partition_point(|it| *it < needed(spec));
        let tokens = rooms.get(fitting).copied().unwrap_or(unknown);
        Route { tokens, ..bare_route(spec) }
    }

    /// Slots of the model's replicas that must come free for a task, its own included. `at`: its rank
    /// in its lane; `None`: at the end of it, before it was queued.
    ///
    /// A fluid picture of the decision order: the tenant's lane ahead of the task costs it virtual
    /// time; while its counter moves from the smallest one to there, every competing tenant moves,
    /// too, and the other class takes its share.
    pub(super) fn turnovers(&self, spec: &TaskSpec, at: Option<u64>) -> u64 {
        let Some(model) = self.models.get(&spec.model) else { return 1 };
        let (id, tenant, class) = (spec.model, spec.tenant, spec.class);
        let own = at.unwrap_or_else(|| {
            let due = self.now.after(spec.deadline.unwrap_or(self.config.class(class).patience));
            self.queue.rank(id, tenant, class, (due, spec.task))
        });
        let cost = u128::from(model.experience.cost(spec));
        let weight = u128::from(self.queue.weight(tenant));
        // In thousandths of a token per unit of weight, like the counters.
        let ahead = u128::from(own) * cost * 1_000 / weight
            + u128::from(self.queue.lead(id, tenant, class));
        let waiting = self.queue.len_of_class(id, class) as u128;
        let weights = u128::from(self.queue.competing_weight(id, class)).max(weight);
        let before =
            (ahead * weights / (cost * 1_000)).clamp(u128::from(own), waiting.max(own.into()));
        let shares = Class::ALL
            .iter()
            .filter(|it| **it == class || 0 < self.queue.len_of_class(id, **it))
            .map(|it| u128::from(self.config.class(*it).weight))
            .sum::<u128>();
        let own_share = u128::from(self.config.class(class).weight.max(1));
        u64::try_from((before + 1) * shares.max(1) / own_share).unwrap_or(u64::MAX)
    }

    /// Slots that must come free for a newcomer, and its start.
    fn foresee(&self, spec: &TaskSpec) -> (u64, Option<Start>) {
        let turnovers = self.turnovers(spec, None);
        let start = self.predict(spec, turnovers);
        (turnovers, start.map(|it| self.behind_turns(spec, it, self.open_turns(spec))))
    }

    /// Predicted start of a task; `None` while nothing is Ready.
    pub(super) fn predict(&self, spec: &TaskSpec, turnovers: u64) -> Option<Start> {
        let model = self.models.get(&spec.model)?;
        if model.ready_slots == 0 {
            return None;
        }
        if self.queue.len_of_model(spec.model) == 0 && !self.queue.is_held(spec.tenant) {
            let route = self.route_of(spec);
            let takes = |it: &Replica| {
                admits(&route, &it.status).is_none() && self.has_slot_for(it, spec.class)
            };
            if model.free.iter().any(|it| takes(&self.replicas[it])) {
                return Some(Start::default());
            }
        }
        let backlog = Backlog { turnovers, slots: model.ready_slots };
        Some(model.experience.start(spec, backlog))
    }
}

/// What the task itself asks for, its size apart.
fn bare_route(spec: &TaskSpec) -> Route {
    let sorted = |pools: &[_]| {
        let mut pools = pools.to_vec();
        pools.sort_unstable();
        pools.dedup();
        pools
    };
    let pools = spec.pools.as_deref();
    Route {
        engine: spec.engine,
        tokens: 0,
        pin: pools.map_or_else(Vec::new, |it| sorted(&it.pin)),
        avoid: pools.map_or_else(Vec::new, |it| sorted(&it.avoid)),
    }
}
