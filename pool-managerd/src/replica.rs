//! One task per replica: waits for what happens, asks the supervisor, does what it says.

mod adopt;
mod ask;
mod kv_cache;
mod load;
mod orders;
mod reach;
mod reload;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use adapter_api::Adapter;
use config_schema::{EngineSource, ManagerConfig, PoolConfig, Residency};
use pool_api::ReplicaState;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::devices::Devices;
use crate::dialect;
use crate::digest::Digests;
use crate::drained::Drained;
use crate::engine::{EngineCommand, Environment, Ports, Process};
use crate::host::Host;
use crate::jobs::Jobs;
use crate::kept::Kept;
use crate::measured::Measured;
use crate::memory::{Hold, Memory};
use crate::succession::Succession;
use crate::supervisor::{Effect, Event, Failure, Millis, Policy, Supervisor};
use crate::telemetry::Telemetry;
pub(crate) use adopt::end_strays;
use kv_cache::KvCacheWatch;
use orders::Ordered;
pub(crate) use orders::{Inbox, NewModel, Outbox, Wished};
use reach::Reach;
use reload::Reload;

/// What the replicas of a host share.
pub(crate) struct Site {
    pub(crate) config: ManagerConfig,
    pub(crate) host: Host,
    pub(crate) telemetry: Telemetry,
    pub(crate) environment: Environment,
    pub(crate) ports: Ports,
    pub(crate) digests: Digests,
    pub(crate) devices: Arc<Devices>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) measured: Measured,
    pub(crate) jobs: Jobs,
    pub(crate) kept: Kept,
    pub(crate) drained: Drained,
    pub(crate) succession: Succession,
    /// Where each replica takes its orders, by pool.
    pub(crate) outboxes: Vec<Vec<Outbox>>,
    /// Jobs of whole pools.
    pub(crate) tracker: TaskTracker,
    /// Cancelled when another manager takes the engines over.
    pub(crate) hand_over: CancellationToken,
    /// Cancelled first: take nothing new.
    pub(crate) drain: CancellationToken,
    /// Cancelled when the drain is over: stop the engines.
    pub(crate) stop: CancellationToken,
    /// Cancelled if that takes too long for somebody: without grace.
    pub(crate) hurry: CancellationToken,
}

/// Which pool, and which of its replicas.
pub(crate) type Place = (usize, usize);

type Question = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// An event, and what came with it.
struct Answered {
    event: Event,
    hold: Option<Hold>,
}

impl From<Event> for Answered {
    fn from(event: Event) -> Self {
        Self { event, hold: None }
    }
}

pub(crate) struct ReplicaTask {
    site: Arc<Site>,
    /// As configured, or with the model that it was reloaded with.
    pool: PoolConfig,
    /// As it was before its last reload.
    before: PoolConfig,
    pool_index: usize,
    index: usize,
    supervisor: Supervisor,
    started: Instant,
    process: Option<Process>,
    /// Where the present incarnation is reached.
    engine: Option<Arc<dyn Adapter>>,
    at: Option<Reach>,
    /// While that serves.
    kv_cache: Option<KvCacheWatch>,
    /// The memory of the engine that runs, or is about to.
    hold: Option<Hold>,
    /// The one question under way.
    question: Option<Question>,
    inbox: Inbox,
    device_changes: watch::Receiver<u64>,
    /// The job that is under way here.
    job: Option<Ordered>,
    reload: Option<Reload>,
    /// What the load of an engine took that was made ready beside another, and is about to serve.
    loaded_beside_ms: Option<u64>,
    /// The model before a reload that has failed is to be loaded again.
    restoring: bool,
    /// How far the end has come: what the supervisor was told of drain, stop and hurry.
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Drain,
    Stop,
    Hurry,
}

