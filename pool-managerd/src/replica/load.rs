//! A load: what it needs, whether that is there, how far it has come, and what it took in truth.

use std::sync::Arc;
use std::time::Duration;

use config_schema::{EngineSource, PoolConfig};
use pool_api::{LoadProgress, LoadStage, MemoryNeed, ReplicaState};
use tokio::time::{Instant, sleep};

use super::{Answered, Place, ReplicaTask, Site};
use crate::dialect;
use crate::footprint::{alike, corrected, needs};
use crate::measured::{self, Measurement};
use crate::model;
use crate::supervisor::{Event, Failure, Supervisor};

/// How long a load waits for memory that others are about to give back.
const MEMORY_LIMIT: Duration = Duration::from_secs(5);
const MEMORY_POLL: Duration = Duration::from_millis(100);
/// Of a load, what the reading and filling of memory make; the rest is the self-test.
const READING_PERMILLE: u64 = 950;
/// Progress is told in steps of this size.
const STEP_PERMILLE: u64 = 50;

/// What a look at a model has found.
pub(super) struct Found {
    pub(super) memory: Vec<MemoryNeed>,
    load_ms: Option<u64>,
    chat_template: bool,
}

/// Whether the model can work here at all; if so, what is found is published.
pub(super) async fn check(site: Arc<Site>, pool: PoolConfig, (place, index): Place) -> Event {
    Event::Checked(match examine(Arc::clone(&site), pool).await {
        Ok(found) => {
            site.host.update(place, index, |it| {
                it.memory = found.memory;
                it.load_ms = found.load_ms;
                it.chat_template = found.chat_template;
            });
            Ok(())
        }
        Err(cause) => Err(cause),
    })
}

/// Looks at the pool's model, on a thread of its own: a file on a network that is away takes its
/// time.
pub(super) async fn examine(site: Arc<Site>, pool: PoolConfig) -> Result<Found, String> {
    let looked = tokio::task::spawn_blocking(move || look(&site, &pool)).await;
    looked.unwrap_or_else(|error| Err(format!("the check did not end: {error}")))
}

fn look(site: &Site, pool: &PoolConfig) -> Result<Found, String> {
    if let Some(trouble) = site.devices.trouble(&pool.devices) {
        return Err(trouble.cause);
    }
    let path = pool.model_path().ok_or("an external pool has no model file")?;
    let model = model::inspect(&dialect::engine(pool), path, pool.flags());
    let model = model.map_err(|it| it.to_string())?;
    let devices = site.devices.named(&pool.devices);
    alike(pool, &devices)?;
    let known = site.measured.of(&measured::key(pool, path));
    let memory = needs(pool, &model, &devices, &known);
    site.devices.fits(&memory).map_err(|it| it.to_string())?;
    Ok(Found { memory, load_ms: known.load_ms, chat_template: model.chat_template })
}

/// Waits until the memory is really free, and sets it aside.
pub(super) async fn reserve(
    site: Arc<Site>,
    devices: Vec<String>,
    (place, index): Place,
) -> Answered {
    let until = Instant::now() + MEMORY_LIMIT;
    loop {
        let needs = site.host.needs(place, index);
        site.devices.look_aside().await;
        let limits = site.devices.limits(&devices);
        match site.memory.hold(&needs, &limits) {
            Ok(hold) => return Answered { event: Event::Reserved(Ok(())), hold: Some(hold) },
            Err(shortage) if until <= Instant::now() => {
                return Event::Reserved(Err(shortage.to_string())).into();
            }
            Err(_) => sleep(MEMORY_POLL).await,
        }
    }
}

