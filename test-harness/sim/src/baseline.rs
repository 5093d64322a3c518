//! What others do: one queue in the order of arrival, turns by request, strict classes, and token
//! counters without the lift. None is crippled: each uses every free slot at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use orchestrator_core::{
    Attempt, Availability, Class, Effect, Ending, Event, Micros, ModelId, RejectReason, ReplicaId,
    ReplicaStatus, Report, Run, TaskId, TaskSpec, TenantId, Timestamp,
};

use crate::scheduler::Scheduler;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// First come, first served.
    Fifo,
    /// Tenants take turns, a request each.
    RoundRobin,
    /// Interactive first, whatever waits.
    Strict,
    /// The smallest token counter first; who comes back keeps the counter it had.
    CountersWithoutLift,
}

pub(crate) struct Baseline {
    order: Order,
    capacity: usize,
    queues: BTreeMap<(Class, TenantId), VecDeque<TaskSpec>>,
    queued: usize,
    replicas: BTreeMap<ReplicaId, Replica>,
    running: BTreeMap<TaskId, (Run, TaskSpec, u32)>,
    /// Turns taken, or tokens over weight.
    counters: BTreeMap<TenantId, f64>,
    weights: BTreeMap<TenantId, f64>,
    turns: f64,
}

struct Replica {
    status: ReplicaStatus,
    held: BTreeSet<TaskId>,
    /// Has been told to load or unload.
    ordered: bool,
}

impl Baseline {
    pub(crate) fn new(order: Order, capacity: usize) -> Self {
        Self {
            order,
            capacity,
            queues: BTreeMap::new(),
            queued: 0,
            replicas: BTreeMap::new(),
            running: BTreeMap::new(),
            counters: BTreeMap::new(),
            weights: BTreeMap::new(),
            turns: 0.0,
        }
    }

    /// The queue whose head is next.
    fn next(&self) -> Option<(Class, TenantId)> {
        let heads = self.queues.iter().filter_map(|(key, it)| Some((*key, it.front()?)));
        let by_arrival = |head: &TaskSpec| head.task;
        match self.order {
            Order::Fifo => heads.min_by_key(|it| by_arrival(it.1)).map(|it| it.0),
            Order::Strict => heads.min_by_key(|it| (it.0.0, by_arrival(it.1))).map(|it| it.0),
            Order::RoundRobin | Order::CountersWithoutLift => {
                let counter = |tenant: TenantId| self.counters.get(&tenant).copied().unwrap_or(0.0);
                let order =
                    |a: TenantId, b: TenantId| counter(a).total_cmp(&counter(b)).then(a.cmp(&b));
                heads.min_by(|a, b| order(a.0.1, b.0.1)).map(|it| it.0)
            }
        }
    }

    fn dispatch(&mut self, effects: &mut Vec<Effect>) {
        while let Some(key) = self.next() {
            let model = self.queues[&key][0].model;
            let free = self
                .replicas
                .iter()
                .filter(|(_, it)| it.status.model == model && !it.ordered)
                .filter(|(_, it)| it.status.availability == Availability::Ready)
                .filter(|(_, it)| it.held.len() < it.status.slots as usize)
                .min_by_key(|(id, it)| (it.held.len(), **id))
                .map(|(id, _)| *id);
            let Some(replica) = free else {
                self.swap_in(model, effects);
                return;
            };
            let spec = self.queues.get_mut(&key).and_then(VecDeque::pop_front);
            let Some(spec) = spec else { return };
            self.queued -= 1;
            self.start(spec, replica, effects);
        }
    }

    fn start(&mut self, spec: TaskSpec, replica: ReplicaId, effects: &mut Vec<Effect>) {
        let run = Run { task: spec.task, attempt: Attempt(1), replica };
        if let Some(it) = self.replicas.get_mut(&replica) {
            it.held.insert(spec.task);
        }
        match self.order {
            Order::RoundRobin => {
                self.turns += 1.0;
                self.counters.insert(spec.tenant, self.turns);
            }
            Order::CountersWithoutLift => self.charge(spec.tenant, f64::from(spec.prompt_tokens)),
            Order::Fifo | Order::Strict => {}
        }
        self.running.insert(spec.task, (run, spec, 0));
        effects.push(Effect::Dispatch { run, kept_tokens: 0 });
    }

