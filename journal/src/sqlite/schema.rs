//! The tables, and the way to them from those of older versions.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// `LLOJ`: tells our files from all other SQLite databases.
pub(super) const APPLICATION_ID: i32 = 0x4c4c_4f4a;

/// Entry `n` leads from version `n` to `n + 1`. A released one never changes.
pub(super) const MIGRATIONS: [&str; 2] = [
    // Requests lie apart, so that a new state does not copy them.
    // `tail` takes events in the order in which they come, whosever they are: a page takes those of
    // many streams, where a table in the order of tasks would change a page for each of them. When
    // it is long enough it is moved to `event`, where those of a task are side by side, in blobs
    // that hold many rows of the tail each. Rows of tasks that are gone stay behind.
    "
    CREATE TABLE task (
        task INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL,
        id BLOB NOT NULL,
        session TEXT,
        admitted_at_ms INTEGER NOT NULL,
        ended_at_ms INTEGER,
        -- The next two are of ended tasks only.
        last_event INTEGER,
        bytes INTEGER,
        state BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX task_by_id ON task (tenant, id);
    CREATE INDEX task_by_tenant ON task (tenant);
    CREATE INDEX task_by_session ON task (tenant, session) WHERE session IS NOT NULL;
    CREATE INDEX task_open ON task (task) WHERE ended_at_ms IS NULL;
    CREATE INDEX task_ended ON task (ended_at_ms, task, bytes) WHERE ended_at_ms IS NOT NULL;
    CREATE TABLE request (
        task INTEGER PRIMARY KEY,
        request BLOB NOT NULL
    ) STRICT;
    CREATE TABLE tail (
        at INTEGER PRIMARY KEY,
        task INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        frames BLOB NOT NULL
    ) STRICT;
    CREATE TABLE event (
        -- The task and the first id, see `event_key`.
        event INTEGER PRIMARY KEY,
        last INTEGER NOT NULL,
        rows BLOB NOT NULL,
        frames BLOB NOT NULL
    ) STRICT;
    CREATE TABLE value (
        key TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    // A row of the tail is what one commit has of all streams: a row for each of them takes several
    // times the processor time. `heads` has a line for each: its task, its first and last event, and
    // the length of its frames.
    "
    CREATE TABLE chunk (
        at INTEGER PRIMARY KEY,
        heads TEXT NOT NULL,
        frames BLOB NOT NULL
    ) STRICT;
    INSERT INTO chunk (at, heads, frames)
        SELECT at, format('%d %d %d %d', task, first, last, length(frames)) || char(10), frames
        FROM tail;
    DROP TABLE tail;
    ALTER TABLE chunk RENAME TO tail;
    ",
];

/// Brings a database to the last of `migrations`, or leaves it as it is. Not in WAL mode, so that
/// the version in the file's head is always that of its content.
pub(super) fn migrate(connection: &Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let whole = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let version = version(&whole)?;
    for (from, step) in (0_u32..).zip(migrations) {
        if version <= from {
            whole.execute_batch(step)?;
            whole.pragma_update(None, "user_version", from + 1)?;
        }
    }
    whole.commit()
}

pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
