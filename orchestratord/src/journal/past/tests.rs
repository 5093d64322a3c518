//! What damage there may be in rows that a journal takes for whole.

use bytes::Bytes;
use journal::{Admitted, JournalError, StoredEvents, TaskNo};

use super::*;

/// Has these rows of one task and nothing else.
struct Rows(Vec<StoredEvents>);

impl JournalReader for Rows {
    fn events(
        &mut self,
        _: TaskNo,
        after: u64,
        _: usize,
    ) -> Result<Vec<StoredEvents>, JournalError> {
        Ok(self.0.iter().filter(|it| after < it.last).cloned().collect())
    }

    fn open_tasks(&mut self, _: Option<TaskNo>, _: usize) -> Result<Vec<Stored>, JournalError> {
        unreachable!("nobody asks")
    }

    fn find(&mut self, _: &str, _: [u8; 16]) -> Result<Option<Stored>, JournalError> {
        unreachable!("nobody asks")
    }

    fn list(
        &mut self,
        _: &str,
        _: Option<&str>,
        _: TaskNo,
        _: usize,
    ) -> Result<Vec<Stored>, JournalError> {
        unreachable!("nobody asks")
    }

    fn values(&mut self, _: &str) -> Result<Vec<(String, Bytes)>, JournalError> {
        unreachable!("nobody asks")
    }

    fn last_task(&mut self) -> Result<TaskNo, JournalError> {
        unreachable!("nobody asks")
    }
}

/// Rows of two tokens each, from event `first` on.
fn row(first: u64) -> StoredEvents {
    let token =
        |id: u64| format!("id: {id}\nevent: token\ndata: {{\"t\":\"x\",\"i\":{id},\"n\":1}}\n\n");
    let frames = (token(first) + &token(first + 1)).into();
    StoredEvents { first, last: first + 1, frames }
}

fn read(rows: Vec<StoredEvents>, last_event: u64) -> Result<Log, String> {
    let admitted = Admitted {
        task: TaskNo(1),
        tenant: String::new(),
        id: [0; 16],
        session: None,
        admitted_at_ms: 0,
        request: Bytes::new(),
        state: Bytes::new(),
    };
    let stored = Stored { admitted, ended_at_ms: None, last_event };
    log(&mut Rows(rows), &stored, 4_096).expect("it can be read").map_err(|it| it.to_string())
}

// ORCH-4001, OC-JRNL-6012
#[test]
fn a_gap_in_the_events_of_a_task_is_damage() {
    assert_eq!(read(vec![row(1), row(3)], 4).expect("whole").last_id(), 4);
    let gap = read(vec![row(1), row(5), row(7)], 8).expect_err("3 and 4 are missing");
    assert!(gap.contains("event 5 where 3 should be"), "{gap}");
    let short = read(vec![row(1)], 4).expect_err("the end is missing");
    assert!(short.contains("2 events where 4 should be"), "{short}");
}
