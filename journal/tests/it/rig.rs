//! Short ways to write and read.

use bytes::Bytes;
use journal::{
    Admitted, Durability, Journal, JournalReader, SqliteJournal, StoredEvents, TaskNo, Write,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder for a journal; removed when dropped.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Is there only after the first `open`.
    pub(crate) fn folder(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(crate) fn open(&self) -> SqliteJournal {
        open(&self.folder())
    }
}

pub(crate) fn open(folder: &Path) -> SqliteJournal {
    journal::open(folder, Durability::Process).unwrap()
}

pub(crate) fn reader(journal: &SqliteJournal) -> Box<dyn JournalReader> {
    journal.reader().unwrap()
}

pub(crate) fn admitted(task: u64) -> Admitted {
    Admitted {
        task: TaskNo(task),
        tenant: String::from("home"),
        id: u128::from(task).to_be_bytes(),
        session: None,
        admitted_at_ms: 1_000 + task,
        request: Bytes::from(format!("request {task}")),
        state: Bytes::from_static(b"queued"),
    }
}

pub(crate) fn admission(task: u64) -> Write {
    Write::Admitted(admitted(task))
}

pub(crate) fn events(task: u64, first: u64, last: u64, frames: impl Into<Bytes>) -> Write {
    Write::Events { task: TaskNo(task), first, last, frames: frames.into() }
}

pub(crate) fn state(task: u64, state: &'static str) -> Write {
    Write::State {
        task: TaskNo(task),
        state: Bytes::from_static(state.as_bytes()),
        ended_at_ms: None,
    }
}

pub(crate) fn end(task: u64, ended_at_ms: u64) -> Write {
    let state = Bytes::from_static(b"completed");
    Write::State { task: TaskNo(task), state, ended_at_ms: Some(ended_at_ms) }
}

pub(crate) fn value(key: &str, value: Option<&'static str>) -> Write {
    Write::Value { key: key.to_owned(), value: value.map(|it| Bytes::from_static(it.as_bytes())) }
}

pub(crate) fn forget(task: u64) -> Write {
    Write::Forget { task: TaskNo(task) }
}

/// Every row of a task.
pub(crate) fn all_events(journal: &SqliteJournal, task: u64) -> Vec<StoredEvents> {
    reader(journal).events(TaskNo(task), 0, usize::MAX).unwrap()
}

/// Numbers of the tasks that are open.
pub(crate) fn open_tasks(journal: &SqliteJournal) -> Vec<u64> {
    let open = reader(journal).open_tasks(None, usize::MAX).unwrap();
    open.iter().map(|it| it.admitted.task.0).collect()
}
