//! Folders that are not opened, and stay as they are.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use journal::{Durability, Journal, JournalError, OpenError};

use crate::rig::{Place, admission, admitted, end, events, open_tasks, reader, value};

/// Every file but the lock, with its content.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries
        .map(|it| (it.file_name().into_string().unwrap(), std::fs::read(it.path()).unwrap()));
    files.filter(|(name, _)| name != "lock").collect()
}

/// Opens it, which must fail and change nothing.
fn refused(place: &Place) -> OpenError {
    let before = content(&place.folder());
    let error = journal::open(&place.folder(), Durability::Process).unwrap_err();
    let after = content(&place.folder());
    assert!(before.keys().eq(after.keys()), "{:?} became {:?}", before.keys(), after.keys());
    assert!(before == after, "a file was changed: {error}");
    error
}

/// A closed journal of many pages, none of which is free: nobody reads those.
fn written() -> Place {
    let place = Place::new();
    let mut journal = place.open();
    for task in 1..=100 {
        let batch = [admission(task), events(task, 1, 1, vec![b'x'; 5_000]), end(task, task)];
        journal.commit(&batch).unwrap();
    }
    journal.commit(&[value("a", Some("b"))]).unwrap();
    place
}

/// Replaces bytes of the database.
fn patch(place: &Place, at: usize, bytes: &[u8]) {
    let path = place.file("journal.db");
    let mut content = std::fs::read(&path).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    std::fs::write(path, content).unwrap();
}

/// OC-JRNL-6011: by the version in its head.
#[test]
fn a_newer_journal_is_refused() {
    let place = written();
    patch(&place, 60, &99_u32.to_be_bytes());
    let error = refused(&place);
    assert!(matches!(error, OpenError::Newer { found: 99, known: 2, .. }));
    let text = error.to_string();
    let path = place.file("journal.db");
    assert!(text.contains(&*path.to_string_lossy()) && text.contains("version 99"), "{text}");
}

/// OC-JRNL-6011: another program's database, and no database at all.
#[test]
fn a_stranger_is_refused() {
    let place = written();
    patch(&place, 68, &7_u32.to_be_bytes());
    let text = refused(&place).to_string();
    assert!(text.contains("application id 0x00000007, expected 0x4c4c4f4a"), "{text}");

    std::fs::write(place.file("journal.db"), vec![b'#'; 5_000]).unwrap();
    let error = refused(&place);
    assert!(matches!(error, OpenError::Foreign { .. }));
    assert!(error.to_string().contains("no SQLite database"), "{error}");
}

/// OC-JRNL-6012: cut anywhere, or gone beside its log.
#[test]
fn a_cut_journal_is_refused() {
    for part in [0, 50, 4_096, 100_000] {
        let place = written();
        let file = std::fs::File::options().write(true).open(place.file("journal.db")).unwrap();
        file.set_len(part).unwrap();
        let error = refused(&place);
        assert!(matches!(error, OpenError::Damaged { .. }), "{part}: {error}");
        assert!(error.to_string().contains("move the folder away"), "{error}");
    }
    let place = written();
    std::fs::rename(place.file("journal.db"), place.file("journal.db-wal")).unwrap();
    assert!(matches!(refused(&place), OpenError::Damaged { .. }));
}

/// OC-JRNL-6012: flipped bytes at the beginning of any page.
#[test]
fn a_flipped_journal_is_refused() {
    let place = written();
    let whole = std::fs::read(place.file("journal.db")).unwrap();
    let mut damaged = 0;
    for page in (0..whole.len()).step_by(4_096 * 7) {
        std::fs::write(place.file("journal.db"), &whole).unwrap();
        // After the file's own head, which `head` looks at, or at that of the page.
        let at = if page == 0 { 100 } else { page };
        let flipped: Vec<u8> = whole[at..at + 16].iter().map(|it| !it).collect();
        patch(&place, at, &flipped);
        let error = refused(&place);
        assert!(matches!(error, OpenError::Damaged { .. }), "page at {page}: {error}");
        damaged += 1;
    }
    assert!(10 < damaged);
    std::fs::write(place.file("journal.db"), &whole).unwrap();
    assert_eq!(open_tasks(&place.open()), []);
}

/// OC-JRNL-6012: what is in the log when the process died is checked, and kept, as well.
#[test]
fn a_damaged_journal_with_a_log_is_left_alone() {
    let place = written();
    let copy = Place::new();
    std::fs::create_dir(copy.folder()).unwrap();
    let mut journal = place.open();
    journal.commit(&[admission(300)]).unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        std::fs::copy(place.file(name), copy.file(name)).unwrap();
    }
    drop(journal);
    // The beginning of the schema.
    patch(&copy, 100, &[0xff; 64]);
    assert!(matches!(refused(&copy), OpenError::Damaged { .. }));
    std::fs::copy(place.file("journal.db"), copy.file("journal.db")).unwrap();
    assert_eq!(open_tasks(&copy.open()), [300]);
}

/// OC-JRNL-6016: by whoever reads it then.
#[test]
fn damage_that_shows_later_is_told() {
    let place = written();
    let mut journal = place.open();
    let size = std::fs::metadata(place.file("journal.db")).unwrap().len();
    // All but the first page, which has the schema.
    patch(&place, 4_096, &vec![0xff; usize::try_from(size).unwrap() - 4_096]);
    let read = reader(&journal).find("home", admitted(1).id);
    assert!(matches!(read, Err(JournalError::Damaged(_))), "{read:?}");
    let written = journal.commit(&[admission(201)]);
    assert!(matches!(written, Err(JournalError::Damaged(_))), "{written:?}");
}

/// OC-JRNL-6014: while it is open, when all its files are there.
#[test]
fn only_the_owner_can_read() {
    let place = Place::new();
    let mut journal = place.open();
    journal.commit(&[admission(1)]).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.folder()), 0o700);
    let files = ["journal.db", "journal.db-wal", "journal.db-shm", "lock", "reserve"];
    for name in files {
        assert_eq!(mode(&place.file(name)), 0o600, "{name}");
    }
    assert_eq!(content(&place.folder()).len(), files.len() - 1);
}
