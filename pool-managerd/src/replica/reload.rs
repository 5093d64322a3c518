//! Another model in the same place: loaded beside the present one if memory allows, else instead of
//! it; the present one again if it cannot be loaded.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use adapter_api::Adapter;
use config_schema::{EngineSource, PoolConfig, Residency, Workload};
use pool_api::ReplicaState;
use tokio::time::{Instant, sleep};

use super::{NewModel, ReplicaTask, Site, ask, load};
use crate::dialect;
use crate::engine::{EngineCommand, KeyedPort, Process};
use crate::jobs::error;
use crate::memory::{Hold, Shortage};
use crate::supervisor::{Answer, Event};

const HEALTH_POLL: Duration = Duration::from_millis(100);
/// A day: what runs with a model that is to go again is bounded by the orchestrator's watchdog.
const GO_BACK_PATIENCE_MS: u64 = 86_400_000;

pub(super) struct Reload {
    old: PoolConfig,
    new: PoolConfig,
    patience_ms: u64,
    stage: Stage,
}

enum Stage {
    /// The new model is loaded beside the old one, which serves.
    Preparing(Preparing),
    /// The old one ends its work, and then itself.
    Leaving(Option<Candidate>),
    /// The new one takes the place.
    Loading(Option<Candidate>),
}

type Preparing = Pin<Box<dyn Future<Output = Result<Candidate, NotBeside>> + Send>>;

/// An engine that has proved itself and serves nobody yet. Dropping it ends it.
pub(super) struct Candidate {
    pub(super) process: Process,
    pub(super) at: KeyedPort,
    hold: Option<Hold>,
    /// From its start until it had proved itself.
    pub(super) took_ms: u64,
}

pub(super) enum NotBeside {
    /// There is not enough memory for both.
    NoRoom,
    /// It cannot be loaded at all.
    Failed(String),
}

/// The end of a preparation, if one is under way.
pub(super) async fn prepared(reload: &mut Option<Reload>) -> Result<Candidate, NotBeside> {
    match reload.as_mut().map(|it| &mut it.stage) {
        Some(Stage::Preparing(preparing)) => preparing.await,
        Some(Stage::Leaving(_) | Stage::Loading(_)) | None => std::future::pending().await,
    }
}

/// Loads a model beside what runs.
async fn prepare(
    site: Arc<Site>,
    pool: PoolConfig,
    replica: String,
    log: PathBuf,
) -> Result<Candidate, NotBeside> {
    let found = load::examine(Arc::clone(&site), pool.clone()).await.map_err(NotBeside::Failed)?;
    site.devices.look_aside().await;
    let limits = site.devices.limits(&pool.devices);
    let hold = site.memory.hold(&found.memory, &limits).map_err(|it| match it {
        Shortage::TooSmall { .. } => NotBeside::Failed(it.to_string()),
        Shortage::Promised { .. } | Shortage::Used { .. } => NotBeside::NoRoom,
    })?;
    let at = site.ports.allocate().map_err(|it| NotBeside::Failed(it.to_string()))?;
    let grant = site.devices.grant(&pool.devices, &found.memory);
    let command =
        EngineCommand::new(&pool, &at, &site.environment, &grant).map_err(NotBeside::Failed)?;
    let door = site.kept.door(&replica, at.port);
    let started = Instant::now();
    let mut process = Process::spawn(&command, &log, &door)
        .await
        .map_err(|it| NotBeside::Failed(it.to_string()))?;
    let engine = engines::connect(&dialect::engine(&pool), &at.url(), Some(&at.key));
    let limit = Duration::from_millis(pool.start_timeout_ms);
    let failed = tokio::select! {
        exit = process.exited() => Some(exit.0),
        proved = prove(engine, pool.workload) => proved.err(),
        () = sleep(limit) => Some(format!("it was not ready within {} ms", pool.start_timeout_ms)),
    };
    match failed {
        Some(cause) => Err(NotBeside::Failed(cause)),
        None => {
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(Candidate { process, at, hold: Some(hold), took_ms })
        }
    }
}

async fn prove(engine: Arc<dyn Adapter>, workload: Workload) -> Result<(), String> {
    while !matches!(ask::health(Arc::clone(&engine)).await, Event::Answered(Answer::Ready)) {
        sleep(HEALTH_POLL).await;
    }
    match ask::probe(engine, workload).await {
        Event::Probed(Err(cause)) => Err(cause),
        _ => Ok(()),
    }
}

