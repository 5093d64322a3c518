//! The one task that owns the core: takes commands, applies events, performs effects.
//!
//! Others hold a cloneable [`Handle`]. A panic in here ends the process: a scheduler in an unknown
//! state must not go on.

mod effects;
mod endings;
mod explain;
mod handle;
mod policy;
mod positions;
mod saving;
mod sessions;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api_types::{Swap, SwapDirection};
use config_schema::{ConcurrentTurns, Config, Retention};
use orchestrator_core::{
    Availability, Core, Event, PoolId, ReplicaId, ReplicaStatus, SessionId, SwapView, TaskId,
    Timestamp,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub(crate) use endings::{Rejection, admission, close_failed, close_with_end};
pub(crate) use handle::{Command, Handle, Leavings, QueuePicture, Submission, SubmitReply};

use crate::artifacts::Artifacts;
use crate::attempt::AttemptConfig;
use crate::clock::Clock;
use crate::fleet::{Directory, FleetChange, FleetWatch, Place, settle};
use crate::journal::Outbox;
use crate::sessions::Sessions;
use crate::task::{Finished, Store, TaskRecord};
use crate::telemetry::Telemetry;
use crate::tenants::Tenants;

/// Commands that may wait for the driver. Each holds a request or an attempt that waits for it, and
/// those are bounded by connections and slots; past this they wait to send.
const COMMANDS_MAX: usize = 4_096;

/// Commands taken before the timers are looked at again.
const BATCH: usize = 256;

/// Ended tasks that stay in memory where the journal has them all.
const RECENT: Retention = Retention { ttl_ms: 60_000, bytes: 16 << 20, tasks: 1_000 };

/// How often the counters of fairness are written, at most.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);

/// How often waiting tasks' places are refreshed, at most.
const POSITIONS_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Driver {
    core: Core,
    clock: Clock,
    tenants: Arc<Tenants>,
    /// Where durable tasks are written.
    outbox: Option<Outbox>,
    /// Where transcripts are kept.
    artifacts: Option<Artifacts>,
    commands: mpsc::Receiver<Command>,
    store: Store,
    /// Records of tasks that are queued or running, by the core's id.
    open: HashMap<TaskId, Arc<TaskRecord>>,
    finished: Finished,
    sessions: Sessions,
    /// Sessions whose last turn ran in an earlier life, until its replica turns up.
    homes: BTreeMap<Place, Vec<SessionId>>,
    /// A turn is refused while another one of its session is open.
    one_turn_at_a_time: bool,
    directory: Directory,
    /// Replicas that are being loaded on our order.
    loading: BTreeSet<ReplicaId>,
    /// When a task without readers is cancelled.
    leaving: BTreeSet<(Instant, TaskId)>,
    /// When the tasks of a pool that drains are handed back.
    drains: BTreeMap<PoolId, Instant>,
    positions_due: Option<Instant>,
    /// When the counters of fairness are to be written.
    counters_due: Option<Instant>,
    next_task: u64,
    attempts: AttemptConfig,
    handle: Handle,
    tracker: TaskTracker,
    telemetry: Arc<Telemetry>,
    /// Streams of running tasks tell how they fare.
    sse_metrics: bool,
    shutting_down: bool,
}

/// Builds the driver and its handle; nothing runs until [`Driver::run`] is spawned.
pub(crate) fn build(
    config: &Config,
    directory: Directory,
    telemetry: Arc<Telemetry>,
    (tracker, clock): (TaskTracker, Clock),
    (tenants, outbox, artifacts): (Arc<Tenants>, Option<Outbox>, Option<Artifacts>),
) -> (Driver, Handle) {
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let store = Store::default();
    let handle = Handle::new(sender, store.clone(), tracker.clone());
    let limits = match outbox {
        None => config.retention,
        Some(_) => Retention { ttl_ms: config.retention.ttl_ms.min(RECENT.ttl_ms), ..RECENT },
    };
    let costs = directory.model_costs(&config.model_costs).map(|(id, cost)| (id, cost.into()));
    let sessions = Sessions::new(config.sessions, costs.collect());
    let driver = Driver {
        core: policy::core(config, &directory, clock.now()),
        clock,
        tenants,
        outbox,
        artifacts,
        commands,
        store,
        open: HashMap::new(),
        finished: Finished::new(limits),
        sessions,
        homes: BTreeMap::new(),
        one_turn_at_a_time: config.sessions.concurrent == ConcurrentTurns::Reject,
        directory,
        loading: BTreeSet::new(),
        leaving: BTreeSet::new(),
        drains: BTreeMap::new(),
        positions_due: None,
        counters_due: None,
        next_task: 0,
        attempts: AttemptConfig::new(config),
        handle: handle.clone(),
        tracker,
        telemetry,
        sse_metrics: config.sse.metrics,
        shutting_down: false,
    };
    (driver, handle)
}

impl Driver {
    pub(crate) fn fleet(&self) -> FleetWatch {
        self.directory.watch()
    }

    /// Runs until every handle is gone or [`Command::Stop`] comes.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wakeup = self.next_wakeup();
            let timer = async {
                match wakeup {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                taken = self.commands.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                }
                () = timer => {}
            }
            for command in batch.drain(..) {
                if matches!(command, Command::Stop) {
                    return;
                }
                self.perform(command);
            }
            self.on_time();
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Submit { submission, reply } => {
                let answer = self.submit(*submission);
                // A caller that is gone has a task all the same; its `on_disconnect` decides.
                let _gone = reply.send(answer);
            }
            Command::Cancel { task, reply } => {
                self.apply(Event::CancelRequested { task });
                let _gone = reply.send(());
            }
            Command::ReaderLeft { record } => self.reader_left(&record),
            Command::Core(event) => {
                let progress =
                    if let Event::Progress { run, .. } = &event { Some(*run) } else { None };
                if let Event::Finished { run, .. } = &event {
                    self.stop_turn(*run);
                }
                self.apply(event);
                progress.into_iter().for_each(|it| self.tell_metrics(it.task));
            }
            Command::ShowSession { key, reply } => {
                let _gone = reply.send(self.show_session(&key));
            }
            Command::EndSession { key, reply } => {
                let _gone = reply.send(self.end_session(&key));
            }
            Command::Fleet(change) => self.fleet_changed(change),
            Command::Drain { pool, hand_back_in } => {
                self.drains.remove(&pool);
                self.drains.extend(hand_back_in.map(|it| (pool, Instant::now() + it)));
            }
            Command::Standing { task, reply } => {
                let _gone = reply.send(self.core.standing(task));
            }
            Command::Explain { record, reply } => {
                let _gone = reply.send(self.explain(&record));
            }
            Command::Queue { reply } => {
                let _gone = reply.send(self.queue());
            }
            Command::BusySlots { reply } => {
                let busy = self.directory.replica_ids().map(|it| (it, self.core.busy_slots(it)));
                let _gone = reply.send(busy.collect());
            }
            Command::NotStored(record) => self.not_stored(&record),
            Command::Idle { reply } => {
                let _gone = reply.send(self.is_idle());
            }
            Command::ShutDown => self.shutting_down = true,
            Command::EndAll => {
                self.save_running_sessions();
                self.end_all();
            }
            Command::Stop => {}
        }
    }

    fn queue(&self) -> QueuePicture {
        let lanes = self.core.lanes();
        let named = lanes.into_iter().map(|it| (self.directory.model_name(it.model), it));
        let swaps = self.core.swaps();
        let swap = |it: SwapView| Swap {
            replica_id: self.directory.replica_name(it.replica),
            model_id: self.directory.model_name(it.model),
            direction: if it.loading { SwapDirection::In } else { SwapDirection::Out },
        };
        QueuePicture { lanes: named.collect(), swaps: swaps.into_iter().map(swap).collect() }
    }

    fn apply(&mut self, event: Event) {
        if self.outbox.is_some() && moves_counters(&event) {
            self.counters_due.get_or_insert(Instant::now() + COUNTERS_EVERY);
        }
        let effects = self.core.apply(self.now(), event);
        for effect in effects {
            self.perform_effect(effect);
        }
        debug_assert_eq!(self.core.violations(), Vec::<String>::new());
    }

    fn fleet_changed(&mut self, change: FleetChange) {
        for event in self.directory.update(change) {
            if let Event::ReplicaChanged { replica, status } = &event {
                self.recall_homes(*replica);

                self.count_swap(*replica, status);
            }
            self.apply(event);
        }
        for (replica, entry) in self.directory.start_settling() {
            let (handle, limit) = (self.handle.clone(), self.attempts.release_timeout);
            self.tracker.spawn(async move {
                settle(entry.adapter.as_ref(), limit).await;
                handle.send(Command::Fleet(FleetChange::Settled { replica })).await;
            });
        }
        self.positions_due.get_or_insert(Instant::now());
    }

    /// Counts a load of ours that has ended.
    fn count_swap(&mut self, replica: ReplicaId, status: &ReplicaStatus) {
        let outcome = match status.availability {
            Availability::Ready => "loaded",
            Availability::Unloaded | Availability::Down => "failed",
            Availability::Coming | Availability::Draining => return,
        };
        if self.loading.remove(&replica) {
            self.telemetry.swapped(&self.directory.model_name(status.model), outcome);
        }
    }

    /// Starts the clock of a task that nobody reads any more; `on_disconnect` is `cancel`.
    fn reader_left(&mut self, record: &Arc<TaskRecord>) {
        if record.job.disconnect_grace.is_zero() {
            self.cancel_abandoned(record);
        } else {
            let at = Instant::now() + record.job.disconnect_grace;
            self.leaving.insert((at, record.core_id));
        }
    }

    fn cancel_abandoned(&mut self, record: &Arc<TaskRecord>) {
        if record.lock().readers == 0 {
            self.apply(Event::CancelRequested { task: record.core_id });
        }
    }

    /// Everything that is due by the clock.
    fn on_time(&mut self) {
        let now = Instant::now();
        if self.core.next_wakeup().is_some_and(|it| it <= self.now()) {
            self.apply(Event::Tick);
        }
        while let Some((at, task)) = self.leaving.first().copied() {
            if now < at {
                break;
            }
            self.leaving.remove(&(at, task));
            if let Some(record) = self.open.get(&task).cloned() {
                self.cancel_abandoned(&record);
            }
        }
        while let Some((&pool, _)) = self.drains.iter().find(|(_, at)| **at <= now) {
            self.drains.remove(&pool);
            self.apply(Event::HandBack { pool });
        }
        if self.positions_due.is_some_and(|it| it <= now) {
            self.refresh_positions();
        }
        self.end_expired_sessions();
        if self.counters_due.is_some_and(|it| it <= now) {
            self.save_counters();
            self.save_running_sessions();
        }
        while let Some(record) = self.finished.pop_excess(now) {
            self.store.remove(&record);
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let core = self.core.next_wakeup().map(|it| self.clock.instant(it));
        let leaving = self.leaving.first().map(|(at, _)| *at);
        let drain = self.drains.values().min().copied();
        let session = self.sessions.next_end().map(|it| self.clock.instant(it));
        let own = [self.positions_due, self.counters_due, self.finished.due(Instant::now())];
        [core, leaving, drain, session].into_iter().chain(own).flatten().min()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Whether somebody may be charged for something.
fn moves_counters(event: &Event) -> bool {
    matches!(event, Event::Submitted(_) | Event::Progress { .. } | Event::Finished { .. })
}
