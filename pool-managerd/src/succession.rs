//! What one manager leaves to the next when it becomes one with another configuration: how its
//! replicas stand. After a restart by an operator every replica begins anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::supervisor::Standing;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Estate {
    /// What the replica was configured with; one with other options may well work.
    options: String,
    standing: Standing,
}

pub(crate) struct Succession {
    file: PathBuf,
    inherited: BTreeMap<String, Estate>,
    left: Mutex<BTreeMap<String, Estate>>,
}

impl Succession {
    /// Takes what was left, so that it is used once.
    pub(crate) fn take(data_dir: &Path) -> Self {
        let file = data_dir.join("succession.json");
        let inherited = durable::read(&file).unwrap_or_default();
        // There is none after any other start.
        let _none = std::fs::remove_file(&file);
        Self { file, inherited, left: Mutex::default() }
    }

    pub(crate) fn of(&self, replica: &str, options: &str) -> Option<Standing> {
        let estate = self.inherited.get(replica).filter(|it| it.options == options)?;
        Some(estate.standing.clone())
    }

    pub(crate) fn leave(&self, replica: String, options: String, standing: Standing) {
        let estate = Estate { options, standing };
        self.left.lock().expect("no holder panics").insert(replica, estate);
    }

    /// Blocks until what was left is on disk; if it cannot be written, the successor begins anew.
    pub(crate) fn close(&self) {
        let left = self.left.lock().expect("no holder panics");
        if let Err(error) = durable::write(&self.file, &*left) {
            tracing::warn!(%error, path = %self.file.display(), "failures cannot be handed over");
        }
    }
}
