//! SHA-256 of model files, computed once per file and remembered across restarts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A file is taken for unchanged while its size, inode and modification time are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    size: u64,
    inode: u64,
    modified_ns: i64,
    digest: String,
}

/// `sha256:` and 64 hex digits. Blocks for as long as reading the file takes.
///
/// # Errors
/// When the file cannot be read. A memory that cannot be written is no error: the next start computes
/// again.
pub(crate) fn of_file(model: &Path, memory: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(model)?;
    let mut known: BTreeMap<PathBuf, Known> = std::fs::read(memory)
        .ok()
        .and_then(|it| serde_json::from_slice(&it).ok())
        .unwrap_or_default();
    let modified_ns = metadata.mtime().saturating_mul(1_000_000_000) + metadata.mtime_nsec();
    let same = |it: &&Known| {
        (it.size, it.inode, it.modified_ns) == (metadata.len(), metadata.ino(), modified_ns)
    };
    if let Some(it) = known.get(model).filter(same) {
        return Ok(it.digest.clone());
    }
    let digest = compute(model)?;
    let entry =
        Known { size: metadata.len(), inode: metadata.ino(), modified_ns, digest: digest.clone() };
    known.insert(model.to_owned(), entry);
    if let Err(error) = store(memory, &known) {
        tracing::warn!(%error, path = %memory.display(), "cannot remember model digests");
    }
    Ok(digest)
}

fn compute(model: &Path) -> io::Result<String> {
    let mut file = File::open(model)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            let hex: String = hasher.finalize().iter().map(|it| format!("{it:02x}")).collect();
            return Ok(format!("sha256:{hex}"));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Whole or not at all.
fn store(memory: &Path, known: &BTreeMap<PathBuf, Known>) -> io::Result<()> {
    let temporary = memory.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(known)?)?;
    std::fs::rename(temporary, memory)
}
