//! The state machine: what is known of tasks and replicas, and the rules that move them.

mod admit;
mod crash;
mod dispatch;
mod fleet;
mod idle;
mod invariants;
mod preempt;
mod release;
mod restore;
mod sessions;
mod swap;
mod timers;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use crate::decision::DropReason;
use crate::event::{Effect, Event, Footprint, ReplicaStatus, Run, Usage};
use crate::ledger::Cost;
use crate::policy::{CoreConfig, ModelPolicy};
use crate::predict::{Experience, Speed, Start};
use crate::queue::{Place, Queue};
use crate::quota::Tenant;
use crate::ranked::Key;
use crate::types::{
    Attempt, Class, DeviceId, ModelId, ReplicaId, TaskId, TaskSpec, TenantId, Timestamp,
};

pub use restore::{
    SavedCounters, SavedEntry, SavedMeter, SavedQuota, SavedShares, SavedStanding, SavedTask,
};
pub use view::{Account, LaneView, Standing, SwapView, WaitReason};

/// Owned by one task of the shell; see the crate's documentation.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    now: Timestamp,
    /// Every task that waits or runs; ended ones are forgotten. Boxed: a node of the tree would
    /// otherwise leave half of its large entries empty.
    tasks: BTreeMap<TaskId, Box<Task>>,
    queue: Queue,
    tenants: BTreeMap<TenantId, Tenant>,
    replicas: BTreeMap<ReplicaId, Replica>,
    models: BTreeMap<ModelId, Model>,
    devices: BTreeMap<DeviceId, u64>,
    /// Replicas that make way for another model.
    fenced: BTreeSet<ReplicaId>,
    /// Replicas that could be loaded; where there are none, nothing is ever swapped.
    unloaded: BTreeSet<ReplicaId>,
    sessions: sessions::Sessions,
    timers: BTreeSet<(Timestamp, timers::Timer)>,
    /// Times of the preemptions of the last minute.
    preemptions: Vec<Timestamp>,
    /// The largest id submitted so far; ids ascend.
    last_task: Option<TaskId>,
}

#[derive(Debug)]
struct Task {
    spec: TaskSpec,
    admitted: Timestamp,
    /// Place in its lane: the deadline, or what stands for one.
    due: Timestamp,
    phase: Phase,
    /// Dispatches so far.
    attempts: u32,
    /// Those that no engine took.
    refused: u32,
    /// Those that count towards the most a task may have.
    failures: u32,
    predicted: Start,
    turnovers: u64,
    /// Of the current attempt.
    usage: Usage,
    /// Prompt tokens that its tenant has paid for.
    prompt_charged: u32,
    /// Tokens of earlier attempts that are part of the answer.
    kept_tokens: u32,
    /// Who pays for the next attempt's prompt: the one for whom this task was stopped.
    stopped_for: Option<TenantId>,
    preemptions: u8,
    suspicion: crash::Suspicion,
    /// Tokens taken from its tenant's limit, and when.
    reserved: Option<(Timestamp, u64)>,
    /// When to look whether it is still worth waiting.
    look_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued(Place),
    /// Waits for a replica of its own, outside of the queue: it may be what kills engines.
    Isolated,
    /// Waits for the turn before it in its session, outside of the queue.
    Behind,
    Running {
        run: Run,
        since: Timestamp,
        /// Told to stop for another task.
        stopping: bool,
        /// When it last made progress.
        progress: Timestamp,
    },
}

#[derive(Debug)]
struct Replica {
    status: ReplicaStatus,
    footprint: Footprint,
    /// Attempts that occupy a slot: running, or ended and not yet confirmed gone, with the tokens
    /// that each may fill.
    held: BTreeMap<(TaskId, Attempt), u64>,
    kv_reserved: u64,
    /// Refused or lost a request a moment ago and is spared until then.
    suspect_until: Option<Timestamp>,
    /// Times that it was tried and refused since it last took a request.
    refusals: u32,
    /// Takes no other task: this one must run alone.
    reserved_for: Option<TaskId>,
    /// A waiting model needs the memory: only tasks that arrived before this one start here.
    fence: Option<TaskId>,
    speed: Speed,
    swap: swap::Swap,
    idle: idle::Idle,
    /// Why it is not among its model's free ones, as counted there.
    ruled_out: Option<DropReason>,
}

#[derive(Debug, Default)]
struct Model {
    policy: ModelPolicy,
    replicas: BTreeSet<ReplicaId>,
    /// Ready ones with a free slot for any task.
    free: BTreeSet<ReplicaId>,
    /// How many are not free, by reason; no zeros.
    ruled_out: BTreeMap<DropReason, u32>,
    ready_slots: u64,
    rooms: Rooms,
    experience: Experience,
    running: [u64; 2],
    /// Running tasks that are told to stop.
    stopping: u64,
    isolated: BTreeSet<TaskId>,
    /// Replicas that are set aside, by the task that is to run there alone.
    reserved: BTreeMap<TaskId, ReplicaId>,
    /// Since when no replica is Ready and takes requests; `None` while one does.
    unready_since: Option<Timestamp>,
}

/// What a model's replicas hold, so that a submission need not look at each of them.
#[derive(Debug, Default)]
struct Rooms {
    /// Tokens that the longest task may fill, where known; ascending, each once.
    known: Vec<u64>,
    /// Of those that are not Down.
    hopeful: usize,
    hopeful_max: u64,
    /// One of them has not told its room.
    hopeful_unknown: bool,
}

