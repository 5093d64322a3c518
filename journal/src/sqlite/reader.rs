//! Reads beside the writer.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row, Transaction};

use super::rows::{Head, heads};
use super::{event_keys, failed, integer, natural, rows};
use crate::port::{Admitted, JournalError, JournalReader, Stored, StoredEvents, TaskNo};

/// What [`stored`] reads, in its order. CROSS: tasks are looked for first, then their requests.
const STORED: &str = "SELECT task, tenant, id, session, admitted_at_ms, request, state, \
     ended_at_ms, last_event FROM task CROSS JOIN request USING (task)";

pub(super) struct SqliteReader {
    connection: Connection,
    _lock: Arc<File>,
}

impl SqliteReader {
    pub(super) fn open(path: &Path, lock: Arc<File>) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Ok(Self { connection: Connection::open_with_flags(path, flags)?, _lock: lock })
    }

    fn stored(&mut self, rest: &str, given: impl Params) -> Result<Vec<Stored>, JournalError> {
        let moment = self.connection.transaction().map_err(failed)?;
        tasks(&moment, &format!("{STORED} {rest}"), given).map_err(failed)
    }
}

impl JournalReader for SqliteReader {
    fn open_tasks(
        &mut self,
        after: Option<TaskNo>,
        limit: usize,
    ) -> Result<Vec<Stored>, JournalError> {
        let after = after.map_or(-1, |it| integer(it.0));
        self.stored(
            "WHERE ended_at_ms IS NULL AND task > ?1 ORDER BY task LIMIT ?2",
            (after, integer(limit as u64)),
        )
    }

    fn find(&mut self, tenant: &str, id: [u8; 16]) -> Result<Option<Stored>, JournalError> {
        let found = self.stored("WHERE tenant = ?1 AND id = ?2", (tenant, id))?;
        Ok(found.into_iter().next())
    }

    fn list(
        &mut self,
        tenant: &str,
        session: Option<&str>,
        before: TaskNo,
        limit: usize,
    ) -> Result<Vec<Stored>, JournalError> {
        let (before, limit) = (integer(before.0), integer(limit as u64));
        match session {
            Some(session) => self.stored(
                "WHERE tenant = ?1 AND session = ?2 AND task < ?3 ORDER BY task DESC LIMIT ?4",
                (tenant, session, before, limit),
            ),
            None => self.stored(
                "WHERE tenant = ?1 AND task < ?2 ORDER BY task DESC LIMIT ?3",
                (tenant, before, limit),
            ),
        }
    }

    fn events(
        &mut self,
        task: TaskNo,
        after: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredEvents>, JournalError> {
        let moment = self.connection.transaction().map_err(failed)?;
        let mut page = Page { after, max_bytes, bytes: 0, rows: Vec::new() };
        page.fill(&moment, task).map_err(failed)?;
        Ok(page.rows)
    }

    fn values(&mut self, prefix: &str) -> Result<Vec<(String, Bytes)>, JournalError> {
        let read = || {
            let sql = "SELECT key, value FROM value WHERE key >= ?1 ORDER BY key";
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut values = Vec::new();
            let mut rows = statement.query([prefix])?;
            while let Some(row) = rows.next()? {
                let key: String = row.get(0)?;
                if !key.starts_with(prefix) {
                    break;
                }
                values.push((key, blob(row, 1)?));
            }
            Ok(values)
        };
        read().map_err(failed)
    }

    fn last_task(&mut self) -> Result<TaskNo, JournalError> {
        super::last_task(&self.connection).map_err(failed)
    }
}

/// Of what `events` answers.
struct Page {
    after: u64,
    max_bytes: usize,
    bytes: usize,
    rows: Vec<StoredEvents>,
}

impl Page {
    fn fill(&mut self, moment: &Transaction<'_>, task: TaskNo) -> rusqlite::Result<()> {
        let known = "SELECT 1 FROM task WHERE task = ?1";
        if moment
            .prepare_cached(known)?
            .query_row([integer(task.0)], |_| Ok(()))
            .optional()?
            .is_none()
        {
            return Ok(());
        }
        let sql = "SELECT event, rows, frames FROM event \
             WHERE event BETWEEN ?1 AND ?2 AND last > ?3 ORDER BY event";
        let (from, to) = event_keys(task);
        let mut statement = moment.prepare_cached(sql)?;
        let mut blobs = statement.query((from, to, integer(self.after)))?;
        while let Some(row) = blobs.next()? {
            let first = natural(row.get::<_, i64>(0)? - from);
            let lengths: Vec<u8> = row.get(1)?;
            for it in rows::split(first, &lengths, &blob(row, 2)?) {
                if self.after < it.last && !self.take(it) {
                    return Ok(());
                }
            }
        }
        let mut statement = moment.prepare_cached("SELECT heads, frames FROM tail ORDER BY at")?;
        let mut tail = statement.query([])?;
        while let Some(row) = tail.next()? {
            let own = |it: &Head| it.task == task && self.after < it.last;
            let found: Vec<Head> = heads(row.get_ref(0)?.as_str()?).filter(own).collect();
            for Head { first, last, at, .. } in found {
                let Some(frames) = row.get_ref(1)?.as_blob()?.get(at) else { return Ok(()) };
                let frames = Bytes::copy_from_slice(frames);
                if !self.take(StoredEvents { first, last, frames }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether there is room for it.
    fn take(&mut self, row: StoredEvents) -> bool {
        let fits = self.rows.is_empty() || self.bytes + row.frames.len() <= self.max_bytes;
        if fits {
            self.bytes += row.frames.len();
            self.rows.push(row);
        }
        fits
    }
}

fn tasks(moment: &Transaction<'_>, sql: &str, given: impl Params) -> rusqlite::Result<Vec<Stored>> {
    let mut statement = moment.prepare_cached(sql)?;
    let mut tasks = statement.query_map(given, stored)?.collect::<rusqlite::Result<Vec<_>>>()?;
    if tasks.iter().all(|it| it.ended_at_ms.is_some()) {
        return Ok(tasks);
    }
    let mut in_tail = BTreeMap::new();
    let mut statement = moment.prepare_cached("SELECT heads FROM tail ORDER BY at")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        in_tail.extend(heads(row.get_ref(0)?.as_str()?).map(|it| (it.task, it.last)));
    }
    let sql = "SELECT last FROM event WHERE event BETWEEN ?1 AND ?2 ORDER BY event DESC LIMIT 1";
    let mut newest = moment.prepare_cached(sql)?;
    for task in tasks.iter_mut().filter(|it| it.ended_at_ms.is_none()) {
        let no = task.admitted.task;
        task.last_event = match in_tail.get(&no) {
            Some(last) => *last,
            None => newest
                .query_row(event_keys(no), |row| row.get(0).map(natural))
                .optional()?
                .unwrap_or(0),
        };
    }
    Ok(tasks)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let admitted = Admitted {
        task: TaskNo(natural(row.get(0)?)),
        tenant: row.get(1)?,
        id: row.get(2)?,
        session: row.get(3)?,
        admitted_at_ms: natural(row.get(4)?),
        request: blob(row, 5)?,
        state: blob(row, 6)?,
    };
    Ok(Stored {
        admitted,
        ended_at_ms: row.get::<_, Option<i64>>(7)?.map(natural),
        last_event: natural(row.get::<_, Option<i64>>(8)?.unwrap_or(0)),
    })
}

fn blob(row: &Row<'_>, at: usize) -> rusqlite::Result<Bytes> {
    row.get::<_, Vec<u8>>(at).map(Bytes::from)
}
