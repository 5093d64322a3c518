//! What is removed, and that its room is used again.

use journal::{Journal, Retention, Swept, TaskNo, Write};

use crate::rig::{Place, admission, admitted, all_events, end, events, open_tasks, reader};

const FOR_EVER: Retention = Retention { age_ms: u64::MAX, bytes: u64::MAX };

fn swept(removed: &[u64], more: bool) -> Swept {
    Swept { removed: removed.iter().map(|it| TaskNo(*it)).collect(), more }
}

/// OC-JRNL-6030: by age, the first ended first, so many at a time, and open tasks stay.
#[test]
fn the_old_are_removed_in_steps() {
    let place = Place::new();
    let mut journal = place.open();
    let tasks: Vec<_> = (1..=5).map(admission).collect();
    journal.commit(&tasks).unwrap();
    journal.commit(&[end(3, 100), events(2, 1, 1, "x"), end(2, 200), end(1, 300)]).unwrap();
    let old = Retention { age_ms: 50, ..FOR_EVER };
    assert_eq!(journal.sweep(old, 150, 9).unwrap(), swept(&[], false));
    assert_eq!(journal.sweep(old, 151, 9).unwrap(), swept(&[3], false));
    assert_eq!(journal.sweep(old, 900, 1).unwrap(), swept(&[2], true));
    assert_eq!(all_events(&journal, 2), []);
    assert_eq!(journal.sweep(old, 900, 1).unwrap(), swept(&[1], false));
    assert_eq!(journal.sweep(old, u64::MAX, 9).unwrap(), swept(&[], false));
    assert_eq!(open_tasks(&journal), [4, 5]);
}

/// OC-JRNL-6030: by the size of all ended tasks together, also as it is counted after a restart.
#[test]
fn the_first_ended_make_room() {
    let place = Place::new();
    let mut journal = place.open();
    for task in 1..=4 {
        // Of 9 bytes of request, 9 of state, and 82 of events.
        let batch = [admission(task), events(task, 1, 1, vec![b'x'; 40])];
        journal.commit(&batch).unwrap();
    }
    drop(journal);
    let mut journal = place.open();
    for task in 1..=3 {
        journal.commit(&[events(task, 2, 2, vec![b'x'; 42]), end(task, 10 - task)]).unwrap();
    }
    let small = |bytes| Retention { bytes, ..FOR_EVER };
    assert_eq!(journal.sweep(small(300), 0, 9).unwrap(), swept(&[], false));
    assert_eq!(journal.sweep(small(299), 0, 9).unwrap(), swept(&[3], false));
    drop(journal);
    let mut journal = place.open();
    assert_eq!(journal.sweep(small(200), 0, 9).unwrap(), swept(&[], false));
    assert_eq!(journal.sweep(small(0), 0, 9).unwrap(), swept(&[2, 1], false));
    assert_eq!(reader(&journal).list("home", None, TaskNo(9), 9).unwrap().len(), 1);
}

/// OC-JRNL-6031: after twenty times as much was written and removed, the files are as large as
/// after the first time.
#[test]
fn room_is_used_again() {
    let place = Place::new();
    let mut journal = place.open();
    let size = |name: &str| std::fs::metadata(place.file(name)).map_or(0, |it| it.len());
    let mut after_first = 0;
    let mut task = 0;
    for round in 1..=20 {
        for _ in 0..20 {
            task += 1;
            let mut large = admitted(task);
            large.request = vec![b'x'; 100_000].into();
            journal.commit(&[Write::Admitted(large)]).unwrap();
            for id in 1..=10 {
                journal.commit(&[events(task, id, id, vec![b'x'; 20_000])]).unwrap();
            }
            journal.commit(&[end(task, task)]).unwrap();
        }
        let none = Retention { bytes: 0, ..FOR_EVER };
        assert_eq!(journal.sweep(none, 0, 100).unwrap().removed.len(), 20);
        if round == 2 {
            // All that was moved into the database by now.
            drop(journal);
            after_first = size("journal.db");
            journal = place.open();
        }
    }
    let log = size("journal.db-wal");
    assert!(log < 80 << 20, "the log has {log} bytes");
    drop(journal);
    let last = size("journal.db");
    assert!(last < after_first * 2, "{last} bytes, after two rounds {after_first}");
}
