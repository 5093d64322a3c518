//! No room: files that may not grow any more, and a file system that is full.

use std::path::Path;
use std::process::Command;

use journal::{Journal, JournalError, Retention, SqliteJournal, Write};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::rig::{Place, admission, all_events, end, events, open, open_tasks, reader};

/// Names the folder to a process of [`limited`] or [`mounted`].
const FOLDER: &str = "JOURNAL_TEST_FULL";

/// `setup`, then this test in a process of its own, `$0`, where the folder is named.
fn in_process(setup: &str, test: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{setup} exec \"$0\" --exact {test} --nocapture")]);
    command.arg(std::env::current_exe().unwrap()).env(FOLDER, folder);
    command
}

/// Commits rows of 100 KiB until there is no room; tells how many there are.
fn fill(journal: &mut SqliteJournal, task: u64) -> u64 {
    for id in 1.. {
        match journal.commit(&[events(task, id, id, vec![b'x'; 100 << 10])]) {
            Ok(()) => {}
            Err(JournalError::Full) => return id - 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    unreachable!("there is no end of room")
}

/// OC-JRNL-6020: by a limit on the size of files, which is EFBIG, and needs no privilege.
#[test]
fn limited() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        let place = Place::new();
        // Else the limit would end the process.
        let mut child = in_process("trap '' XFSZ;", "full::limited", &place.folder());
        let output = child.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        // Nothing is half there for the next process either.
        let journal = place.open();
        assert_eq!(open_tasks(&journal), [2]);
        return;
    };
    let mut journal = open(Path::new(&folder));
    journal.commit(&[admission(1)]).unwrap();
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(3 << 20), ..before }).unwrap();
    let written = fill(&mut journal, 1);
    assert!(4 < written);
    let batch: Vec<Write> =
        vec![admission(2), events(1, written + 1, written + 1, vec![b'y'; 1 << 20]), end(1, 1)];
    assert!(matches!(journal.commit(&batch), Err(JournalError::Full)));
    assert_eq!(all_events(&journal, 1).len() as u64, written);
    assert_eq!(open_tasks(&journal), [1]);
    assert_eq!(reader(&journal).last_task().unwrap().0, 1);
    setrlimit(Resource::Fsize, before).unwrap();
    journal.commit(&batch).unwrap();
    assert_eq!(all_events(&journal, 1).len() as u64, written + 1);
    assert_eq!(open_tasks(&journal), [2]);
}

/// OC-JRNL-6021: on a file system of 40 MiB in a name space of its own; where the machine does not
/// allow one, `sqlite::tests` still shows that the room is given free and taken again.
#[test]
fn mounted() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        let place = Place::new();
        std::fs::create_dir(place.folder()).unwrap();
        let mut can = Command::new("unshare");
        can.args(["--user", "--map-root-user", "--mount"]);
        can.args(["mount", "-t", "tmpfs", "none"]).arg(place.folder());
        if !can.output().is_ok_and(|it| it.status.success()) {
            return;
        }
        let setup = format!(
            "exec unshare --user --map-root-user --mount sh -c 'mount -t tmpfs -o size=40m none \
             \"${FOLDER}\" && exec \"$0\" --exact full::mounted --nocapture' \"$0\";"
        );
        let output = in_process(&setup, "", &place.folder()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    };
    let folder = Path::new(&folder);
    let reserve = folder.join("reserve");
    let mut journal = open(folder);
    std::fs::write(folder.join("filler"), vec![0; 8 << 20]).unwrap();
    let tasks: Vec<_> = (1..=100).map(admission).collect();
    journal.commit(&tasks).unwrap();
    fill(&mut journal, 1);
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 16 << 20);
    for task in 1..=100 {
        journal.commit_reserved(&[end(task, task)]).unwrap();
    }
    assert!(!reserve.exists());
    assert_eq!(open_tasks(&journal), []);
    // It cannot be kept back as long as there is none, and a failed attempt takes none.
    let none = Retention { age_ms: u64::MAX, bytes: u64::MAX };
    journal.sweep(none, 0, 1).unwrap();
    assert!(!reserve.exists());
    journal.commit(&[admission(101)]).unwrap();
    std::fs::remove_file(folder.join("filler")).unwrap();
    journal.sweep(none, 0, 1).unwrap();
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 16 << 20);
}
