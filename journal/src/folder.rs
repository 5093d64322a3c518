//! The journal's folder: whose it is, and who uses it.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a journal was not opened. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use `{}`", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The process that has it, where it could be told.
    #[error("the journal `{}` is used by another process ({}): stop it first", folder.display(), named(*pid))]
    InUse { folder: PathBuf, pid: Option<u32> },
    #[error("`{}` is no journal: {found}, expected {expected}; configure another folder or move it away", path.display())]
    Foreign { path: PathBuf, found: String, expected: String },
    #[error("`{}` has version {found}, and this program knows {known} at most: use the newer program, or move the folder away to begin without its tasks", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("the journal `{}` is damaged: {found}; put a copy back in its place, or move the folder away to begin without its tasks", path.display())]
    Damaged { path: PathBuf, found: String },
}

impl OpenError {
    pub(crate) fn unusable(
        path: &Path,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        let path = path.to_owned();
        |source| Self::Unusable { path, source }
    }
}

fn named(pid: Option<u32>) -> String {
    pid.map_or_else(|| String::from("which did not say its pid"), |it| format!("pid {it}"))
}

/// Makes the folder unless it is there.
pub(crate) fn make(folder: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|it| OpenError::unusable(folder)(it.into()))
}

/// Held for as long as the file is open, so also after `kill -9` it is free. Two writers of one
/// journal would both follow the same tasks.
pub(crate) fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let unusable = |it: io::Error| OpenError::unusable(&path)(it.into());
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    let mut file = options.open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse { folder: folder.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    // The pid only tells an operator whom to stop; on a full disk there is a lock without it.
    let _told = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}