impl ReplicaTask {
    pub(crate) fn new(site: Arc<Site>, (pool_index, index): Place, inbox: Inbox) -> Self {
        let pool = site.config.pools[pool_index].clone();
        let policy = Policy {
            managed: matches!(pool.source, EngineSource::Managed { .. }),
            on_demand: pool.residency == Residency::OnDemand,
            start_timeout_ms: pool.start_timeout_ms,
            stop_grace_ms: match &pool.source {
                EngineSource::Managed { stop_grace_ms, .. } => *stop_grace_ms,
                EngineSource::External { .. } => 0,
            },
            restart: pool.restart,
        };
        Self {
            supervisor: Supervisor::new(policy),
            started: Instant::now(),
            process: None,
            engine: None,
            at: None,
            kv_cache: None,
            hold: None,
            question: None,
            inbox,
            device_changes: site.devices.changes(),
            job: None,
            reload: None,
            loaded_beside_ms: None,
            restoring: false,
            told: Told::Nothing,
            site,
            before: pool.clone(),
            pool,
            pool_index,
            index,
        }
    }

    fn place(&self) -> Place {
        (self.pool_index, self.index)
    }

    /// Runs until the replica is stopped on request, or its engine is handed over.
    pub(crate) async fn run(mut self) {
        let hand_over = self.site.hand_over.clone();
        while self.supervisor.state() != ReplicaState::Stopped {
            let mut next = tokio::select! {
                next = self.next_event() => next,
                () = hand_over.cancelled() => {
                    self.hand_over();
                    break;
                }
            };
            while let Some(event) = next {
                self.apply(event).await;
                next = self.settle();
            }
            self.publish();
        }
        self.abandon_job();
    }

    async fn next_event(&mut self) -> Option<Event> {
        let due = self.supervisor.next_wakeup();
        let at = due.map(|it| self.started + Duration::from_millis(it));
        let event = tokio::select! {
            exit = exited(&mut self.process) => {
                self.process = None;
                self.hold = None;
                self.forget_kept();
                self.reach(None);
                self.question = None;
                Event::Exited { cause: exit.0, kind: exit.1 }
            }
            told = next_order(&self.site, self.told) => {
                self.told = told.0;
                told.1
            }
            answer = answered(&mut self.question) => {
                self.question = None;
                self.hold = answer.hold.or(self.hold.take());
                answer.event
            }
            prepared = reload::prepared(&mut self.reload) => return self.prepared(prepared),
            Some(ordered) = self.inbox.recv() => return self.ordered(ordered),
            Ok(()) = self.device_changes.changed() => self.devices_changed(),
            () = sleep_until(at) => Event::Tick,
        };
        Some(event)
    }

