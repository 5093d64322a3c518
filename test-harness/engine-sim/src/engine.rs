//! What all connections share: settings, slots, counters and process-wide faults.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::args::Args;
use crate::slots::Slots;

pub(crate) struct Engine {
    pub(crate) args: Args,
    pub(crate) slots: Slots,
    pub(crate) stats: Stats,
    pub(crate) faults: Faults,
    pub(crate) started: Instant,
    pub(crate) started_unix_s: u64,
}

/// Counters of the whole process; relaxed, because nobody orders anything by them.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) tokens_sent: AtomicU64,
    pub(crate) disconnects_seen: AtomicU64,
    /// 0 until a first one was seen.
    pub(crate) last_disconnect_unix_us: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Faults {
    /// Connections that are still to be closed right after they were accepted.
    pub(crate) refuse: AtomicU32,
    pub(crate) unready: AtomicBool,
    pub(crate) hang_all: AtomicBool,
}

impl Engine {
    pub(crate) fn new(args: Args) -> Self {
        Self {
            slots: Slots::new(args.slot_count),
            args,
            stats: Stats::default(),
            faults: Faults::default(),
            started: Instant::now(),
            started_unix_s: unix_us() / 1_000_000,
        }
    }

    /// Whether the engine answers everything with "Loading model".
    pub(crate) fn is_loading(&self) -> bool {
        let loading = !self.args.load.is_zero() && self.started.elapsed() < self.args.load;
        loading || self.faults.unready.load(Relaxed)
    }

    pub(crate) fn is_hung(&self) -> bool {
        self.faults.hang_all.load(Relaxed)
    }

    pub(crate) fn note_disconnect(&self) {
        self.stats.disconnects_seen.fetch_add(1, Relaxed);
        self.stats.last_disconnect_unix_us.store(unix_us(), Relaxed);
    }

    /// Uses up one of the connections to be refused, if any is left.
    pub(crate) fn refuses_connection(&self) -> bool {
        self.faults.refuse.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