    fn charge(&mut self, tenant: TenantId, tokens: f64) {
        let weight = self.weights.get(&tenant).copied().unwrap_or(1.0);
        *self.counters.entry(tenant).or_default() += tokens / weight;
    }

    /// Unloads what is idle and loads the model that is next: one device.
    fn swap_in(&mut self, model: ModelId, effects: &mut Vec<Effect>) {
        let wanted = self.replicas.iter().find(|(_, it)| it.status.model == model).map(|it| *it.0);
        let Some(wanted) = wanted else { return };
        if self.replicas[&wanted].status.availability != Availability::Unloaded {
            return;
        }
        let resident: Vec<ReplicaId> = self
            .replicas
            .iter()
            .filter(|(_, it)| it.status.availability != Availability::Unloaded || it.ordered)
            .map(|(id, _)| *id)
            .collect();
        if resident.is_empty() {
            self.order(wanted);
            effects.push(Effect::Load { replica: wanted });
        }
        for id in resident {
            let it = &self.replicas[&id];
            if it.status.availability == Availability::Ready && it.held.is_empty() && !it.ordered {
                self.order(id);
                effects.push(Effect::Unload { replica: id });
            }
        }
    }

    fn order(&mut self, replica: ReplicaId) {
        if let Some(it) = self.replicas.get_mut(&replica) {
            it.ordered = true;
        }
    }

    fn used(&mut self, task: TaskId, output: u32) {
        let Some((_, spec, before)) = self.running.get_mut(&task) else { return };
        let made = output - *before;
        *before = output;
        let tenant = spec.tenant;
        if self.order == Order::CountersWithoutLift {
            self.charge(tenant, 2.0 * f64::from(made));
        }
    }

    fn submit(&mut self, spec: TaskSpec, effects: &mut Vec<Effect>) {
        let task = spec.task;
        if self.capacity <= self.queued {
            let reason = RejectReason::QueueFull { retry_after: Micros(0) };
            effects.push(Effect::Rejected { task, reason });
            return;
        }
        self.queued += 1;
        self.queues.entry((spec.class, spec.tenant)).or_default().push_back(spec);
        effects.push(Effect::Admitted {
            task,
            position: 0,
            predicted_start: None,
            predicted_start_p90: None,
        });
    }
}

impl Scheduler for Baseline {
    fn apply(&mut self, _now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Submitted(spec) => self.submit(spec, &mut effects),
            Event::Progress { run, usage } => self.used(run.task, usage.output_tokens),
            Event::Finished { run, report: Report::Completed, usage, .. } => {
                self.used(run.task, usage.output_tokens);
                self.running.remove(&run.task);
                if let Some(it) = self.replicas.get_mut(&run.replica) {
                    it.held.remove(&run.task);
                }
                effects.push(Effect::Ended { task: run.task, ending: Ending::Completed });
            }
            Event::ReplicaChanged { replica, status } => {
                let fresh = Replica { status, held: BTreeSet::new(), ordered: false };
                let known = self.replicas.entry(replica).or_insert(fresh);
                known.status = status;
                known.ordered = false;
            }
            Event::TenantChanged { tenant, policy } => {
                self.weights.insert(tenant, f64::from(policy.weight_milli) / 1_000.0);
            }
            // A scenario of crashes or preemption has no baseline.
            Event::CancelRequested { .. }
            | Event::Finished { .. }
            | Event::SlotConfirmedFree(_)
            | Event::ReplicaFailed { .. }
            | Event::ReplicaRemoved { .. }
            | Event::FootprintChanged { .. }
            | Event::OrderFailed { .. }
            | Event::HandBack { .. }
            | Event::SessionHome { .. }
            | Event::SessionEnded { .. }
            | Event::DeviceChanged { .. }
            | Event::ModelChanged { .. }
            | Event::Tick => {}
        }
        self.dispatch(&mut effects);
        effects
    }
}
