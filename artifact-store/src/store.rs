//! The files: `owner-NAME/ab/abcd…`, a folder for each owner and in it one for each first two digits.
//!
//! Owners share nothing, so that no owner learns from the time or the success of a call what another
//! one has, and nobody's blob goes with somebody else's.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::Builder;

use crate::BlobId;

const OWNER: &str = "owner-";
/// Of files that are being written.
const UNFINISHED: &str = "unfinished-";

/// What a blob survives once [`Store::put`] has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it comes.
    Process,
    /// The end of the machine, too.
    Disk,
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There may be room later.
    #[error("no room is left where artifacts lie, or a file may not be as large")]
    Full,
    #[error("`{}` cannot be written", path.display())]
    Failed {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no file of {0}")]
    Absent(BlobId),
    /// Another try will not help; the same content written again will.
    #[error("the file of {0} does not hold what was written")]
    Damaged(BlobId),
    #[error("`{}` cannot be read", path.display())]
    Failed {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// One process uses a folder at a time; to see to that is the caller's. Owners are plain names: letters,
/// digits, `.`, `_`, `-`.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Waits until a file or a folder is on the disk, or does not.
    sync: fn(&File) -> io::Result<()>,
}

impl Store {
    /// Touches nothing: folders are made, with mode 0700, when there is something to put into them.
    #[must_use]
    pub fn new(folder: PathBuf, durability: Durability) -> Self {
        let sync: fn(&File) -> io::Result<()> = match durability {
            Durability::Process => |_| Ok(()),
            Durability::Disk => File::sync_all,
        };
        Self { folder, sync }
    }

    /// Keeps `content`. One that is there already is written again, which takes no further room once
    /// it is done and mends a damaged file.
    ///
    /// # Errors
    /// What was there before is there still, and nothing else.
    pub fn put(&self, owner: &str, content: &[u8]) -> Result<BlobId, WriteError> {
        let id = BlobId::of(content);
        let path = self.path(owner, &id);
        self.write(&path, content).map_err(|source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                WriteError::Full
            }
            _ => WriteError::Failed { path, source },
        })?;
        Ok(id)
    }

    /// # Errors
    /// Where it is not there or not what was put; never other bytes.
    pub fn get(&self, owner: &str, id: &BlobId) -> Result<Vec<u8>, ReadError> {
        let path = self.path(owner, id);
        let content = fs::read(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => ReadError::Absent(*id),
            _ => ReadError::Failed { path, source },
        })?;
        if BlobId::of(&content) == *id { Ok(content) } else { Err(ReadError::Damaged(*id)) }
    }

    /// Lets go of a blob; no error if it is not there.
    ///
    /// # Errors
    /// It may be there still.
    pub fn remove(&self, owner: &str, id: &BlobId) -> Result<(), WriteError> {
        let path = self.path(owner, id);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(WriteError::Failed { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes what a killed process left: writes that were cut off, and blobs that are not `named`.
    /// Before the first [`Self::put`]. Files that are not of this store stay. Returns how many went.
    ///
    /// # Errors
    /// Some may be there still.
    pub fn sweep(&self, named: impl Fn(&str, &BlobId) -> bool) -> Result<usize, WriteError> {
        let mut removed = 0;
        for owner in listed(&self.folder)? {
            let Some(name) = file_name(&owner).strip_prefix(OWNER) else { continue };
            for fan in listed(&owner)? {
                for file in listed(&fan)? {
                    let text = file_name(&file);
                    let unnamed = BlobId::from_hex(text).is_some_and(|it| !named(name, &it));
                    if unnamed || text.starts_with(UNFINISHED) {
                        fs::remove_file(&file).map_err(|it| failed(&file, it))?;
                        removed += 1;
                    }
                }
            }
        }
        Ok(removed)
    }

    fn path(&self, owner: &str, id: &BlobId) -> PathBuf {
        let plain = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
        assert!(owner.bytes().all(plain), "an owner's name would lead elsewhere: {owner:?}");
        let hex = id.hex();
        self.folder.join(format!("{OWNER}{owner}")).join(&hex[..2]).join(hex)
    }

    /// A file gets its name when all of it is there. An unfinished one goes with its handle.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let folder = path.parent().expect("a blob lies in a folder");
        self.make(folder)?;
        let mut file = Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        file.write_all(content)?;
        (self.sync)(file.as_file())?;
        file.persist(path)?;
        (self.sync)(&File::open(folder)?)
    }

    /// The folders down to this one, each of which is on the disk when the one above it is.
    fn make(&self, folder: &Path) -> io::Result<()> {
        let owner = folder.parent().expect("it lies in the owner's");
        for folder in [&self.folder, owner, folder] {
            match DirBuilder::new().mode(0o700).create(folder) {
                Ok(()) => (self.sync)(&File::open(folder.parent().unwrap_or(folder))?)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What lies in a folder; nothing in one that is not there, or is no folder.
fn listed(folder: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(|it| failed(folder, it))?,
    };
    entries.map(|it| it.map(|it| it.path()).map_err(|it| failed(folder, it))).collect()
}

/// Ours are ASCII.
fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|it| it.to_str()).unwrap_or_default()
}

fn failed(path: &Path, source: io::Error) -> WriteError {
    WriteError::Failed { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
