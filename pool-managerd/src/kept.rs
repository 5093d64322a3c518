//! Engines beside their manager: what the next one must know to take them over.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use config_schema::ManagerConfig;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::app::make_data_dir;
use crate::durable;
use crate::engine::Process;

/// Of engines that are stopped without a manager.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// One engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) port: u16,
    pub(crate) key: String,
    pub(crate) incarnation: u64,
    /// What it was started with; an engine with other options is not taken over.
    pub(crate) options: String,
}

/// Written before an engine starts, so that none is ever unknown.
pub(crate) struct Kept {
    folder: PathBuf,
    file: PathBuf,
    known: Mutex<BTreeMap<String, Record>>,
}

impl Kept {
    /// `data_dir` exists, or will when something is to be kept.
    pub(crate) fn new(data_dir: &Path) -> Self {
        let file = data_dir.join("engines.json");
        let known = durable::read(&file).unwrap_or_default();
        Self { folder: data_dir.join("run"), file, known: Mutex::new(known) }
    }

    /// Where the guard of an engine listens; short, for the path of a socket has at most 107 bytes.
    pub(crate) fn door(&self, replica: &str, port: u16) -> PathBuf {
        let digest = Sha256::digest(replica);
        let name: String = digest[..4].iter().map(|it| format!("{it:02x}")).collect();
        self.folder.join(format!("{name}-{port}.sock"))
    }

    pub(crate) fn get(&self, replica: &str) -> Option<Record> {
        self.known.lock().expect("no holder panics").get(replica).cloned()
    }

    /// Blocks until it is on disk.
    ///
    /// # Errors
    /// When it cannot be written: then nothing may be started.
    pub(crate) fn put(&self, replica: &str, record: Option<Record>) -> std::io::Result<()> {
        let mut known = self.known.lock().expect("no holder panics");
        match record {
            Some(record) => known.insert(replica.to_owned(), record),
            None => known.remove(replica),
        };
        durable::write(&self.file, &*known)
    }

    /// Doors of engines that no replica of `wanted` will take over.
    pub(crate) fn strays(&self, wanted: &[String]) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let doors = entries.flatten().map(|it| it.path());
        let known = self.known.lock().expect("no holder panics");
        let ours = wanted.iter().filter_map(|it| Some(self.door(it, known.get(it)?.port)));
        let ours: Vec<PathBuf> = ours.collect();
        doors.filter(|it| !ours.contains(it)).collect()
    }
}

/// Held for as long as the file is open. Two managers of one folder would take each other's engines.
pub(crate) fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.with_context(|| format!("cannot open `{}`", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let folder = data_dir.display();
        anyhow::anyhow!("another pool-managerd uses the `data_dir` `{folder}`: stop it first")
    })?;
    Ok(file)
}

/// Ends the engines that a manager has kept, as their own stop would: SIGTERM, then SIGKILL. Returns
/// how many there were.
///
/// # Errors
/// A manager runs that they belong to.
pub async fn stop_engines(config: &ManagerConfig) -> anyhow::Result<usize> {
    make_data_dir(config)?;
    let _lock = lock(&config.data_dir)?;
    let mut stopped = 0;
    for door in Kept::new(&config.data_dir).strays(&[]) {
        let Some(mut engine) = Process::adopt(&door).await else { continue };
        engine.terminate();
        if timeout(STOP_GRACE, engine.exited()).await.is_err() {
            engine.kill();
            engine.exited().await;
        }
        stopped += 1;
    }
    Ok(stopped)
}
