//! Virtual time: engines, loads and a scheduler, event by event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write;

use orchestrator_core::{
    Availability, Effect, Ending, EngineId, Event, ModelId, PoolId, ReplicaId, ReplicaStatus,
    Report, Run, TaskId, TenantId, Timestamp, Usage,
};
use sha2::{Digest, Sha256};

use crate::engine::{Engine, Pace, Sequence, Step, Work};
use crate::gaps::Gaps;
use crate::hosts::{Host, Stats};
use crate::load::{Source, Truth};
use crate::random::Random;
use crate::scheduler::Scheduler;

pub(crate) const SECOND: u64 = 1_000_000;
/// How often a running task's progress is told. The product tells it up to every 200 ms; half a
/// second here saves half of the events and is the harder case.
const TELL_EVERY: u64 = 500_000;
/// Ticks at one moment, past which the scheduler's clock stands still.
const TICKS_MAX: u32 = 1_000;

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) scheduler: Box<dyn Scheduler>,
    heap: BinaryHeap<Reverse<(u64, u64, Item)>>,
    sequence: u64,
    pub(crate) hosts: BTreeMap<ReplicaId, Host>,
    pub(crate) sources: Vec<Source>,
    /// By task id, from 1.
    pub(crate) tasks: Vec<Truth>,
    confirm: Random,
    /// Seconds until an engine confirms a cancel.
    pub(crate) confirm_s: (f64, f64),
    pub(crate) stats: Stats,
    pub(crate) gaps: Option<Gaps>,
    pub(crate) timeline: Option<Sha256>,
    /// Events between two looks at the invariants; 0: never.
    pub(crate) check_every: u64,
    events: u64,
    ticks: u32,
    pub(crate) arrivals_until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Arrive(usize),
    Engine { replica: u32, version: u64 },
    Freed { task: u64, attempt: u32, replica: u32 },
    Stopped { task: u64, attempt: u32, replica: u32, output: u32 },
    Crash { replica: u32, incarnation: u64 },
    Back { replica: u32, incarnation: u64 },
    Changed { replica: u32 },
}

impl World {
    pub(crate) fn new(scheduler: Box<dyn Scheduler>, seed: u64) -> Self {
        Self {
            now: 0,
            scheduler,
            heap: BinaryHeap::new(),
            sequence: 0,
            hosts: BTreeMap::new(),
            sources: Vec::new(),
            tasks: Vec::new(),
            confirm: Random::new(seed, 2),
            confirm_s: (0.05, 0.3),
            stats: Stats::default(),
            gaps: None,
            timeline: None,
            check_every: 0,
            events: 0,
            ticks: 0,
            arrivals_until: u64::MAX,
        }
    }

    /// Adds a replica and tells the scheduler of it.
    pub(crate) fn add_host(&mut self, id: u32, model: u32, slots: u32, pace: Pace) -> &mut Host {
        let host = Host {
            engine: Engine::new(slots, pace),
            model: ModelId(model),
            availability: Availability::Ready,
            load: 0,
            kv_tokens: 0,
            interruptible: false,
            leaving: 0,
            crashes: None,
        };
        self.hosts.insert(ReplicaId(id), host);
        self.hosts.get_mut(&ReplicaId(id)).expect("inserted above")
    }

    /// Tells the scheduler what every replica is, and starts the loads.
    pub(crate) fn start(&mut self) {
        let ids: Vec<ReplicaId> = self.hosts.keys().copied().collect();
        for id in ids {
            self.tell_status(id);
            self.plan_crash(id);
        }
        for source in 0..self.sources.len() {
            for at in self.sources[source].first_arrivals() {
                self.push(at, Item::Arrive(source));
            }
        }
    }

    /// Runs until `until`, or until nothing happens any more.
    pub(crate) fn run(&mut self, until: u64) {
        loop {
            let next = self.heap.peek().map(|it| it.0.0);
            let wakeup = self.scheduler.next_wakeup().map(|it| it.0);
            let Some(at) = next.into_iter().chain(wakeup).min() else { return };
            if until < at || !self.stats.violations.is_empty() {
                break;
            }
            self.ticks = if at <= self.now { self.ticks + 1 } else { 0 };
            if TICKS_MAX * 100 < self.ticks {
                self.stats.violations.push(format!("the clock stands still at {at}"));
            }
            self.now = self.now.max(at);
            if wakeup == Some(at) {
                self.feed(Event::Tick);
            } else if let Some(Reverse((_, _, item))) = self.heap.pop() {
                self.happen(item);
            }
        }
        self.now = self.now.max(until);
        self.count_busy();
    }

