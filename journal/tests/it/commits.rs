//! What is written, and what is refused.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use journal::{Journal, JournalError, StoredEvents, TaskNo, Write};

use crate::rig::{
    Place, admission, admitted, all_events, end, events, forget, open_tasks, reader, state, value,
};

/// OC-JRNL-6002: the life of a task, read at each point and after a restart.
#[test]
fn a_task_is_read_as_it_was_written() {
    let place = Place::new();
    let mut journal = place.open();
    let mut reading = reader(&journal);
    journal.commit(&[admission(1)]).unwrap();
    let id = admitted(1).id;
    let task = reading.find("home", id).unwrap().unwrap();
    assert_eq!((task.admitted, task.ended_at_ms, task.last_event), (admitted(1), None, 0));
    assert_eq!(reading.find("other", id).unwrap(), None);

    journal.commit(&[events(1, 1, 2, "one two "), state(1, "running")]).unwrap();
    journal.commit(&[events(1, 3, 3, "three "), end(1, 9)]).unwrap();
    drop((journal, reading));
    let journal = place.open();
    let task = reader(&journal).find("home", id).unwrap().unwrap();
    assert_eq!((task.ended_at_ms, task.last_event), (Some(9), 3));
    assert_eq!(task.admitted.state, "completed");
    assert_eq!(task.admitted.request, "request 1");
    let row =
        |first, last, frames| StoredEvents { first, last, frames: Bytes::from_static(frames) };
    assert_eq!(all_events(&journal, 1), [row(1, 2, b"one two "), row(3, 3, b"three ")]);
}

/// OC-JRNL-6002: pages go on where the one before ended, wherever the rows lie.
#[test]
fn pages_are_complete() {
    let place = Place::new();
    let mut journal = place.open();
    let mut session = admitted(2);
    session.session = Some(String::from("chat"));
    let mut stranger = admitted(3);
    stranger.tenant = String::from("other");
    let batch = [admission(1), Write::Admitted(session), Write::Admitted(stranger), admission(4)];
    journal.commit(&batch).unwrap();
    // A thousand rows of 1 KiB: most of them were moved out of the tail, the newest were not.
    for id in 1..=1_000 {
        journal.commit(&[events(1, id, id, vec![b'x'; 1_024])]).unwrap();
    }
    let mut reading = reader(&journal);
    let mut after = 0;
    while after < 1_000 {
        let page = reading.events(TaskNo(1), after, 10_000).unwrap();
        let ids: Vec<u64> = page.iter().map(|it| it.first).collect();
        let expected: Vec<u64> = (after + 1..=1_000).take(9).collect();
        assert_eq!(ids, expected);
        after = page[page.len() - 1].last;
    }
    assert_eq!(reading.events(TaskNo(1), 1_000, 10_000).unwrap(), []);
    assert_eq!(reading.events(TaskNo(1), 5, 1).unwrap().len(), 1, "one row however large it is");

    let mut numbers = |session, before, limit| -> Vec<u64> {
        let list = reading.list("home", session, TaskNo(before), limit).unwrap();
        list.iter().map(|it| it.admitted.task.0).collect()
    };
    assert_eq!(numbers(None, u64::MAX, 10), [4, 2, 1]);
    assert_eq!(numbers(None, 4, 1), [2]);
    assert_eq!(numbers(Some("chat"), u64::MAX, 10), [2]);
    let open = reading.open_tasks(Some(TaskNo(1)), 2).unwrap();
    assert_eq!(open.iter().map(|it| it.admitted.task.0).collect::<Vec<_>>(), [2, 3]);
}

/// OC-JRNL-6002: values are replaced, removed and found by their beginning.
#[test]
fn values_are_found_by_prefix() {
    let place = Place::new();
    let mut journal = place.open();
    let batch = [value("vtc/a", Some("1")), value("vtc/b", Some("2")), value("vtd", Some("3"))];
    journal.commit(&batch).unwrap();
    journal.commit(&[value("vtc/a", Some("4")), value("vtd", None)]).unwrap();
    let (a, b) = (Bytes::from_static(b"4"), Bytes::from_static(b"2"));
    let mut reading = reader(&journal);
    let found = reading.values("vtc/").unwrap();
    assert_eq!(found, [(String::from("vtc/a"), a), (String::from("vtc/b"), b)]);
    assert_eq!(reading.values("vtd").unwrap(), []);
    assert_eq!(reading.values("").unwrap().len(), 2);
}

