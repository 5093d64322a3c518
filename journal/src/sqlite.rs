//! The journal in an SQLite database, and all SQL of the product.

mod checkpoint;
mod file;
mod reader;
mod rows;
mod schema;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, ffi};

use crate::folder::{self, OpenError};
use crate::ledger::{Ledger, Open, Totals, length};
use crate::port::{
    EVENTS_MAX, Journal, JournalError, JournalReader, Retention, Swept, TaskNo, Write,
};
use crate::reserve::Reserve;
use checkpoint::Checkpointer;
use reader::SqliteReader;
use rows::{Chunk, Joined, heads};

/// Frames that the tail takes before it is moved. Longer makes fewer and larger blobs, and a longer
/// commit now and then.
const TAIL_BYTES: u64 = 512 << 10;
/// Pages that are written before the log is moved into the database.
const LOG_PAGES: u64 = 4_000;
/// After the log began anew its file is cut to this.
const LOG_FILE_BYTES: i64 = 64 << 20;
const PAGE_BYTES: u64 = 4_096;

/// What a commit outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, also by SIGKILL. Without power the newest commits may be lost, but
    /// whole ones, and none before an older one.
    Process,
    /// The loss of power too.
    Disk,
}

/// The one writer of a folder, which is free again when it and its readers are dropped.
#[derive(Debug)]
pub struct SqliteJournal {
    path: PathBuf,
    ledger: Ledger,
    /// Estimated; of the log since the checkpointer was last woken.
    pages: u64,
    reserve: Reserve,
    /// Events of the commit that is being made.
    chunk: Chunk,
    // Before the connection, whose end moves what is left in the log.
    checkpointer: Checkpointer,
    connection: Connection,
    // Last, for as long as anything is open; readers hold it too.
    lock: Arc<File>,
}

/// Opens the journal in `folder`, which is made if there is none.
///
/// # Errors
/// See [`OpenError`]; what is refused is not changed.
pub fn open(folder: &Path, durability: Durability) -> Result<SqliteJournal, OpenError> {
    folder::make(folder)?;
    let lock = folder::lock(folder)?;
    let path = folder.join("journal.db");
    file::prepare(&path, &schema::MIGRATIONS)?;
    let opened = SqliteJournal::open(&path, durability, lock);
    let journal = opened.map_err(OpenError::unusable(&path))?;
    // Else a sweep makes it when there is room.
    let _later = journal.reserve.make();
    Ok(journal)
}

impl SqliteJournal {
    fn open(
        path: &Path,
        durability: Durability,
        lock: File,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let connection = file::connect(path)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        let synchronous = match durability {
            // Not OFF: then a loss of power may damage what is old.
            Durability::Process => "NORMAL",
            Durability::Disk => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", LOG_FILE_BYTES)?;
        connection.set_prepared_statement_cache_capacity(64);
        let ledger = ledger(&connection)?;
        Ok(Self {
            path: path.to_owned(),
            ledger,
            pages: 0,
            reserve: Reserve::new(path.parent().unwrap_or(path)),
            chunk: Chunk::default(),
            checkpointer: Checkpointer::start(path)?,
            connection,
            lock: Arc::new(lock),
        })
    }

    /// One transaction. What fails leaves nothing behind, here and there.
    fn whole<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        self.ledger.begin();
        let done = self.run("BEGIN IMMEDIATE").and_then(|()| {
            let done = work(self)?;
            self.run("COMMIT").map(|()| done)
        });
        if done.is_err() {
            self.ledger.rewind();
            if !self.connection.is_autocommit() {
                self.run("ROLLBACK")?;
            }
        }
        if LOG_PAGES < self.pages {
            self.pages = 0;
            self.checkpointer.wake(&self.connection);
        }
        done
    }

