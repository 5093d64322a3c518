//! One task per replica: waits for what happens, asks the supervisor, does what it says.

mod ask;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use config_schema::{EngineSource, ManagerConfig, PoolConfig};
use llamacpp::LlamaCpp;
use pool_api::ReplicaState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::{EngineCommand, Environment, KeyedPort, Needs, Process, check};
use crate::host::{Host, device_bytes};
use crate::supervisor::{Effect, Event, Failure, Policy, Supervisor};
use crate::telemetry::Telemetry;

/// What the replicas of a host share.
pub(crate) struct Site {
    pub(crate) config: ManagerConfig,
    pub(crate) host: Host,
    pub(crate) telemetry: Telemetry,
    pub(crate) environment: Environment,
    /// Cancelled first: take nothing new.
    pub(crate) drain: CancellationToken,
    /// Cancelled when the drain is over: stop the engines.
    pub(crate) stop: CancellationToken,
}

type Question = Pin<Box<dyn Future<Output = Event> + Send>>;

pub(crate) struct ReplicaTask {
    site: Arc<Site>,
    pool_index: usize,
    index: usize,
    supervisor: Supervisor,
    started: Instant,
    process: Option<Process>,
    /// Where the present incarnation is reached.
    engine: Option<Arc<LlamaCpp>>,
    at: Option<KeyedPort>,
    /// The one question under way.
    question: Option<Question>,
    /// Told to the supervisor already.
    drained: bool,
    stopped: bool,
}

impl ReplicaTask {
    pub(crate) fn new(site: Arc<Site>, pool_index: usize, index: usize) -> Self {
        let pool = &site.config.pools[pool_index];
        let policy = Policy {
            managed: matches!(pool.source, EngineSource::Managed { .. }),
            start_timeout_ms: pool.start_timeout_ms,
            restart: pool.restart,
        };
        Self {
            supervisor: Supervisor::new(policy),
            started: Instant::now(),
            process: None,
            engine: None,
            at: None,
            question: None,
            drained: false,
            stopped: false,
            site,
            pool_index,
            index,
        }
    }

    fn pool(&self) -> &PoolConfig {
        &self.site.config.pools[self.pool_index]
    }