/// OC-JRNL-6003: each mistake is named, and the good half of its batch is not written.
#[test]
fn a_batch_that_does_not_follow_is_refused() {
    let place = Place::new();
    let mut journal = place.open();
    journal.commit(&[admission(5), events(5, 1, 2, "12"), admission(6), end(6, 1)]).unwrap();
    let mut twice = admitted(7);
    twice.id = admitted(5).id;
    let wrong = [
        (admission(5), 5, "its number is not greater than those before"),
        (admission(1 << 39), 1 << 39, "there are no more numbers"),
        (Write::Admitted(twice), 7, "its tenant has its id already"),
        (events(5, 2, 3, "23"), 5, "its events do not go on where they ended"),
        (events(5, 4, 4, "4"), 5, "its events do not go on where they ended"),
        (events(5, 3, 2, ""), 5, "its events do not go on where they ended"),
        (events(5, 3, 1 << 24, "many"), 5, "it has too many events"),
        (events(6, 1, 1, "late"), 6, "it is not open"),
        (state(6, "again"), 6, "it is not open"),
        (end(9, 1), 9, "it is not open"),
    ];
    for (write, number, expected) in wrong {
        let good = [value("good", Some("half")), events(5, 3, 3, "3")];
        let batch = if matches!(write, Write::Events { task: TaskNo(5), .. }) {
            vec![good[0].clone(), write]
        } else {
            vec![good[0].clone(), good[1].clone(), write]
        };
        match journal.commit(&batch) {
            Err(JournalError::Misplaced { task, why }) => {
                assert_eq!((task, why), (TaskNo(number), expected));
            }
            other => panic!("{expected}: {other:?}"),
        }
        assert_eq!(reader(&journal).values("").unwrap(), [], "{expected}");
    }
    // What was taken back is taken back in memory too.
    journal.commit(&[events(5, 3, 3, "3"), admission(7), forget(5)]).unwrap();
    assert_eq!(open_tasks(&journal), [7]);
}

/// OC-JRNL-6004: neither a restart nor an empty journal brings a number back.
#[test]
fn numbers_are_not_used_again() {
    let place = Place::new();
    let mut journal = place.open();
    assert_eq!(reader(&journal).last_task().unwrap(), TaskNo(0));
    journal.commit(&[admission(1), admission(8)]).unwrap();
    journal.commit(&[forget(8), forget(1)]).unwrap();
    drop(journal);
    let mut journal = place.open();
    assert_eq!(reader(&journal).last_task().unwrap(), TaskNo(8));
    let refused = journal.commit(&[admission(8)]);
    assert!(matches!(refused, Err(JournalError::Misplaced { task: TaskNo(8), .. })));
    journal.commit(&[admission(9)]).unwrap();
    assert_eq!(open_tasks(&journal), [9]);
}

/// OC-JRNL-6002: a task that was forgotten has no events, and its successors have their own only.
#[test]
fn a_forgotten_task_leaves_nothing() {
    let place = Place::new();
    let mut journal = place.open();
    journal.commit(&[admission(1), events(1, 1, 1, "a"), admission(2)]).unwrap();
    journal.commit(&[forget(1), forget(77)]).unwrap();
    assert_eq!(all_events(&journal, 1), []);
    assert_eq!(reader(&journal).find("home", admitted(1).id).unwrap(), None);
    // Its id is free again, and moving the tail does not bring it back.
    let mut again = admitted(3);
    again.id = admitted(1).id;
    journal.commit(&[Write::Admitted(again), events(2, 1, 1, vec![b'x'; 1 << 20])]).unwrap();
    assert_eq!(all_events(&journal, 1), []);
    assert_eq!(all_events(&journal, 3), []);
    assert_eq!(all_events(&journal, 2).len(), 1);
}

/// OC-JRNL-6007: while the writer writes, and moves rows from where they are being read.
#[test]
fn a_reader_sees_one_moment() {
    const ROWS: u64 = 600;
    let place = Place::new();
    let mut journal = place.open();
    journal.commit(&[admission(1)]).unwrap();
    let mut reading = reader(&journal);
    let returned = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 1..=ROWS {
                journal.commit(&[events(1, id, id, vec![b'x'; 16 << 10])]).unwrap();
                returned.store(id, Ordering::SeqCst);
            }
        });
        loop {
            let expected = returned.load(Ordering::SeqCst);
            let rows = reading.events(TaskNo(1), 0, usize::MAX).unwrap();
            assert!(expected <= rows.len() as u64);
            assert!(rows.iter().map(|it| it.first).eq(1..=rows.len() as u64));
            let expected = returned.load(Ordering::SeqCst);
            let task = reading.find("home", admitted(1).id).unwrap().unwrap();
            assert!(expected <= task.last_event);
            if expected == ROWS {
                return;
            }
        }
    });
}
