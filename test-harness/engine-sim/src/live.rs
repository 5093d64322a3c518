//! The generations that something other than their client may end: an operator's abort, sleep, or
//! the death of the engine behind the API.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Ends with a last event that says so.
    Abort,
    /// Ends with the error of a dead engine.
    Dead,
}

/// Raised at most once; the first reason stays.
#[derive(Default)]
pub(crate) struct Interrupt {
    /// 0 while nothing happened.
    reason: AtomicU8,
    raised: Notify,
}

impl Interrupt {
    fn raise(&self, reason: Reason) {
        let code = match reason {
            Reason::Abort => 1,
            Reason::Dead => 2,
        };
        let _ = self.reason.compare_exchange(0, code, Ordering::Release, Ordering::Relaxed);
        // A permit is kept for a generation that does not wait just then.
        self.raised.notify_one();
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        match self.reason.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Reason::Abort),
            _ => Some(Reason::Dead),
        }
    }

    /// Waits until it is raised. Only one task may wait.
    pub(crate) async fn raised(&self) -> Reason {
        loop {
            if let Some(reason) = self.reason() {
                return reason;
            }
            self.raised.notified().await;
        }
    }
}

/// Every live generation, by the id that the engine gave it.
#[derive(Default)]
pub(crate) struct Live {
    table: Mutex<BTreeMap<u64, (String, Arc<Interrupt>)>>,
    keys: AtomicU64,
}

/// A generation's entry in [`Live`], for as long as it runs.
pub(crate) struct Registered<'a> {
    live: &'a Live,
    key: u64,
    pub(crate) interrupt: Arc<Interrupt>,
}

impl Live {
    pub(crate) fn register(&self, id: String) -> Registered<'_> {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let interrupt = Arc::new(Interrupt::default());
        self.table().insert(key, (id, Arc::clone(&interrupt)));
        Registered { live: self, key, interrupt }
    }

    /// Interrupts every generation whose id `picks`, and says how many those were.
    pub(crate) fn interrupt(&self, reason: Reason, picks: impl Fn(&str) -> bool) -> usize {
        let table = self.table();
        let picked = table.values().filter(|(id, _)| picks(id));
        picked.map(|(_, interrupt)| interrupt.raise(reason)).count()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, (String, Arc<Interrupt>)>> {
        // The table is whole between any two statements, so a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.live.table().remove(&self.key);
    }
}
