//! Of what only SQL can bring about.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::schema::{MIGRATIONS, version};
use super::*;
use crate::port::Admitted;

/// The step that a next version might bring.
const NEXT: &str = "ALTER TABLE task ADD COLUMN note TEXT; UPDATE task SET note = tenant;";

fn admission(task: u64) -> Write {
    Write::Admitted(Admitted {
        task: TaskNo(task),
        tenant: String::from("home"),
        id: u128::from(task).to_be_bytes(),
        session: None,
        admitted_at_ms: 1,
        request: bytes::Bytes::from(vec![b'r'; 4_096]),
        state: bytes::Bytes::new(),
    })
}

/// A closed journal of this version with one task, whose admission is in the log if `in_log`.
fn place(in_log: bool) -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let mut journal = open(place.path(), Durability::Disk).unwrap();
    journal.commit(&[admission(1)]).unwrap();
    let path = journal.path.clone();
    if in_log {
        let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        journal.connection.set_db_config(keep, true).unwrap();
    }
    (place, path)
}

/// OC-JRNL-6010: with all that is in it, also in its log.
#[test]
fn an_older_journal_is_migrated() {
    for in_log in [false, true] {
        let (_place, path) = place(in_log);
        file::prepare(&path, &[MIGRATIONS[0], MIGRATIONS[1], NEXT]).unwrap();
        let connection = Connection::open(&path).unwrap();
        assert_eq!(version(&connection).unwrap(), 3);
        let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let note = connection.query_row("SELECT note FROM task", [], read);
        assert_eq!(note.unwrap(), "home");
        // And is a newer one to the program before.
        drop(connection);
        let refused = file::prepare(&path, &MIGRATIONS);
        assert!(matches!(refused, Err(OpenError::Newer { found: 3, known: 2, .. })));
    }
}

/// OC-JRNL-6010, OC-JRNL-6002: with the events that wait in its tail.
#[test]
fn a_journal_of_the_first_version_has_all_its_events() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("journal.db");
    file::prepare(&path, &MIGRATIONS[..1]).unwrap();
    let connection = Connection::open(&path).unwrap();
    let task = "INSERT INTO task (task, tenant, id, admitted_at_ms, state) \
         VALUES (7, 'home', x'07', 1, x''); INSERT INTO request VALUES (7, x'72');";
    connection.execute_batch(task).unwrap();
    // Another one's is among them.
    for (task, first, last, frames) in [(7, 1, 2, "one two"), (3, 1, 1, "-"), (7, 3, 3, "three")] {
        let sql = "INSERT INTO tail (task, first, last, frames) VALUES (?1, ?2, ?3, ?4)";
        connection.execute(sql, (task, first, last, frames.as_bytes())).unwrap();
    }
    drop(connection);
    let mut journal = open(place.path(), Durability::Process).unwrap();
    let frames = bytes::Bytes::from_static(b"four");
    journal.commit(&[Write::Events { task: TaskNo(7), first: 4, last: 4, frames }]).unwrap();
    let rows = journal.reader().unwrap().events(TaskNo(7), 0, usize::MAX).unwrap();
    let rows: Vec<_> = rows.iter().map(|it| (it.first, it.last, &it.frames[..])).collect();
    assert_eq!(rows, [(1, 2, &b"one two"[..]), (3, 3, b"three"), (4, 4, b"four")]);
}

/// OC-JRNL-6010: a step that fails takes back those before it.
#[test]
fn a_failed_migration_changes_nothing() {
    let (_place, path) = place(false);
    let broken = "UPDATE task SET note = 1; UPDATE nothing SET nothing = 1;";
    let refused = file::prepare(&path, &[MIGRATIONS[0], MIGRATIONS[1], NEXT, broken]);
    assert!(matches!(refused, Err(OpenError::Unusable { .. })));
    let connection = Connection::open(&path).unwrap();
    assert_eq!(version(&connection).unwrap(), 2);
    assert!(connection.prepare("SELECT note FROM task").is_err());
    drop(connection);
    let journal = open(path.parent().unwrap(), Durability::Process).unwrap();
    assert_eq!(journal.ledger.totals.last_task, TaskNo(1));
}