impl ReplicaTask {
    pub(super) fn reload(&mut self, model: NewModel, patience_ms: u64) -> Option<Event> {
        let mut new = self.pool.clone();
        if let EngineSource::Managed { model_path, .. } = &mut new.source {
            *model_path = model.path;
        }
        (new.model_id, new.model_aliases) = (model.id, model.aliases);
        self.begin_reload(new, patience_ms)
    }

    pub(super) fn go_back(&mut self, cause: &str) -> Option<Event> {
        self.supervisor.note(format!("reload failed, the old model is loaded again: {cause}"));
        self.begin_reload(self.before.clone(), GO_BACK_PATIENCE_MS)
    }

    fn begin_reload(&mut self, new: PoolConfig, patience_ms: u64) -> Option<Event> {
        let old = self.pool.clone();
        let state = self.supervisor.state();
        tracing::info!(replica_id = self.replica_id(), model_id = new.model_id, "reload");
        let stage = match state {
            ReplicaState::Ready => {
                let (site, pool) = (Arc::clone(&self.site), new.clone());
                let replica = self.replica_id();
                Stage::Preparing(Box::pin(prepare(site, pool, replica, self.log_path())))
            }
            _ => Stage::Leaving(None),
        };
        let waits = matches!(stage, Stage::Leaving(_));
        self.reload = Some(Reload { old, new, patience_ms, stage });
        waits.then_some(Event::Unload { patience_ms })
    }

    /// The new model is there beside the old one, or there is no room for both, or it is unfit.
    pub(super) fn prepared(&mut self, prepared: Result<Candidate, NotBeside>) -> Option<Event> {
        let reload = self.reload.as_mut()?;
        reload.stage = Stage::Leaving(match prepared {
            Ok(candidate) => Some(candidate),
            Err(NotBeside::NoRoom) => None,
            Err(NotBeside::Failed(cause)) => {
                self.reload = None;
                self.give_up_reload("RELOAD_FAILED", &cause);
                return None;
            }
        });
        Some(Event::Unload { patience_ms: reload.patience_ms })
    }

    fn give_up_reload(&mut self, code: &str, cause: &str) {
        tracing::warn!(replica_id = self.replica_id(), cause, "reload failed");
        self.supervisor.note(format!("reload failed, the old model serves on: {cause}"));
        self.end_job(Err(error(code, cause)));
    }

    pub(super) fn settle_reload(&mut self) -> Option<Event> {
        let state = self.supervisor.state();
        let Some(mut reload) = self.reload.take() else {
            let rests = state == ReplicaState::Unloaded;
            self.restoring = !rests && state != ReplicaState::Ready;
            return rests.then_some(Event::Load);
        };
        match (reload.stage, state) {
            (Stage::Leaving(candidate), ReplicaState::Unloaded) => {
                self.serve(reload.new.clone());
                reload.stage = Stage::Loading(candidate);
                self.reload = Some(reload);
                Some(Event::Load)
            }
            (Stage::Leaving(_), ReplicaState::Ready) => {
                self.give_up_reload("BUSY", "running tasks did not end in time");
                None
            }
            (Stage::Loading(_), ReplicaState::Ready) => {
                self.before = reload.old;
                self.end_job(Ok(()));
                None
            }
            (stage, _) => {
                reload.stage = stage;
                self.reload = Some(reload);
                None
            }
        }
    }

    /// The new model cannot be loaded: the old one has the place again. False if no reload is under
    /// way.
    pub(super) fn roll_back(&mut self) -> bool {
        let loading = |it: &mut Reload| matches!(it.stage, Stage::Loading(_));
        let Some(reload) = self.reload.take_if(loading) else { return false };
        let cause = self.supervisor.last_error().unwrap_or_default().to_owned();
        self.serve(reload.old);
        self.supervisor.note(format!("reload failed, the old model is loaded again: {cause}"));
        // A pinned one comes back by itself.
        self.restoring = self.pool.residency == Residency::OnDemand;
        self.end_job(Err(error("RELOAD_FAILED", &cause)));
        true
    }

    fn serve(&mut self, pool: PoolConfig) {
        let (place, index) = self.place();
        self.site.host.set_model(place, index, &pool.model_id, &pool.model_aliases);
        self.pool = pool;
    }

    pub(super) fn candidate_hold(&mut self) -> Option<Hold> {
        match self.reload.as_mut().map(|it| &mut it.stage) {
            Some(Stage::Loading(Some(candidate))) => candidate.hold.take(),
            _ => None,
        }
    }

    /// The engine that was prepared, to take the place.
    pub(super) fn candidate(&mut self) -> Option<Candidate> {
        match self.reload.as_mut().map(|it| &mut it.stage) {
            Some(Stage::Loading(candidate)) => candidate.take(),
            _ => None,
        }
    }
}