    /// Applies an event, and at once those that its effects bring about.
    async fn apply(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let now = self.now();
            let random = getrandom::u32().unwrap_or(u32::MAX);
            for effect in self.supervisor.apply(now, event, random) {
                next = self.perform(effect).await.or(next);
            }
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    async fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Check => self.check(),
            Effect::Reserve => self.reserve(),
            Effect::Spawn => return Some(self.spawn().await),
            Effect::AskHealth => {
                self.ask(ask::health);
                return self.progress();
            }
            Effect::Probe => {
                let workload = self.pool.workload;
                self.ask(|engine| ask::probe(engine, workload));
            }
            Effect::Recognise => self.ask(ask::recognise),
            Effect::AwaitIdle => self.ask(ask::await_idle),
            Effect::Forget => {
                self.question = None;
                self.hold = self.hold.take().filter(|_| self.process.is_some());
            }
            Effect::Kill => {
                self.question = None;
                if let Some(process) = &mut self.process {
                    process.kill();
                }
            }
            Effect::Terminate => {
                self.question = None;
                if let Some(process) = &self.process {
                    process.terminate();
                }
            }
            Effect::Restarted { cause } => {
                self.site.telemetry.restarted(&self.pool.id, cause);
            }
            Effect::Ready { took_ms } => self.ready(took_ms).await,
            Effect::Down { cause, loading } => self.down(cause, loading),
        }
        None
    }

    async fn ready(&mut self, took_ms: Option<u64>) {
        let took_ms = self.loaded_beside_ms.take().or(took_ms);
        if let Some(took_ms) = took_ms {
            self.site.devices.look_aside().await;
            self.measure(took_ms);
        }
        let pool = &self.pool;
        tracing::info!(
            pool_id = %pool.id, replica_id = %self.replica_id(), model_id = %pool.model_id,
            engine_version = self.supervisor.properties().map(|it| it.engine_version.as_str()),
            incarnation = self.supervisor.incarnation(), took_ms, "replica ready"
        );
        if let Some(took_ms) = took_ms
            && matches!(pool.source, EngineSource::Managed { .. })
        {
            self.site.telemetry.loaded(&pool.model_id, took_ms);
        }
        self.watch_kv_cache();
    }

    fn watch_kv_cache(&mut self) {
        if let (Some(engine), Some(known)) = (&self.engine, self.supervisor.properties()) {
            let name = dialect::engine(&self.pool).name().to_owned();
            let of = [name, known.engine_version.clone(), self.pool.id.clone(), self.replica_id()];
            self.kv_cache = Some(kv_cache::watch(self.site.clone(), engine.clone(), of));
        }
    }

    fn down(&mut self, kind: Failure, loading: bool) {
        self.question = None;
        let pool = &self.pool;
        let cause = self.supervisor.last_error().unwrap_or_default();
        tracing::warn!(
            pool_id = %pool.id, replica_id = %self.replica_id(), model_id = %pool.model_id,
            incarnation = self.supervisor.incarnation(), error_code = kind.as_str(), cause,
            "replica down"
        );
        if kind == Failure::Device
            && let Some(trouble) = self.site.devices.trouble(&pool.devices)
        {
            self.site.telemetry.driver_reset(&pool.id, trouble.kind);
        }
        if loading {
            self.site.telemetry.load_failed(&pool.model_id, kind);
            self.load_failed(kind);
        }
    }

    fn check(&mut self) {
        if let EngineSource::External { url, key_file, .. } = &self.pool.source {
            let reach = Reach::external(url.clone(), key_file.clone());
            let event = Event::Checked(reach.as_ref().map(|_| ()).map_err(Clone::clone));
            self.reach(reach.ok());
            self.question = Some(Box::pin(std::future::ready(event.into())));
        } else {
            let site = Arc::clone(&self.site);
            let check = load::check(site, self.pool.clone(), self.place());
            self.question = Some(Box::pin(async { check.await.into() }));
        }
    }

    fn reserve(&mut self) {
        self.question = Some(match self.candidate_hold() {
            Some(hold) => Box::pin(std::future::ready(Answered {
                event: Event::Reserved(Ok(())),
                hold: Some(hold),
            })),
            None => {
                let (site, devices) = (Arc::clone(&self.site), self.pool.devices.clone());
                Box::pin(load::reserve(site, devices, self.place()))
            }
        });
    }

    fn devices_changed(&self) -> Event {
        let trouble = self.site.devices.trouble(&self.pool.devices);
        Event::Devices(trouble.map_or(Ok(()), |it| Err(it.cause)))
    }

    fn reach(&mut self, at: Option<Reach>) {
        let dialect = dialect::engine(&self.pool);
        let connect = |it: &Reach| engines::connect(&dialect, &it.url(), it.key());
        self.engine = at.as_ref().map(connect);
        self.kv_cache = None;
        self.at = at;
    }

    async fn spawn(&mut self) -> Event {
        match self.start_process().await {
            Ok(process) => {
                self.take(process);
                self.publish_digest();
                Event::Spawned
            }
            Err(cause) => {
                self.hold = None;
                Event::SpawnFailed { cause }
            }
        }
    }

    async fn start_process(&mut self) -> Result<Process, String> {
        if let Some(candidate) = self.candidate() {
            self.note(&candidate.at).await?;
            self.reach(Some(Reach::Managed(candidate.at)));
            self.loaded_beside_ms = Some(candidate.took_ms);
            return Ok(candidate.process);
        }
        let at = self.site.ports.allocate().map_err(|it| it.to_string())?;
        let needs = self.site.host.needs(self.pool_index, self.index);
        let grant = self.site.devices.grant(&self.pool.devices, &needs);
        let command = EngineCommand::new(&self.pool, &at, &self.site.environment, &grant)?;
        self.note(&at).await?;
        let door = self.site.kept.door(&self.replica_id(), at.port);
        let process =
            Process::spawn(&command, &self.log_path(), &door).await.map_err(|it| it.to_string())?;
        self.reach(Some(Reach::Managed(at)));
        Ok(process)
    }

    /// Computes the model's digest while the engine loads it, and publishes it when it is there.
    fn publish_digest(&self) {
        let EngineSource::Managed { model_path, .. } = &self.pool.source else { return };
        let (site, model) = (Arc::clone(&self.site), model_path.clone());
        let (pool, replica) = (self.pool_index, self.index);
        // The file may have been replaced since the last start; no digest is better than a wrong one.
        site.host.update(pool, replica, |it| it.model_digest = None);
        // On nobody's tracker: a file system that hangs must not keep the daemon from stopping.
        tokio::task::spawn_blocking(move || {
            // A file that cannot be read is the check's to report.
            let digest = site.digests.of_model(&model, &site.stop).ok();
            site.host.update(pool, replica, |it| it.model_digest = digest);
        });
    }

    fn log_path(&self) -> PathBuf {
        self.site.config.data_dir.join("logs").join(format!("{}.log", self.replica_id()))
    }

    fn replica_id(&self) -> String {
        format!("{}-{}", self.pool.id, self.index)
    }

    fn ask<F>(&mut self, question: impl FnOnce(Arc<dyn Adapter>) -> F)
    where
        F: Future<Output = Event> + Send + 'static,
    {
        let engine = self.engine.clone().expect("a question comes after a check or a start");
        let question = question(engine);
        self.question = Some(Box::pin(async { question.await.into() }));
    }

    /// Writes what is known into the host's table.
    fn publish(&self) {
        let supervisor = &self.supervisor;
        // Of what the engine does not say, the configuration does; of an external one less may be used.
        let (configured, context_tokens) = match self.pool.source {
            EngineSource::External { slots, context_tokens, .. } => (slots, context_tokens),
            EngineSource::Managed { slots, context_tokens, .. } => {
                (Some(slots), Some(context_tokens))
            }
        };
        let limit = configured.map_or(u32::MAX, NonZeroU32::get);
        let context_tokens = context_tokens.map_or(0, NonZeroU32::get);
        self.site.host.update(self.pool_index, self.index, |it| {
            it.state = supervisor.state();
            it.load = load::told(supervisor);
            it.incarnation = supervisor.incarnation();
            it.restarts = supervisor.restarts();
            it.last_error = supervisor.last_error().map(str::to_owned);
            it.pid = self.process.as_ref().map(Process::pid);
            it.endpoint = self.at.as_ref().map(Reach::url);
            it.engine_key = self.at.as_ref().and_then(|it| it.key().map(str::to_owned));
            if let Some(properties) = supervisor.properties() {
                it.engine_version = Some(properties.engine_version.clone());
                it.slots = properties.slots.unwrap_or(limit).min(limit);
                it.context_tokens = properties.context_tokens.unwrap_or(context_tokens);
                it.chat_template = properties.chat_template;
            }
        });
    }
}

/// What the end of the daemon asks next of a replica that was `told` so much.
async fn next_order(site: &Site, told: Told) -> (Told, Event) {
    match told {
        Told::Nothing => {
            site.drain.cancelled().await;
            (Told::Drain, Event::Drain)
        }
        Told::Drain => {
            site.stop.cancelled().await;
            (Told::Stop, Event::Stop)
        }
        Told::Stop => {
            site.hurry.cancelled().await;
            (Told::Hurry, Event::Hurry)
        }
        Told::Hurry => std::future::pending().await,
    }
}

async fn exited(process: &mut Option<Process>) -> (String, Failure) {
    match process {
        Some(process) => process.exited().await,
        None => std::future::pending().await,
    }
}

async fn answered(question: &mut Option<Question>) -> Answered {
    match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