    /// Runs until the replica is stopped on request.
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.attach_external() {
            self.apply(Event::CheckFailed { cause: error }).await;
        }
        while self.supervisor.state() != ReplicaState::Stopped {
            let event = self.next_event().await;
            self.apply(event).await;
        }
    }

    async fn next_event(&mut self) -> Event {
        let due = self.supervisor.next_wakeup();
        let at = due.map(|it| self.started + Duration::from_millis(it));
        let asking = self.question.is_some();
        tokio::select! {
            exit = exited(&mut self.process) => {
                self.process = None;
                Event::Exited { cause: exit.0, kind: exit.1 }
            }
            () = self.site.stop.cancelled(), if !self.stopped => {
                self.stopped = true;
                Event::Stop
            }
            () = self.site.drain.cancelled(), if !self.drained => {
                self.drained = true;
                Event::Drain
            }
            event = answered(&mut self.question), if asking => {
                self.question = None;
                event
            }
            () = sleep_until(at), if !asking => Event::Tick,
        }
    }

    async fn apply(&mut self, event: Event) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let random = getrandom::u32().unwrap_or(u32::MAX);
        for effect in self.supervisor.apply(now, event, random) {
            self.perform(effect).await;
        }
        self.publish();
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Start => self.start(),
            Effect::AskHealth => self.ask(ask::health),
            Effect::Probe => self.ask(ask::probe),
            Effect::Kill => {
                self.question = None;
                if let Some(process) = &self.process {
                    process.kill_group();
                }
            }
            Effect::Terminate => self.terminate().await,
            Effect::Loaded { took_ms } => {
                let pool = self.pool();
                tracing::info!(
                    pool_id = %pool.id, replica_id = %self.replica_id(), model_id = %pool.model_id,
                    took_ms, "replica ready"
                );
                self.site.telemetry.loaded(&pool.model_id, took_ms);
            }
            Effect::Failed(kind) => self.failed(kind),
        }
    }

    fn failed(&mut self, kind: Failure) {
        self.question = None;
        let pool = self.pool();
        let cause = self.supervisor.last_error().unwrap_or_default();
        tracing::warn!(
            pool_id = %pool.id, replica_id = %self.replica_id(), model_id = %pool.model_id,
            error_code = kind.as_str(), cause, "replica down"
        );
        if self.supervisor.properties().is_none() {
            self.site.telemetry.load_failed(&pool.model_id);
        }
        self.site.telemetry.restarting(&pool.id, kind);
    }

    /// The check is four bytes and two numbers: done in place.
    fn start(&mut self) {
        let EngineSource::Managed { model_path, .. } = &self.pool().source else { return };
        let named = &self.pool().devices;
        let devices = self.site.config.devices.iter().filter(|it| named.contains(&it.id));
        let needs =
            Needs { model: model_path.clone(), device_bytes: devices.map(device_bytes).sum() };
        let event = match check(&needs) {
            Err(error) => Event::CheckFailed { cause: error.to_string() },
            Ok(()) => match self.spawn() {
                Ok(process) => {
                    self.process = Some(process);
                    Event::Spawned
                }
                Err(cause) => Event::SpawnFailed { cause },
            },
        };
        self.question = Some(Box::pin(std::future::ready(event)));
    }

    fn spawn(&mut self) -> Result<Process, String> {
        let at = KeyedPort::allocate(self.site.config.port_range).map_err(|it| it.to_string())?;
        let command = EngineCommand::new(self.pool(), &at, &self.site.environment)
            .ok_or("an external pool has no process")?;
        let process = Process::spawn(&command, self.log_path()).map_err(|it| chain(&it))?;
        self.engine = Some(Arc::new(LlamaCpp::new(&at.url(), Some(&at.key))));
        self.at = Some(at);
        Ok(process)
    }

    fn log_path(&self) -> PathBuf {
        self.site.config.data_dir.join("logs").join(format!("{}.log", self.replica_id()))
    }

    fn replica_id(&self) -> String {
        format!("{}-{}", self.pool().id, self.index)
    }

    fn ask<F>(&mut self, question: impl FnOnce(Arc<LlamaCpp>) -> F)
    where
        F: Future<Output = Event> + Send + 'static,
    {
        let engine = self.engine.clone().expect("a question comes after a start");
        self.question = Some(Box::pin(question(engine)));
    }

    fn attach_external(&mut self) -> Result<(), String> {
        let EngineSource::External { url, key_file, .. } = &self.pool().source else {
            return Ok(());
        };
        let key = key_file
            .as_ref()
            .map(std::fs::read_to_string)
            .transpose()
            .map_err(|it| format!("cannot read the engine's key: {it}"))?;
        self.engine = Some(Arc::new(LlamaCpp::new(url, key.as_deref().map(str::trim))));
        Ok(())
    }

    async fn terminate(&mut self) {
        let grace = match &self.pool().source {
            EngineSource::Managed { stop_grace_ms, .. } => Duration::from_millis(*stop_grace_ms),
            EngineSource::External { .. } => return,
        };
        if let Some(process) = &mut self.process {
            process.terminate(grace).await;
        }
    }

    /// Writes what is known into the host's table.
    fn publish(&self) {
        let external = match &self.pool().source {
            EngineSource::External { url, .. } => Some(url.clone()),
            EngineSource::Managed { .. } => None,
        };
        let supervisor = &self.supervisor;
        self.site.host.update(self.pool_index, self.index, |it| {
            it.state = supervisor.state();
            it.incarnation = supervisor.incarnation();
            it.restarts = supervisor.incarnation().saturating_sub(1);
            it.last_error = supervisor.last_error().map(str::to_owned);
            it.pid = self.process.as_ref().map(Process::pid);
            it.endpoint = external.or_else(|| self.at.as_ref().map(KeyedPort::url));
            it.engine_key = self.at.as_ref().map(|it| it.key.clone());
            if let Some(properties) = supervisor.properties() {
                it.engine_version = Some(properties.engine_version.clone());
                it.slots = if it.slots == 0 { properties.slots } else { it.slots };
                it.context_tokens = properties.context_tokens;
                it.chat_template = properties.chat_template;
            }
        });
    }
}

async fn exited(process: &mut Option<Process>) -> (String, Failure) {
    match process {
        Some(process) => process.exited().await,
        None => std::future::pending().await,
    }
}

async fn answered(question: &mut Option<Question>) -> Event {
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

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
