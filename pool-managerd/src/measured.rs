//! What loads really took, kept across restarts: memory, and time.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use config_schema::{EngineSource, PoolConfig};
use pool_api::MemoryNeed;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::durable;

/// Of one model with one set of options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Empty until measured.
    pub(crate) memory: Vec<MemoryNeed>,
    pub(crate) load_ms: Option<u64>,
}

pub(crate) struct Measured {
    file: PathBuf,
    known: Mutex<BTreeMap<String, Measurement>>,
}

impl Measured {
    /// `file` need not exist.
    pub(crate) fn new(file: PathBuf) -> Self {
        let known = durable::read(&file).unwrap_or_default();
        Self { file, known: Mutex::new(known) }
    }

    pub(crate) fn of(&self, key: &str) -> Measurement {
        self.known.lock().expect("no holder panics").get(key).cloned().unwrap_or_default()
    }

    /// Blocks until it is on disk; a file that cannot be written costs the next start an estimate.
    pub(crate) fn learn(&self, key: &str, change: impl FnOnce(&mut Measurement)) {
        let mut known = self.known.lock().expect("no holder panics");
        change(known.entry(key.to_owned()).or_default());
        if let Err(error) = durable::write(&self.file, &*known) {
            tracing::warn!(%error, path = %self.file.display(), "cannot remember measurements");
        }
    }
}

/// Names what decides a pool's memory: the file as it is now, the context, the options and devices.
pub(crate) fn key(pool: &PoolConfig, model: &Path) -> String {
    let file = std::fs::metadata(model).map(|it| (it.len(), it.mtime(), it.mtime_nsec())).ok();
    let options = match &pool.source {
        EngineSource::Managed { bin, flags, env, user, context_tokens, slots, .. } => {
            format!("{bin:?} {flags:?} {env:?} {user:?} {context_tokens} {slots}")
        }
        EngineSource::External { .. } => String::new(),
    };
    let devices = (&pool.devices, &pool.split);
    let text = format!(
        "{:?} {:?} {} {file:?} {options} {devices:?}",
        pool.engine,
        pool.workload,
        model.display()
    );
    Sha256::digest(text)[..8].iter().map(|it| format!("{it:02x}")).collect()
}
