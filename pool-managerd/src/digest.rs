//! SHA-256 of model files, computed once per file and remembered across restarts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::durable;

/// A file is taken for unchanged while its size, inode and modification time are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    size: u64,
    inode: u64,
    modified_ns: i64,
    digest: String,
}

/// The digests that this host knows.
pub(crate) struct Digests {
    memory: PathBuf,
    /// One file at a time: two readers of one disk would both be slower, and replicas of one pool
    /// ask for the same file.
    turn: Mutex<()>,
}

impl Digests {
    /// `memory` need not exist.
    pub(crate) fn new(memory: PathBuf) -> Self {
        Self { memory, turn: Mutex::default() }
    }

    /// `sha256:` and 64 hex digits. Blocks for as long as reading the file takes, or until `stop`.
    ///
    /// # Errors
    /// When the file cannot be read, or `Interrupted` after `stop`. A memory that cannot be written
    /// is no error: the next start computes again.
    pub(crate) fn of_file(&self, model: &Path, stop: &CancellationToken) -> io::Result<String> {
        let _turn = self.turn.lock().expect("no holder panics");
        let mut file = File::open(model)?;
        let metadata = file.metadata()?;
        let mut known: BTreeMap<PathBuf, Known> = durable::read(&self.memory).unwrap_or_default();
        let modified_ns = metadata.mtime().saturating_mul(1_000_000_000) + metadata.mtime_nsec();
        let same = |it: &&Known| {
            (it.size, it.inode, it.modified_ns) == (metadata.len(), metadata.ino(), modified_ns)
        };
        if let Some(it) = known.get(model).filter(same) {
            return Ok(it.digest.clone());
        }
        let digest = compute(&mut file, stop)?;
        let (size, inode) = (metadata.len(), metadata.ino());
        known.insert(model.to_owned(), Known { size, inode, modified_ns, digest: digest.clone() });
        if let Err(error) = durable::write(&self.memory, &known) {
            tracing::warn!(%error, path = %self.memory.display(), "cannot remember model digests");
        }
        Ok(digest)
    }
}

fn compute(file: &mut File, stop: &CancellationToken) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            let hex: String = hasher.finalize().iter().map(|it| format!("{it:02x}")).collect();
            return Ok(format!("sha256:{hex}"));
        }
        if stop.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests;