/// OC-JRNL-6010: a file that was being made when the process died is made again.
#[test]
fn a_half_made_journal_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("journal.new"), "half").unwrap();
    let mut journal = open(place.path(), Durability::Process).unwrap();
    journal.commit(&[admission(1)]).unwrap();
    assert!(!place.path().join("journal.new").exists());
}

/// OC-JRNL-6015: the same damage is found with time and not looked for without, however large the
/// file is.
#[test]
fn the_check_is_bounded() {
    let (_place, path) = place(false);
    let mut journal = open(path.parent().unwrap(), Durability::Process).unwrap();
    let tasks: Vec<_> = (2..=500).map(admission).collect();
    journal.commit(&tasks).unwrap();
    drop(journal);
    let file = File::options().write(true).open(&path).unwrap();
    let end = file.metadata().unwrap().len() - 4_096;
    file.write_all_at(&[0xff; 4_096], end).unwrap();
    let damaged = file::check(&path, Duration::MAX);
    assert!(matches!(damaged, Err(OpenError::Damaged { .. })));
    assert_eq!(file::check(&path, Duration::ZERO).unwrap(), 2);
}

/// OC-JRNL-6031: events of a task that is gone before they are moved are not moved.
#[test]
fn nothing_stays_of_what_is_forgotten() {
    let place = tempfile::tempdir().unwrap();
    let mut journal = open(place.path(), Durability::Process).unwrap();
    let events = |task, bytes: u64| Write::Events {
        task: TaskNo(task),
        first: 1,
        last: 1,
        frames: vec![b'f'; usize::try_from(bytes).unwrap()].into(),
    };
    journal.commit(&[admission(1), admission(2), events(1, 10)]).unwrap();
    journal.commit(&[Write::Forget { task: TaskNo(1) }]).unwrap();
    journal.commit(&[events(2, TAIL_BYTES)]).unwrap();
    let sql = "SELECT event FROM event UNION ALL SELECT at FROM tail";
    let read = |row: &rusqlite::Row<'_>| row.get(0);
    let kept: Vec<i64> =
        journal.statement(sql).unwrap().query_map([], read).unwrap().map(Result::unwrap).collect();
    assert_eq!(kept, [event_key(TaskNo(2), 1)]);
}

/// OC-JRNL-6005: as SQLite says it; that a disk keeps it is not for a test to find out.
#[test]
fn only_disk_waits_for_the_disk() {
    for (durability, expected) in [(Durability::Process, 1), (Durability::Disk, 2)] {
        let place = tempfile::tempdir().unwrap();
        let journal = open(place.path(), durability).unwrap();
        let synchronous = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let read = journal.connection.pragma_query_value(None, "synchronous", synchronous);
        assert_eq!(read.unwrap(), expected);
    }
}

fn allow_pages(journal: &SqliteJournal, pages: i64) {
    let sql = format!("PRAGMA max_page_count = {pages}");
    journal.connection.query_row(&sql, [], |_| Ok(())).unwrap();
}

/// OC-JRNL-6021: the room is given free only for what may use it, and taken again by a sweep.
/// OC-JRNL-6020: here it is the database that may not grow.
#[test]
fn the_reserve_is_for_ends() {
    let place = tempfile::tempdir().unwrap();
    let reserve = place.path().join("reserve");
    let mut journal = open(place.path(), Durability::Process).unwrap();
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 16 << 20);
    journal.commit_reserved(&[]).unwrap();
    assert!(reserve.exists(), "there was room");
    allow_pages(&journal, 1);
    let full = |journal: &mut SqliteJournal| {
        let batch: Vec<_> = (1..=20).map(admission).collect();
        matches!(journal.commit(&batch), Err(JournalError::Full))
    };
    assert!(full(&mut journal));
    assert!(reserve.exists());
    let batch: Vec<_> = (1..=20).map(admission).collect();
    let refused = journal.commit_reserved(&batch);
    assert!(matches!(refused, Err(JournalError::Full)));
    assert!(!reserve.exists());
    allow_pages(&journal, 1 << 20);
    journal.commit_reserved(&batch).unwrap();
    let keep = Retention { age_ms: u64::MAX, bytes: u64::MAX };
    journal.sweep(keep, 0, 1).unwrap();
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 16 << 20);
}
