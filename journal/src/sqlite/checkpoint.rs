//! Moves SQLite's log into the database on a thread of its own, so that no commit waits for it.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::file::connect;

/// The log begins anew when all of it was moved, which a writer that never rests does not let
/// happen. Past this length, 64 MiB, it waits, and moves the rest itself.
const LOG_PAGES_MAX: u32 = 16_384;

/// Ends with its thread when dropped.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    /// Held while pages are moved: SQLite refuses a second one who moves, and does not let it wait.
    moving: Arc<Mutex<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(path: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let connection = connect(path)?;
        let (wake, woken) = sync_channel(1);
        let moving = Arc::new(Mutex::new(()));
        let shared = Arc::clone(&moving);
        let thread = std::thread::Builder::new().name(String::from("checkpoint"));
        let thread = thread.spawn(move || follow(&connection, &woken, &shared))?;
        Ok(Self { wake: Some(wake), moving, thread: Some(thread) })
    }

    /// Between two commits of the writer. Soon in the background, and at once if the log is too long.
    ///
    /// One that fails, for want of room say, is tried again when more was written; what is in the
    /// log is as safe as in the database.
    pub(super) fn wake(&self, writer: &Connection) {
        if log_pages(writer).is_ok_and(|it| LOG_PAGES_MAX < it) {
            let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
            let _later = checkpoint(writer);
        } else if let Some(wake) = &self.wake {
            let _waiting = wake.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn follow(connection: &Connection, woken: &Receiver<()>, moving: &Mutex<()>) {
    while woken.recv().is_ok() {
        let _moving = moving.lock().unwrap_or_else(PoisonError::into_inner);
        let _later = checkpoint(connection);
    }
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

fn log_pages(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))
}
