//! From a path to a connection: makes the file, or finds out whether it is one of ours and whole,
//! without changing what it refuses.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::{APPLICATION_ID, migrate, version};
use super::wal_of;
use crate::folder::OpenError;

/// The check reads the whole file: half a second for 1 GiB that is in memory, 7 s from a disk of
/// 150 MB/s. Past this it has to do with what it has seen.
const CHECK_AT_MOST: Duration = Duration::from_secs(10);
/// Steps of SQLite between two looks at the clock; one may be a page with all the blobs on it.
const CHECK_STEPS: i32 = 10;

/// Both in bytes from the beginning; see SQLite's file format.
const VERSION_AT: usize = 60;
const APPLICATION_AT: usize = 68;
const HEAD_BYTES: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Makes the file if there is none, refuses what is no journal, damaged or newer, and migrates
/// what is older.
pub(super) fn prepare(path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    let known = u32::try_from(migrations.len()).expect("they were written by hand");
    if !path.try_exists().map_err(|it| OpenError::unusable(path)(it.into()))? {
        if wal_of(path).exists() {
            let found = String::from("its log is there and it is not");
            return Err(OpenError::Damaged { path: path.to_owned(), found });
        }
        return create(path, migrations).map_err(OpenError::unusable(path));
    }
    head(path, known)?;
    if check(path, CHECK_AT_MOST)? < known {
        older(path, migrations).map_err(|it| OpenError::unusable(path)(it.into()))?;
    }
    Ok(())
}

/// Under another name until it is whole, so that a file without tables is never mistaken for one
/// that lost them.
fn create(
    path: &Path,
    migrations: &[&str],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let new = path.with_extension("new");
    for leftover in [new.clone(), path.with_extension("new-journal")] {
        if let Err(error) = std::fs::remove_file(leftover)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
    }
    // SQLite gives the files beside it the same mode.
    File::options().create_new(true).write(true).mode(0o600).open(&new)?;
    let connection = connect(&new)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    migrate(&connection, migrations)?;
    connection.close().map_err(|(_, error)| error)?;
    std::fs::rename(&new, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn older(path: &Path, migrations: &[&str]) -> rusqlite::Result<()> {
    let connection = connect(path)?;
    connection.pragma_update(None, "journal_mode", "delete")?;
    migrate(&connection, migrations)?;
    connection.close().map_err(|(_, error)| error)
}

/// What can be told without SQLite, which would make files of its own.
fn head(path: &Path, known: u32) -> Result<(), OpenError> {
    let mut head = Vec::new();
    let opened = File::open(path);
    let read = opened.and_then(|it| it.take(HEAD_BYTES as u64).read_to_end(&mut head));
    read.map_err(|it| OpenError::unusable(path)(it.into()))?;
    let path = path.to_owned();
    if head.len() < HEAD_BYTES {
        return Err(OpenError::Damaged { path, found: format!("it has {} bytes", head.len()) });
    }
    if !head.starts_with(MAGIC) {
        let found = String::from("no SQLite database");
        return Err(OpenError::Foreign { path, found, expected: String::from("one") });
    }
    let number = |at: usize| head[at..].first_chunk().copied().map_or(0, u32::from_be_bytes);
    let (application, version) = (number(APPLICATION_AT), number(VERSION_AT));
    if application != APPLICATION_ID.cast_unsigned() {
        let found = format!("a database with the application id {application:#010x}");
        return Err(OpenError::Foreign {
            path,
            found,
            expected: format!("{APPLICATION_ID:#010x}"),
        });
    }
    if known < version {
        return Err(OpenError::Newer { path, found: version, known });
    }
    Ok(())
}

/// The version of a database that is not damaged, as far as SQLite can tell: it has checksums for
/// its log, but for the database only its structure.
pub(super) fn check(path: &Path, at_most: Duration) -> Result<u32, OpenError> {
    let had_log = wal_of(path).exists();
    let checked = checked(path, at_most);
    if !had_log && !matches!(checked, Ok((_, None))) {
        // Empty: looking made it.
        let _gone = std::fs::remove_file(wal_of(path));
    }
    let path = path.to_owned();
    match checked {
        Ok((version, None)) => Ok(version),
        Ok((_, Some(found))) => Err(OpenError::Damaged { path, found }),
        Err(error) if is_damage(&error) => {
            Err(OpenError::Damaged { path, found: error.to_string() })
        }
        Err(error) => Err(OpenError::unusable(&path)(error.into())),
    }
}

/// The version, and what is wrong.
fn checked(path: &Path, at_most: Duration) -> rusqlite::Result<(u32, Option<String>)> {
    let mut connection = connect(path)?;
    // Alone, so that the log's index is in memory, and not moving the log into the database after.
    connection.pragma_update(None, "locking_mode", "exclusive")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let version = version(&connection)?;
    let begun = Instant::now();
    let is_over = move || at_most < begun.elapsed();
    connection.progress_handler(CHECK_STEPS, Some(is_over))?;
    let answer = connection.pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0));
    match answer {
        Ok(answer) if answer == "ok" => Ok((version, None)),
        Ok(answer) => Ok((version, Some(answer))),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Ok((version, None))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let damage = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
    error.sqlite_error_code().is_some_and(|it| damage.contains(&it))
}

/// To a file that is there.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}
