//! Small files that are there whole, or as they were.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces the file whole or not at all. Blocks until it is on disk.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_bytes(path, &serde_json::to_vec_pretty(value)?)
}

/// As [`write`], of what has its form already.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    // Else a power cut may leave the new name on an empty file.
    file.sync_data()?;
    std::fs::rename(temporary, path)
}

/// `None` where there is none that can be read: what is kept this way can be found out anew.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