/// As callers are told.
pub(super) fn told(supervisor: &Supervisor) -> Option<LoadProgress> {
    let stage = match supervisor.state() {
        ReplicaState::Starting if supervisor.is_waiting_for_memory() => LoadStage::WaitingForMemory,
        ReplicaState::Starting if !supervisor.is_alive() => LoadStage::Checking,
        ReplicaState::Starting | ReplicaState::Loading => LoadStage::Reading,
        ReplicaState::Probing => LoadStage::SelfTest,
        ReplicaState::Unloaded
        | ReplicaState::Ready
        | ReplicaState::Draining
        | ReplicaState::Backoff
        | ReplicaState::Unready
        | ReplicaState::Stopped => return None,
    };
    Some(LoadProgress { stage, permille: supervisor.progress() })
}

impl ReplicaTask {
    /// How far the engine has come with its load; nothing for one that serves.
    pub(super) fn progress(&self) -> Option<Event> {
        let loads =
            matches!(self.supervisor.state(), ReplicaState::Starting | ReplicaState::Loading);
        let process = self.process.as_ref().filter(|_| loads)?;
        let needs = self.site.host.needs(self.pool_index, self.index);
        let needed: u64 = needs.iter().map(|it| it.bytes).fold(0, u64::saturating_add);
        let tree = process.tree();
        let filled: u64 = self.memory_of(&tree).iter().map(|it| it.bytes).sum();
        let reached = filled.max(bytes_read(&tree)).min(needed);
        let permille = READING_PERMILLE * reached / needed.max(1) / STEP_PERMILLE * STEP_PERMILLE;
        Some(Event::Progressed { permille: u32::try_from(permille).unwrap_or(0) })
    }

    /// What the engine holds now, on each of its devices.
    fn memory_of(&self, tree: &[u32]) -> Vec<MemoryNeed> {
        self.site.devices.used_by(&self.pool.devices, tree)
    }

    /// Notes what the load took, for the next one.
    pub(super) fn measure(&mut self, took_ms: u64) {
        let (Some(process), Some(model)) = (&self.process, self.pool.model_path()) else { return };
        let measured = self.memory_of(&process.tree());
        let key = measured::key(&self.pool, model);
        let devices = self.site.devices.named(&self.pool.devices);
        let stated = matches!(self.pool.source, EngineSource::Managed { memory_mib: Some(_), .. });
        let expected = self.site.host.needs(self.pool_index, self.index);
        let needs = corrected(&expected, &measured, &devices, stated);
        if let Some(hold) = &self.hold {
            hold.taken(needs.clone());
        }
        self.site.host.update(self.pool_index, self.index, |it| {
            it.memory = needs;
            it.load_ms = Some(took_ms);
        });
        let known = Measurement { memory: measured, load_ms: Some(took_ms) };
        self.remember(key, move |it| *it = known);
    }

    /// A load that found less memory than it was promised asks for more the next time.
    pub(super) fn oom(&self) {
        let Some(model) = self.pool.model_path() else { return };
        let key = measured::key(&self.pool, model);
        let mut more = self.site.host.needs(self.pool_index, self.index);
        for need in &mut more {
            need.bytes += need.bytes / 4;
        }
        self.site.host.update(self.pool_index, self.index, |it| it.memory.clone_from(&more));
        self.remember(key, move |it| it.memory = more);
    }

    fn remember(&self, key: String, change: impl FnOnce(&mut Measurement) + Send + 'static) {
        let site = Arc::clone(&self.site);
        // On nobody's tracker: a file system that hangs must not keep the daemon from stopping.
        tokio::task::spawn_blocking(move || site.measured.learn(&key, change));
    }

    pub(super) fn load_failed(&mut self, kind: Failure) {
        if kind == Failure::DeviceOom || kind == Failure::HostOom {
            self.oom();
        }
        if !self.roll_back() {
            self.fail_load_job(kind);
        }
    }
}

/// Bytes that these processes have read since their start; 0 where the kernel does not tell, and for
/// files that are mapped.
fn bytes_read(tree: &[u32]) -> u64 {
    let read = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        text.lines().find_map(|it| it.strip_prefix("rchar: "))?.parse::<u64>().ok()
    };
    tree.iter().filter_map(read).sum()
}
