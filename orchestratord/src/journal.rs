//! What outlives the process, and how it gets onto the disk and back.
//!
//! A record goes to the [`Outbox`] when it has something new; the writer thread takes what has arrived
//! meanwhile, commits it in one go and then lets readers see it. Whoever acknowledges something waits
//! for that first.

mod archive;
mod documents;
mod past;
mod shared_reader;
mod shelf;
mod show;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use config_schema::{Durability, JournalConfig, StreamConfig};
use journal::{Journal, JournalError, JournalReader};
use orchestrator_core::TaskId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

pub(crate) use archive::Archive;
pub(crate) use documents::{COUNTERS, CountersDoc, Names, QUOTA, QuotaDoc};
pub(crate) use past::{Numbers, Past, Present};
pub(crate) use writer::WriterConfig;

use shelf::Shelf;
use writer::{Inbox, Writer};

use crate::clock::Clock;
use crate::task::TaskRecord;
use crate::tenants::Tenants;

#[derive(Debug, thiserror::Error)]
pub enum JournalStartError {
    #[error(transparent)]
    Open(#[from] journal::OpenError),
    #[error("the journal in `{folder}` cannot be read back")]
    Read { folder: PathBuf, source: journal::JournalError },
    #[error("{what} in the journal in `{folder}` is not what this version writes")]
    Document { folder: PathBuf, what: String, source: serde_json::Error },
}

enum Message {
    /// A new task. Comes before everything else about it.
    Admitted(Arc<TaskRecord>),
    Changed(Arc<TaskRecord>),
    /// Records are among those that can wait a moment.
    Patient,
    /// A named document; `None`: there is none any more.
    Value {
        key: String,
        value: Option<Bytes>,
    },
    /// Tell when everything before it is written.
    Flush(oneshot::Sender<()>),
    /// Write what is there, then end.
    Stop,
}

/// Where what is to be written goes. Cheap to clone; never blocks.
#[derive(Clone)]
pub(crate) struct Outbox {
    /// Holds an open task a few times at most, so its length is bounded as their number is.
    messages: mpsc::Sender<Message>,
    /// Records that can wait for a moment, so that several share a commit and its cost: streams that
    /// flow. The thread is woken for the first of them only.
    patient: Arc<Mutex<Vec<Arc<TaskRecord>>>>,
    full: Arc<AtomicBool>,
    /// Where it can be read again.
    pub(crate) shelf: Shelf,
}

impl Outbox {
    /// A new task.
    pub(crate) fn admitted(&self, record: Arc<TaskRecord>) {
        self.send(Message::Admitted(record));
    }

    /// Something about a task that has gone through [`Self::admitted`], for which somebody waits.
    pub(crate) fn changed(&self, record: Arc<TaskRecord>) {
        self.send(Message::Changed(record));
    }

    /// More of a stream that is already shown in part.
    pub(crate) fn flows(&self, record: Arc<TaskRecord>) {
        let first = {
            let mut patient = self.patient.lock().expect("no holder panics");
            patient.push(record);
            patient.len() == 1
        };
        if first {
            self.send(Message::Patient);
        }
    }

    /// A named document; a later one replaces it.
    pub(crate) fn value(&self, key: String, document: &impl Serialize) {
        let value = serde_json::to_vec(document).expect("documents always serialise");
        self.send(Message::Value { key, value: Some(value.into()) });
    }

    /// Forgets a named document. Resolves when that is written, or to an error if it cannot be.
    pub(crate) fn remove(&self, key: String) -> oneshot::Receiver<()> {
        self.send(Message::Value { key, value: None });
        self.flushed()
    }

    /// Resolves when all that was sent before is written, or to an error if it cannot be.
    pub(crate) fn flushed(&self) -> oneshot::Receiver<()> {
        let (written, resolves) = oneshot::channel();
        self.send(Message::Flush(written));
        resolves
    }

    /// Nothing can be written at present, so nothing should be admitted.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.send(Message::Stop);
    }

    fn send(&self, message: Message) {
        if self.messages.send(message).is_err() {
            tracing::debug!("the writer has ended; something was not written");
        }
    }
}

