//! SIGKILL, at any moment.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use journal::{Journal, OpenError, TaskNo};

use crate::rig::{Place, admission, all_events, end, events, open, open_tasks, reader, value};

/// Names the folder to a process that is to write for ever.
const FOLDER: &str = "JOURNAL_TEST_FOLDER";

/// The other process, when it is told a folder: writes what [`kills_lose_nothing`] looks for.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut journal = open(Path::new(&folder));
    let first = reader(&journal).last_task().unwrap().0 + 1;
    let mut out = std::io::stdout();
    for task in first.. {
        // Two tasks a batch, so that the end of one and the events of the next must agree. Enough
        // bytes that tails are moved and logs are checkpointed every few batches.
        let frames = vec![b'x'; 40_000];
        let mut batch = vec![admission(task), events(task, 1, 2, frames)];
        if first < task {
            batch.extend([events(task - 1, 3, 3, "last"), end(task - 1, task)]);
        }
        batch.push(value("newest", Some(if task % 2 == 0 { "even" } else { "odd" })));
        journal.commit(&batch).unwrap();
        writeln!(out, "wrote {task}").unwrap();
    }
}

fn start(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::writes_until_it_is_killed", "--nocapture"]);
    command.env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Lets it write `count` batches, kills it, and tells the last one that it had said.
fn killed_after(mut child: Child, count: usize) -> u64 {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut numbers = lines
        .map_while(Result::ok)
        .filter_map(|it| it.strip_prefix("wrote ").map(|number| number.parse::<u64>().unwrap()));
    let reached = numbers.by_ref().nth(count).expect("it writes for ever");
    child.kill().unwrap();
    child.wait().unwrap();
    numbers.last().unwrap_or(reached)
}

/// OC-JRNL-6001: killed ten times in a row, at points that the scheduler chooses.
#[test]
fn kills_lose_nothing() {
    let place = Place::new();
    let mut known = 0;
    for count in [0, 1, 2, 7, 11, 13, 14, 29, 31, 64] {
        let said = killed_after(start(&place.folder()), count);
        let mut journal = place.open();
        let last = reader(&journal).last_task().unwrap().0;
        assert!((said..=said + 1).contains(&last), "said {said}, there are {last}");
        assert_eq!(open_tasks(&journal), [last]);
        assert_eq!(all_events(&journal, last).len(), 1);
        for task in known + 1..last {
            let rows = all_events(&journal, task);
            assert_eq!((rows.len(), rows[1].first, &rows[1].frames[..]), (2, 3, &b"last"[..]));
        }
        let newest = reader(&journal).values("newest").unwrap();
        assert_eq!(newest[0].1, if last.is_multiple_of(2) { "even" } else { "odd" });
        // The next process begins with all tasks ended.
        journal.commit(&[events(last, 3, 3, "last"), end(last, last + 1)]).unwrap();
        known = last;
    }
}

/// OC-JRNL-6013: the second is told who has it, and a killed one does not keep it.
#[test]
fn one_process_at_a_time() {
    let place = Place::new();
    let mut child = start(&place.folder());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.find(|it| it.starts_with("wrote")).unwrap();
    let refused = journal::open(&place.folder(), journal::Durability::Process).unwrap_err();
    assert!(matches!(&refused, OpenError::InUse { pid: Some(pid), .. } if *pid == child.id()));
    let text = refused.to_string();
    assert!(text.contains(&format!("(pid {}): stop it first", child.id())), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(TaskNo(0) < reader(&place.open()).last_task().unwrap());
}