    fn push(&mut self, at: u64, item: Item) {
        self.sequence += 1;
        self.heap.push(Reverse((at.max(self.now), self.sequence, item)));
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::Arrive(source) => self.arrive(source),
            Item::Engine { replica, version } => self.step(ReplicaId(replica), version),
            Item::Freed { task, attempt, replica } => {
                let run = run(task, attempt, replica);
                if self.give_back(run.replica) {
                    self.feed(Event::SlotConfirmedFree(run));
                }
            }
            Item::Stopped { task, attempt, replica, output } => {
                let run = run(task, attempt, replica);
                if self.give_back(run.replica) {
                    let usage = Usage { prompt_tokens: None, output_tokens: output };
                    let report = Report::Preempted;
                    self.feed(Event::Finished { run, report, usage, slot_free: true });
                }
            }
            Item::Crash { replica, incarnation } => {
                if self.hosts[&ReplicaId(replica)].engine.incarnation == incarnation {
                    self.crash(ReplicaId(replica));
                }
            }
            Item::Back { replica, incarnation } => {
                let id = ReplicaId(replica);
                let host = self.host(id);
                if host.engine.incarnation == incarnation {
                    host.availability = Availability::Ready;
                    self.tell_status(id);
                    self.plan_crash(id);
                }
            }
            Item::Changed { replica } => self.tell_status(ReplicaId(replica)),
        }
    }

    fn arrive(&mut self, source: usize) {
        if self.arrivals_until <= self.now {
            return;
        }
        let id = self.tasks.len() as u64 + 1;
        let (truth, spec, next) = self.sources[source].draw(source, id, self.now);
        self.tasks.push(truth);
        if let Some(at) = next {
            self.push(at, Item::Arrive(source));
        }
        self.feed(Event::Submitted(spec));
    }

    /// Tells the scheduler, and does what it says.
    pub(crate) fn feed(&mut self, event: Event) {
        self.events += 1;
        self.stats.events = self.events;
        let effects = self.scheduler.apply(Timestamp(self.now), event);
        for effect in effects {
            // Reasons are no effects: they may grow without anything being done differently.
            let reason = matches!(effect, Effect::Decided(_));
            if let Some(timeline) = self.timeline.as_mut().filter(|_| !reason) {
                let mut line = String::new();
                writeln!(line, "{} {effect:?}", self.now).expect("a string takes every line");
                timeline.update(line);
            }
            self.perform(effect);
        }
        if self.check_every != 0 && self.events.is_multiple_of(self.check_every) {
            let found = self.scheduler.violations();
            let (at, events) = (self.now, self.events);
            let told = found.into_iter().map(|it| format!("at {at}, event {events}: {it}"));
            self.stats.violations.extend(told);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Admitted { task, predicted_start, predicted_start_p90, .. } => {
                let it = self.truth(task);
                it.admitted = true;
                it.predicted = predicted_start.map(|it| it.0);
                it.p90 = predicted_start_p90.map(|it| it.0);
                let tenant = it.tenant;
                if let Some(gaps) = &mut self.gaps {
                    gaps.queued(tenant, 1);
                }
            }
            Effect::Rejected { task, .. } => self.ended(task, None),
            Effect::Dispatch { run, .. } => self.dispatch(run),
            Effect::CancelOnReplica(run) => self.stop(run, false),
            Effect::Preempt(run) => self.stop(run, true),
            Effect::Ended { task, ending } => self.ended(task, Some(ending)),
            Effect::Load { replica } => {
                let at = self.now + self.hosts[&replica].load;
                let host = self.host(replica);
                host.availability = Availability::Coming;
                host.engine.incarnation += 1;
                let (model, incarnation) = (host.model, host.engine.incarnation);
                self.stats.loads.push((self.now, model));
                self.push(self.now, Item::Changed { replica: replica.0 });
                self.push(at, Item::Back { replica: replica.0, incarnation });
            }
            Effect::Unload { replica } => {
                let host = self.host(replica);
                assert!(host.engine.sequences.is_empty(), "a busy model is never evicted");
                host.availability = Availability::Unloaded;
                self.push(self.now, Item::Changed { replica: replica.0 });
            }
            Effect::Decided(_) => {}
        }
    }

    fn dispatch(&mut self, run: Run) {
        self.count_busy();
        let now = self.now;
        let task = self.truth(run.task);
        let (tenant, source, prompt, kept) = (task.tenant, task.source, task.prompt, task.kept);
        let first = task.dispatched.is_none();
        task.dispatched.get_or_insert(now);
        task.attempts += 1;
        let work = match task.fixed {
            Some(micros) => Work::Fixed { micros },
            None => Work::Tokens { prefill: prompt + kept, output: task.output - kept },
        };
        if first {
            self.serve(tenant, u64::from(prompt));
            if let Some(gaps) = &mut self.gaps {
                gaps.queued(tenant, -1);
            }
            self.again(source);
        } else {
            self.stats.recomputed += u64::from(prompt + kept);
        }
        self.host(run.replica).engine.start(now, run, work);
        let host = &self.hosts[&run.replica];
        let (held, slots) = (host.engine.sequences.len(), host.engine.slots as usize);
        assert!(held <= slots, "more sequences than slots on {:?}", run.replica);
        self.plan(run.replica);
    }

    /// A source that always has something queued submits the next.
    fn again(&mut self, source: usize) {
        if let Some(at) = self.sources[source].on_dispatch(self.now) {
            self.push(at, Item::Arrive(source));
        }
    }

    fn ended(&mut self, task: TaskId, ending: Option<Ending>) {
        let now = self.now;
        let it = self.truth(task);
        assert!(it.ended.is_none(), "{task:?} ends twice");
        it.ended = Some((now, ending));
        let (source, tenant, waited) = (it.source, it.tenant, it.dispatched.is_none());
        if let Some(gaps) = self.gaps.as_mut().filter(|_| waited && ending.is_some()) {
            gaps.queued(tenant, -1);
        }
        if let Some(at) = self.sources[source].on_end(now) {
            self.push(at, Item::Arrive(source));
        }
    }

    fn stop(&mut self, run: Run, keep: bool) {
        self.count_busy();
        let now = self.now;
        let Some(sequence) = self.host(run.replica).engine.remove(now, run) else { return };
        self.host(run.replica).leaving += 1;
        let (low, high) = self.confirm_s;
        let at = now + micros(self.confirm.uniform(low, high));
        let (task, attempt, replica) = (run.task.0, run.attempt.0, run.replica.0);
        if keep {
            self.stats.preemptions += 1;
            let output = sequence.made();
            let truth = self.truth(run.task);
            truth.kept += output;
            truth.preemptions += 1;
            self.push(at, Item::Stopped { task, attempt, replica, output });
        } else {
            self.push(at, Item::Freed { task, attempt, replica });
        }
        self.plan(run.replica);
    }

    /// A slot of a stopped attempt is confirmed free; false if the engine died meanwhile.
    fn give_back(&mut self, replica: ReplicaId) -> bool {
        self.count_busy();
        let host = self.host(replica);
        let was_held = host.leaving != 0;
        host.leaving = host.leaving.saturating_sub(1);
        self.stats.releases.push(self.now);
        was_held
    }

    fn step(&mut self, id: ReplicaId, version: u64) {
        let now = self.now;
        let host = self.host(id);
        if host.engine.version != version {
            return;
        }
        host.engine.advance(now);
        while let Some(step) = self.host(id).engine.take_step() {
            match step {
                Step::Prefilled(run) => {
                    if self.truth(run.task).poison {
                        self.truth(run.task).kills += 1;
                        self.crash(id);
                        return;
                    }
                }
                Step::Done(run) => self.done(run),
            }
        }
        self.tell_progress(id);
        self.plan(id);
    }

    fn done(&mut self, run: Run) {
        self.count_busy();
        let now = self.now;
        let Some(sequence) = self.host(run.replica).engine.remove(now, run) else { return };
        self.stats.releases.push(now);
        let task = self.truth(run.task);
        task.first_token.get_or_insert(now);
        let prompt = task.prompt + task.kept;
        let (tenant, made) = (task.tenant, sequence.made());
        task.kept += made;
        self.serve(tenant, 2 * u64::from(made - sequence.told));
        let usage = Usage { prompt_tokens: Some(prompt), output_tokens: made };
        self.feed(Event::Finished { run, report: Report::Completed, usage, slot_free: true });
    }

    fn tell_progress(&mut self, id: ReplicaId) {
        let now = self.now;
        let due = |it: &Sequence| {
            let first = it.told == 0 && 0 < it.made();
            first || it.told < it.made() && it.told_at + TELL_EVERY <= now
        };
        let engine = &mut self.host(id).engine;
        let mut told = Vec::new();
        for it in engine.sequences.iter_mut().filter(|it| it.prefilled) {
            if due(it) {
                let made = it.made();
                told.push((it.run, made, made - it.told));
                (it.told, it.told_at) = (made, now);
            }
        }
        for (run, made, new) in told {
            let task = self.truth(run.task);
            task.first_token.get_or_insert(now);
            let tenant = task.tenant;
            self.serve(tenant, 2 * u64::from(new));
            let usage = Usage { prompt_tokens: None, output_tokens: made };
            self.feed(Event::Progress { run, usage });
        }
    }

    fn crash(&mut self, id: ReplicaId) {
        self.count_busy();
        let now = self.now;
        let host = self.host(id);
        let incarnation = host.engine.incarnation;
        let aboard = host.engine.crash(now);
        host.leaving = 0;
        host.availability = Availability::Coming;
        let back = host.crashes.as_ref().map_or(15 * SECOND, |it| it.back_after);
        for sequence in aboard {
            let made = sequence.made();
            self.truth(sequence.run.task).kept += made;
        }
        self.feed(Event::ReplicaFailed { replica: id, incarnation });
        self.tell_status(id);
        let incarnation = incarnation + 1;
        self.push(now + back, Item::Back { replica: id.0, incarnation });
    }

    fn plan_crash(&mut self, id: ReplicaId) {
        let now = self.now;
        let host = self.host(id);
        let incarnation = host.engine.incarnation;
        let Some(crashes) = &mut host.crashes else { return };
        let at = now + micros(crashes.random.exponential(crashes.mean_s));
        self.push(at, Item::Crash { replica: id.0, incarnation });
    }

    fn tell_status(&mut self, id: ReplicaId) {
        let host = &self.hosts[&id];
        let status = ReplicaStatus {
            model: host.model,
            pool: PoolId(id.0),
            engine: EngineId(0),
            incarnation: host.engine.incarnation,
            availability: host.availability,
            slots: host.engine.slots,
            context_tokens: 0,
            kv_tokens: host.kv_tokens,
            interruptible: host.interruptible,
            spread: 0,
        };
        self.feed(Event::ReplicaChanged { replica: id, status });
    }

    /// Schedules the next look at an engine.
    fn plan(&mut self, id: ReplicaId) {
        let now = self.now;
        let engine = &self.hosts[&id].engine;
        let Some(next) = engine.next_at() else { return };
        let told = engine.sequences.iter().filter(|it| it.prefilled).map(|it| it.told_at).min();
        let tell = told.map_or(u64::MAX, |it| (it + TELL_EVERY).max(now + TELL_EVERY / 10));
        let version = engine.version;
        self.push(next.min(tell), Item::Engine { replica: id.0, version });
    }

    fn serve(&mut self, tenant: TenantId, tokens: u64) {
        let second = usize::try_from(self.now / SECOND).unwrap_or(usize::MAX);
        let seconds = self.stats.service.entry(tenant).or_default();
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += tokens;
        if let Some(gaps) = &mut self.gaps {
            gaps.served(tenant, tokens);
        }
    }

    pub(crate) fn count_busy(&mut self) {
        let held: u64 =
            self.hosts.values().map(|it| it.engine.sequences.len() as u64 + it.leaving).sum();
        self.stats.busy += held * (self.now - self.stats.busy_at);
        self.stats.busy_at = self.now;
    }

    fn host(&mut self, id: ReplicaId) -> &mut Host {
        self.hosts.get_mut(&id).expect("the scheduler names known replicas")
    }

    fn truth(&mut self, task: TaskId) -> &mut Truth {
        let index = usize::try_from(task.0 - 1).expect("as many tasks as memory holds");
        &mut self.tasks[index]
    }
}

fn run(task: u64, attempt: u32, replica: u32) -> Run {
    Run {
        task: TaskId(task),
        attempt: orchestrator_core::Attempt(attempt),
        replica: ReplicaId(replica),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, in range")]
pub(crate) fn micros(seconds: f64) -> u64 {
    libm::round(seconds * 1e6) as u64
}