    fn run(&self, sql: &str) -> Result<(), JournalError> {
        self.statement(sql).and_then(|mut it| it.execute([])).map(drop).map_err(failed)
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql)
    }

    fn write(&mut self, write: &Write) -> Result<(), JournalError> {
        let at_end = self.ledger.follow(write)?;
        self.pages += pages(write);
        self.put(write, at_end).map_err(|error| match (write, error.sqlite_error_code()) {
            (Write::Admitted(it), Some(ErrorCode::ConstraintViolation)) => {
                JournalError::Misplaced { task: it.task, why: "its tenant has its id already" }
            }
            _ => failed(error),
        })
    }

    fn put(&mut self, write: &Write, at_end: Option<Open>) -> rusqlite::Result<()> {
        match write {
            Write::Admitted(it) => {
                let sql = "INSERT INTO task (task, tenant, id, session, admitted_at_ms, state) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let task = integer(it.task.0);
                let at = integer(it.admitted_at_ms);
                let given = (task, &it.tenant, it.id, &it.session, at, &it.state[..]);
                self.statement(sql)?.execute(given)?;
                let sql = "INSERT INTO request (task, request) VALUES (?1, ?2)";
                self.statement(sql)?.execute((task, &it.request[..]))?;
            }
            Write::Events { task, first, last, frames } => {
                self.chunk.add(*task, *first, *last, frames);
            }
            Write::State { task, state, ended_at_ms } => {
                let sql = "UPDATE task SET state = ?2, ended_at_ms = ?3, last_event = ?4, \
                     bytes = ?5 WHERE task = ?1";
                let last = at_end.map(|it| integer(it.last_event));
                let bytes = at_end.map(|it| integer(it.bytes));
                let given = (integer(task.0), &state[..], ended_at_ms.map(integer), last, bytes);
                self.statement(sql)?.execute(given)?;
            }
            Write::Value { key, value: Some(value) } => {
                let sql = "INSERT OR REPLACE INTO value (key, value) VALUES (?1, ?2)";
                self.statement(sql)?.execute((key, &value[..]))?;
            }
            Write::Value { key, value: None } => {
                self.statement("DELETE FROM value WHERE key = ?1")?.execute([key])?;
            }
            Write::Forget { task } => self.forget(*task)?,
        }
        Ok(())
    }

    /// Its rows in the tail stay behind; nobody reads them, and moving the tail drops them.
    fn forget(&mut self, task: TaskNo) -> rusqlite::Result<()> {
        let sql = "DELETE FROM task WHERE task = ?1 RETURNING coalesce(bytes, 0)";
        let bytes =
            self.statement(sql)?.query_row([integer(task.0)], |row| row.get(0)).optional()?;
        let Some(bytes) = bytes.map(natural) else { return Ok(()) };
        self.ledger.totals.ended_bytes -= bytes;
        self.pages += 4 + bytes / PAGE_BYTES;
        self.statement("DELETE FROM request WHERE task = ?1")?.execute([integer(task.0)])?;
        let sql = "DELETE FROM event WHERE event BETWEEN ?1 AND ?2";
        self.statement(sql)?.execute(event_keys(task))?;
        Ok(())
    }

    /// Appends the commit's events to the tail.
    fn put_chunk(&mut self) -> rusqlite::Result<()> {
        if !self.chunk.heads.is_empty() {
            let sql = "INSERT INTO tail (heads, frames) VALUES (?1, ?2)";
            self.statement(sql)?.execute((&self.chunk.heads, &self.chunk.frames))?;
            self.pages += 1 + length(&self.chunk.frames) / PAGE_BYTES;
        }
        Ok(())
    }

    /// Moves the tail to where the events of a task are side by side.
    fn settle(&mut self) -> rusqlite::Result<()> {
        let mut joined: BTreeMap<TaskNo, Vec<Joined>> = BTreeMap::new();
        let mut statement = self.statement("SELECT heads, frames FROM tail ORDER BY at")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let frames = row.get_ref(1)?.as_blob()?;
            for it in heads(row.get_ref(0)?.as_str()?) {
                let blobs = joined.entry(it.task).or_default();
                // A gap, which only damage makes, is kept for readers to find.
                let goes_on = |blob: &Joined| !blob.is_full() && blob.last + 1 == it.first;
                if !blobs.last().is_some_and(goes_on) {
                    blobs.push(Joined::new(it.first));
                }
                if let (Some(blob), Some(frames)) = (blobs.last_mut(), frames.get(it.at)) {
                    blob.add(it.last, frames);
                }
            }
        }
        drop(rows);
        drop(statement);
        let mut known = self.statement("SELECT 1 FROM task WHERE task = ?1")?;
        let sql = "INSERT INTO event (event, last, rows, frames) VALUES (?1, ?2, ?3, ?4)";
        let mut statement = self.statement(sql)?;
        for (task, blobs) in joined {
            if !known.exists([integer(task.0)])? {
                continue;
            }
            for it in blobs {
                let event = event_key(task, it.first);
                statement.execute((event, integer(it.last), &it.lengths, &it.frames))?;
            }
        }
        drop((statement, known));
        self.statement("DELETE FROM tail")?.execute([])?;
        self.pages += 2 * self.ledger.totals.tail_bytes / PAGE_BYTES;
        self.ledger.totals.tail_bytes = 0;
        Ok(())
    }
}

impl Journal for SqliteJournal {
    fn commit(&mut self, writes: &[Write]) -> Result<(), JournalError> {
        self.chunk.clear();
        self.whole(|it| {
            writes.iter().try_for_each(|write| it.write(write))?;
            it.put_chunk().map_err(failed)?;
            if TAIL_BYTES < it.ledger.totals.tail_bytes {
                it.settle().map_err(failed)?;
            }
            Ok(())
        })
    }

    fn commit_reserved(&mut self, writes: &[Write]) -> Result<(), JournalError> {
        match self.commit(writes) {
            Err(JournalError::Full) if self.reserve.release() => self.commit(writes),
            other => other,
        }
    }