/// The journal before anything runs.
pub(crate) struct Opened {
    folder: PathBuf,
    journal: Box<dyn Journal>,
    reader: Box<dyn JournalReader>,
}

/// The thread that writes, until the last word.
pub(crate) struct Writing {
    outbox: Outbox,
    thread: JoinHandle<()>,
}

impl Opened {
    /// `None` where tasks are kept in memory only.
    pub(crate) fn open(config: &JournalConfig) -> Result<Option<Self>, JournalStartError> {
        let durability = match config.durability {
            Durability::Memory => return Ok(None),
            Durability::Process => journal::Durability::Process,
            Durability::Disk => journal::Durability::Disk,
        };
        let folder = config.data_dir.clone();
        let journal = journal::open(&folder, durability)?;
        let reader = journal
            .reader()
            .map_err(|source| JournalStartError::Read { folder: folder.clone(), source })?;
        Ok(Some(Self { folder, journal: Box::new(journal), reader }))
    }

    /// Raised by each start.
    pub(crate) fn next_epoch(&mut self, clock: Clock) -> Result<u64, JournalStartError> {
        let last = past::last_epoch(self.reader.as_mut()).map_err(|it| self.unread(it))?;
        let epoch = epoch(clock, last);
        let value = Some(epoch.to_string().into());
        let write = journal::Write::Value { key: documents::EPOCH.into(), value };
        self.journal.commit(&[write]).map_err(|it| self.unread(it))?;
        Ok(epoch)
    }

    /// Where what is written goes through.
    pub(crate) fn boxes(&self, config: StreamConfig) -> Result<(Outbox, Inbox), JournalStartError> {
        let reader = self.journal.reader().map_err(|it| self.unread(it))?;
        Ok(writer::boxes(Shelf::new(reader, config.memory_bytes as usize)))
    }

    pub(crate) fn past(
        &mut self,
        present: &Present<'_>,
        numbers: &mut impl Numbers,
    ) -> Result<Past, JournalStartError> {
        Past::read(&self.folder, self.reader.as_mut(), present, numbers)
    }

    /// Named documents whose key begins with `prefix`.
    pub(crate) fn documents<T: DeserializeOwned>(
        &mut self,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, JournalStartError> {
        let values = self.reader.values(prefix).map_err(|it| self.unread(it))?;
        let document = |(what, value): (String, Bytes)| match serde_json::from_slice(&value) {
            Ok(document) => Ok((what, document)),
            Err(source) => {
                Err(JournalStartError::Document { folder: self.folder.clone(), what, source })
            }
        };
        values.into_iter().map(document).collect()
    }

    pub(crate) fn start(
        self,
        (outbox, inbox): (Outbox, Inbox),
        config: WriterConfig,
        tenants: Arc<Tenants>,
        tracker: &TaskTracker,
    ) -> (Archive, Writing) {
        let back = (config.driver.leavings(), outbox.clone());
        let archive = Archive::new(self.reader, tenants, config.clock, back);
        let (shows, shower) = show::shows();
        tracker.spawn(shower.run());
        let writer = Writer::new(self.journal, inbox, shows, config);
        let thread = std::thread::Builder::new().name("journal".into());
        let thread =
            thread.spawn(|| writer.run()).expect("a process that starts has a thread left");
        (archive, Writing { outbox, thread })
    }

    fn unread(&self, source: JournalError) -> JournalStartError {
        JournalStartError::Read { folder: self.folder.clone(), source }
    }
}

impl Writing {
    /// Returns when all that was sent is written.
    pub(crate) async fn finish(self) {
        self.outbox.stop();
        let _panicked = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

/// What commanded before, or runs on beside us, is refused from now on. Milliseconds, so that daemons
/// without a journal have an order, too.
pub(crate) fn epoch(clock: Clock, last: u64) -> u64 {
    (clock.now().0 / 1_000).max(last + 1)
}

fn task_no(id: TaskId) -> journal::TaskNo {
    journal::TaskNo(id.0)
}
