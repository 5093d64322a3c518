//! What the writer knows without asking the database, so that the hot path only inserts: which
//! tasks are open, and how their events go on. Refuses what does not follow.

use std::collections::BTreeMap;

use crate::port::{EVENTS_MAX, JournalError, TaskNo, Write};

/// Follows each batch; a batch that failed is taken back.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    open: BTreeMap<TaskNo, Open>,
    pub(crate) totals: Totals,
    /// What the open tasks that the batch touched were before it, in its order.
    before: Vec<(TaskNo, Option<Open>)>,
    totals_before: Totals,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) last_task: TaskNo,
    /// Of all ended tasks.
    pub(crate) ended_bytes: u64,
    /// Of frames that wait in the tail.
    pub(crate) tail_bytes: u64,
}

/// An open task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) last_event: u64,
    /// Of request and events.
    pub(crate) bytes: u64,
}

impl Ledger {
    pub(crate) fn new(open: BTreeMap<TaskNo, Open>, totals: Totals) -> Self {
        Self { open, totals, before: Vec::new(), totals_before: totals }
    }

    pub(crate) fn begin(&mut self) {
        self.before.clear();
        self.totals_before = self.totals;
    }

    /// Takes back everything since `begin`.
    pub(crate) fn rewind(&mut self) {
        self.totals = self.totals_before;
        while let Some((task, before)) = self.before.pop() {
            match before {
                Some(before) => self.open.insert(task, before),
                None => self.open.remove(&task),
            };
        }
    }

    /// The task as it was when a `State` ends it.
    ///
    /// # Errors
    /// The write does not follow from those before.
    pub(crate) fn follow(&mut self, write: &Write) -> Result<Option<Open>, JournalError> {
        match write {
            Write::Admitted(it) => {
                let wrong = |why| JournalError::Misplaced { task: it.task, why };
                if it.task <= self.totals.last_task {
                    return Err(wrong("its number is not greater than those before"));
                }
                if TaskNo::MAX < it.task {
                    return Err(wrong("there are no more numbers"));
                }
                self.totals.last_task = it.task;
                self.put(it.task, Some(Open { last_event: 0, bytes: length(&it.request) }));
            }
            Write::Events { task, first, last, frames } => {
                let wrong = |why| JournalError::Misplaced { task: *task, why };
                let mut open = self.open(*task)?;
                if *first != open.last_event + 1 || last < first {
                    return Err(wrong("its events do not go on where they ended"));
                }
                if EVENTS_MAX < *last {
                    return Err(wrong("it has too many events"));
                }
                open.last_event = *last;
                open.bytes += length(frames);
                self.totals.tail_bytes += length(frames);
                self.put(*task, Some(open));
            }
            Write::State { task, state, ended_at_ms } => {
                let mut open = self.open(*task)?;
                if ended_at_ms.is_some() {
                    open.bytes += length(state);
                    self.totals.ended_bytes += open.bytes;
                    self.put(*task, None);
                    return Ok(Some(open));
                }
            }
            Write::Forget { task } => self.put(*task, None),
            Write::Value { .. } => {}
        }
        Ok(None)
    }

    fn open(&self, task: TaskNo) -> Result<Open, JournalError> {
        let why = "it is not open";
        self.open.get(&task).copied().ok_or(JournalError::Misplaced { task, why })
    }

    fn put(&mut self, task: TaskNo, open: Option<Open>) {
        let before = match open {
            Some(open) => self.open.insert(task, open),
            None => self.open.remove(&task),
        };
        self.before.push((task, before));
    }
}

pub(crate) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("no memory is larger")
}
