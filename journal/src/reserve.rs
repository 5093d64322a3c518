//! Room that is kept back on the disk, so that tasks can be ended when it is full.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// Enough for the ends of a thousand tasks, each in a commit of its own.
const BYTES: u64 = 16 << 20;

/// A file that nobody reads.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { path: folder.join("reserve") }
    }

    /// Does nothing where it is whole already.
    ///
    /// # Errors
    /// There is no room for it; then it takes none.
    pub(crate) fn make(&self) -> io::Result<()> {
        if std::fs::metadata(&self.path).is_ok_and(|it| it.len() == BYTES) {
            return Ok(());
        }
        let file = File::options().create(true).append(true).mode(0o600).open(&self.path)?;
        // Not zeros: a file system that compresses would keep no room for them.
        fallocate(&file, FallocateFlags::empty(), 0, BYTES).map_err(|error| {
            self.release();
            error.into()
        })
    }

    /// Whether there was any.
    pub(crate) fn release(&self) -> bool {
        std::fs::remove_file(&self.path).is_ok()
    }
}