    fn sweep(
        &mut self,
        retention: Retention,
        now_ms: u64,
        limit: usize,
    ) -> Result<Swept, JournalError> {
        let sql = "SELECT task, ended_at_ms FROM task WHERE ended_at_ms IS NOT NULL \
             ORDER BY ended_at_ms, task LIMIT ?1";
        let read = || {
            let mut statement = self.statement(sql)?;
            let read = statement.query_map([integer((limit as u64).saturating_add(1))], |row| {
                Ok((TaskNo(natural(row.get(0)?)), natural(row.get(1)?)))
            })?;
            read.collect::<rusqlite::Result<Vec<_>>>()
        };
        let ended = read().map_err(failed)?;
        let swept = self.whole(|it| {
            let mut swept = Swept::default();
            for (task, ended_at_ms) in ended {
                let is_old = retention.age_ms < now_ms.saturating_sub(ended_at_ms);
                if !is_old && it.ledger.totals.ended_bytes <= retention.bytes {
                    break;
                }
                if swept.removed.len() == limit {
                    swept.more = true;
                    break;
                }
                it.write(&Write::Forget { task })?;
                swept.removed.push(task);
            }
            Ok(swept)
        })?;
        // There is none while the disk is full.
        let _later = self.reserve.make();
        Ok(swept)
    }

    fn reader(&self) -> Result<Box<dyn JournalReader>, JournalError> {
        Ok(Box::new(SqliteReader::open(&self.path, Arc::clone(&self.lock)).map_err(failed)?))
    }
}

/// What the database says of the open tasks and the totals.
fn ledger(connection: &Connection) -> rusqlite::Result<Ledger> {
    let sql = "SELECT task, length(request) FROM task JOIN request USING (task) \
         WHERE ended_at_ms IS NULL";
    let mut statement = connection.prepare(sql)?;
    let read = statement.query_map([], |row| {
        let bytes = natural(row.get(1)?);
        Ok((TaskNo(natural(row.get(0)?)), Open { last_event: 0, bytes }))
    })?;
    let mut open = read.collect::<rusqlite::Result<BTreeMap<_, _>>>()?;
    let sql = "SELECT coalesce(max(last), 0), coalesce(sum(length(frames)), 0) FROM event \
         WHERE event BETWEEN ?1 AND ?2";
    let mut settled = connection.prepare(sql)?;
    for (task, it) in &mut open {
        let read = |row: &rusqlite::Row<'_>| Ok((natural(row.get(0)?), natural(row.get(1)?)));
        let (last, bytes) = settled.query_row(event_keys(*task), read)?;
        it.last_event = last;
        it.bytes += bytes;
    }
    let mut totals = Totals { last_task: last_task(connection)?, ..Totals::default() };
    let mut tail = connection.prepare("SELECT heads FROM tail ORDER BY at")?;
    let mut rows = tail.query([])?;
    while let Some(row) = rows.next()? {
        for it in heads(row.get_ref(0)?.as_str()?) {
            let bytes = it.at.len() as u64;
            totals.tail_bytes += bytes;
            if let Some(open) = open.get_mut(&it.task) {
                open.last_event = it.last;
                open.bytes += bytes;
            }
        }
    }
    let sql = "SELECT coalesce(sum(bytes), 0) FROM task WHERE ended_at_ms IS NOT NULL";
    totals.ended_bytes = connection.query_row(sql, [], |row| row.get(0).map(natural))?;
    Ok(Ledger::new(open, totals))
}

/// SQLite keeps it for a key with AUTOINCREMENT.
fn last_task(connection: &Connection) -> rusqlite::Result<TaskNo> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'task'";
    let last = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(TaskNo(last.map_or(0, natural)))
}

/// About how many pages a write changes, beside the tail.
fn pages(write: &Write) -> u64 {
    match write {
        Write::Events { .. } => 0,
        Write::Admitted(it) => 6 + (length(&it.request) + length(&it.state)) / PAGE_BYTES,
        Write::State { state, .. } => 3 + length(state) / PAGE_BYTES,
        Write::Value { value, .. } => 1 + value.as_deref().map_or(0, length) / PAGE_BYTES,
        Write::Forget { .. } => 4,
    }
}

/// In `event`: the task, then the first id of a blob.
fn event_key(task: TaskNo, first: u64) -> i64 {
    integer(task.0 << EVENTS_MAX.count_ones() | first)
}

/// All those of a task, from and to. The task may be one that never was.
fn event_keys(task: TaskNo) -> (i64, i64) {
    let task = task.min(TaskNo::MAX);
    (event_key(task, 0), event_key(task, EVENTS_MAX))
}

/// What no clock shows and no disk holds is taken for the largest number there is.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Of a column where only `integer` wrote.
fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// What SQLite's error means to the caller.
fn failed(error: rusqlite::Error) -> JournalError {
    // A write that was refused for another reason than the disk's end: a quota, a limit of size.
    let refused = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE];
    let is_refused = error.sqlite_error().is_some_and(|it| refused.contains(&it.extended_code));
    if is_refused || error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        return JournalError::Full;
    }
    if file::is_damage(&error) {
        return JournalError::Damaged(error.into());
    }
    JournalError::Failed(error.into())
}

/// SQLite's log beside the database.
fn wal_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