impl Core {
    #[must_use]
    pub fn new(config: CoreConfig) -> Self {
        Self {
            config,
            now: Timestamp::default(),
            tasks: BTreeMap::new(),
            queue: Queue::default(),
            tenants: BTreeMap::new(),
            replicas: BTreeMap::new(),
            models: BTreeMap::new(),
            devices: BTreeMap::new(),
            fenced: BTreeSet::new(),
            unloaded: BTreeSet::new(),
            sessions: sessions::Sessions::default(),
            timers: BTreeSet::new(),
            preemptions: Vec::new(),
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
            Event::Progress { run, usage } => self.progressed(run, usage, &mut effects),
            Event::Finished { run, report, usage, slot_free } => {
                self.finished(run, report, usage, &mut effects);
                if slot_free {
                    self.slot_free(run, &mut effects);
                }
            }
            Event::SlotConfirmedFree(run) => self.slot_free(run, &mut effects),
            Event::ReplicaChanged { replica, status } => {
                self.replica_changed(replica, status, &mut effects);
            }
            Event::ReplicaFailed { replica, incarnation } => {
                self.replica_failed(replica, incarnation, &mut effects);
            }
            Event::ReplicaRemoved { replica } => self.replica_removed(replica, &mut effects),
            Event::FootprintChanged { replica, footprint } => {
                self.footprint_changed(replica, footprint);
            }
            Event::OrderFailed { replica } => self.order_failed(replica, &mut effects),
            Event::HandBack { pool } => self.hand_back(pool, &mut effects),
            Event::SessionHome { session, replica, incarnation } => {
                self.sessions.recall(session, sessions::Home { replica, incarnation });
            }
            Event::SessionEnded { session } => self.sessions.end(session, self.last_task),
            Event::DeviceChanged { device, memory_bytes } => {
                self.devices.insert(device, memory_bytes);
            }
            Event::TenantChanged { tenant, policy } => {
                self.tenants.entry(tenant).or_default().policy = policy;
                self.queue.set_weight(tenant, policy.weight_milli);
                self.refresh_hold(tenant, &mut effects);
            }
            Event::ModelChanged { model, policy } => {
                self.models.entry(model).or_default().policy = policy;
            }
            Event::Tick => {}
        }
        self.on_time(&mut effects);
        loop {
            self.begin_turns(&mut effects);
            self.plan_swaps(&mut effects);
            // A plan may end a task that had no time left.
            if !self.sessions.has_turns_to_begin() {
                return effects;
            }
        }
    }

    /// When the next [`Event::Tick`] is due, if any is: earlier ones do nothing.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.timers.first().map(|it| it.0)
    }

    fn task(&self, id: TaskId) -> &Task {
        &self.tasks[&id]
    }

    fn task_mut(&mut self, id: TaskId) -> &mut Task {
        self.tasks.get_mut(&id).expect("a task that is looked up is known")
    }

    /// The lane order of a task.
    fn key(&self, id: TaskId) -> Key {
        (self.task(id).due, id)
    }

    /// Charges a tenant and its class for `tokens` at `price`; negative tokens are given back.
    fn charge(
        &mut self,
        (model, tenant, class): (ModelId, TenantId, Class),
        tokens: i64,
        price: u32,
    ) {
        if tokens == 0 {
            return;
        }
        let cost_milli = self.models.get(&model).map_or(1_000, |it| it.policy.cost_milli);
        let class_weight = self.config.class(class).weight;
        let cost = Cost::of(tokens, price, cost_milli.max(1));
        self.queue.charge(model, tenant, (class, class_weight), cost);
    }

    /// Keeps a tenant out of the order of service while it is at a limit of its own.
    fn refresh_hold(&mut self, tenant: TenantId, effects: &mut Vec<Effect>) {
        let held = self.tenants.get(&tenant).is_some_and(Tenant::is_held);
        let freed = self.queue.is_held(tenant) && !held;
        self.queue.hold(tenant, held);
        if freed {
            let models: Vec<_> = self.queue.models_of(tenant);
            models.into_iter().for_each(|it| self.dispatch(it, effects));
        }
    }
}

impl Task {
    /// Tokens of the answer so far.
    fn output(&self) -> u32 {
        self.kept_tokens.saturating_add(self.usage.output_tokens)
    }

    /// An engine has taken it: only a first start can come too late.
    fn has_begun(&self) -> bool {
        self.refused < self.attempts
    }

    fn running(&self) -> Option<Run> {
        match self.phase {
            Phase::Running { run, .. } => Some(run),
            Phase::Queued(_) | Phase::Isolated | Phase::Behind => None,
        }
    }
}

impl Replica {
    fn new(status: ReplicaStatus) -> Self {
        Self {
            status,
            footprint: Footprint::default(),
            held: BTreeMap::new(),
            kv_reserved: 0,
            suspect_until: None,
            refusals: 0,
            reserved_for: None,
            fence: None,
            speed: Speed::default(),
            swap: swap::Swap::default(),
            idle: idle::Idle::default(),
            ruled_out: None,
        }
    }

    fn busy(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    fn free_slots(&self) -> u32 {
        self.status.slots.saturating_sub(self.busy())
    }

    fn hold(&mut self, task: TaskId, attempt: Attempt, tokens: u64) {
        self.held.insert((task, attempt), tokens);
        self.kv_reserved += tokens;
    }

    /// False if the attempt holds no slot here.
    fn release(&mut self, task: TaskId, attempt: Attempt) -> bool {
        let tokens = self.held.remove(&(task, attempt));
        self.kv_reserved -= tokens.unwrap_or(0);
        tokens.is_some()
    }
}
