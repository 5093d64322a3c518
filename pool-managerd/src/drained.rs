//! The pools that operators have drained: their word holds until they take it back, whatever becomes
//! of the manager.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use config_schema::PoolConfig;

use crate::durable;

pub(crate) struct Drained {
    file: PathBuf,
    pools: Mutex<BTreeSet<String>>,
    /// Held while the file is written, so that the latest word is the last one written.
    writing: Mutex<()>,
}

impl Drained {
    /// `file` need not exist. A pool that is not configured any more is forgotten: what comes under
    /// its name later is another one.
    pub(crate) fn new(file: PathBuf, configured: &[PoolConfig]) -> Self {
        let noted: BTreeSet<String> = durable::read(&file).unwrap_or_default();
        let is_there = |id: &String| configured.iter().any(|it| it.id == *id);
        let pools: BTreeSet<String> = noted.iter().filter(|it| is_there(it)).cloned().collect();
        let has_changed = pools != noted;
        let drained = Self { file, pools: Mutex::new(pools), writing: Mutex::default() };
        if has_changed {
            drained.write();
        }
        drained
    }

    pub(crate) fn has(&self, pool: &str) -> bool {
        self.pools.lock().expect("no holder panics").contains(pool)
    }

    /// On disk after the next [`Self::write`].
    pub(crate) fn set(&self, pool: &str, drained: bool) {
        let mut pools = self.pools.lock().expect("no holder panics");
        if drained {
            pools.insert(pool.to_owned());
        } else {
            pools.remove(pool);
        }
    }

    /// Blocks until it is on disk; if it cannot be written, the word holds for this manager only.
    pub(crate) fn write(&self) {
        let _last = self.writing.lock().expect("no holder panics");
        let pools = self.pools.lock().expect("no holder panics").clone();
        if let Err(error) = durable::write(&self.file, &pools) {
            tracing::warn!(%error, path = %self.file.display(), "a drain cannot be remembered");
        }
    }
}
