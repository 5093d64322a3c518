//! SHA-256 of models, each file computed once per file and remembered across restarts.

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

/// Folders in folders that are looked into.
const FOLDERS_MAX: u32 = 4;

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

    /// Of a file, or of a folder: then over the sorted lines `sha256:… relative/path` of its files, up
    /// to 4 folders down.
    ///
    /// # Errors
    /// As [`Self::of_file`].
    pub(crate) fn of_model(&self, model: &Path, stop: &CancellationToken) -> io::Result<String> {
        if !model.is_dir() {
            return self.of_file(model, stop);
        }
        let mut lines = Vec::new();
        for file in files_within(model, FOLDERS_MAX)? {
            let name = file.strip_prefix(model).unwrap_or(&file).display();
            lines.push(format!("{} {name}\n", self.of_file(&file, stop)?));
        }
        lines.sort();
        Ok(shown(&Sha256::digest(lines.concat())))
    }

    /// `sha256:` and 64 hex digits. Blocks for as long as reading the file takes, or until `stop`.
    ///
    /// # Errors
    /// When the file cannot be read, or `Interrupted` after `stop`. A memory that cannot be written
    /// is no error: the next start computes again.
    fn of_file(&self, model: &Path, stop: &CancellationToken) -> io::Result<String> {
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

fn shown(digest: &[u8]) -> String {
    let hex: String = digest.iter().map(|it| format!("{it:02x}")).collect();
    format!("sha256:{hex}")
}

fn files_within(folder: &Path, depth: u32) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match (path.is_dir(), depth) {
            (true, 0) => {}
            (true, _) => files.extend(files_within(&path, depth - 1)?),
            (false, _) => files.push(path),
        }
    }
    Ok(files)
}

fn compute(file: &mut File, stop: &CancellationToken) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(shown(&hasher.finalize()));
        }
        if stop.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests;
