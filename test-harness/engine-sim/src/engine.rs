//! What all connections share: settings, slots, counters and process-wide faults.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::args::{Args, Dialect};
use crate::live::{Live, Reason};
use crate::slots::Slots;

pub(crate) struct Engine {
    pub(crate) args: Args,
    pub(crate) slots: Slots,
    pub(crate) stats: Stats,
    pub(crate) faults: Faults,
    pub(crate) live: Live,
    /// How deep the engine sleeps; 0 is awake.
    pub(crate) sleep_level: watch::Sender<u32>,
    /// Whether the model is loaded, where models are loaded and unloaded by request.
    pub(crate) model_loaded: AtomicBool,
    pub(crate) started: Instant,
    pub(crate) started_unix_s: u64,
    /// How long the process goes on after its engine died, once it has.
    death: watch::Sender<Option<Duration>>,
}

/// Counters of the whole process; relaxed, because nobody orders anything by them.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) tokens_sent: AtomicU64,
    /// Generations that came to their end.
    pub(crate) finished: AtomicU64,
    /// Requests that were refused because too many were there.
    pub(crate) rejected: AtomicU64,
    /// Requests that were refused for what they asked.
    pub(crate) refused: AtomicU64,
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
    pub(crate) health_hangs: AtomicBool,
}

impl Engine {
    pub(crate) fn new(args: Args) -> Self {
        Self {
            slots: Slots::new(args.slot_count),
            stats: Stats::default(),
            faults: Faults::default(),
            live: Live::default(),
            sleep_level: watch::Sender::new(0),
            model_loaded: AtomicBool::new(
                args.dialect != Dialect::Triton || args.triton.load_at_start,
            ),
            started: Instant::now(),
            started_unix_s: unix_us() / 1_000_000,
            death: watch::Sender::new(None),
            args,
        }
    }

    /// Whether llama-server would answer everything with "Loading model".
    pub(crate) fn is_loading(&self) -> bool {
        let loading = !self.args.load.is_zero() && self.started.elapsed() < self.args.load;
        loading || self.is_unready()
    }

    pub(crate) fn is_unready(&self) -> bool {
        self.faults.unready.load(Relaxed)
    }

    pub(crate) fn is_hung(&self) -> bool {
        self.faults.hang_all.load(Relaxed)
    }

    pub(crate) fn is_asleep(&self) -> bool {
        *self.sleep_level.borrow() != 0
    }

    /// Waits until the engine is awake.
    pub(crate) async fn awake(&self) {
        let mut level = self.sleep_level.subscribe();
        level.wait_for(|level| *level == 0).await.expect("the sender lives in the engine");
    }

    /// Ends all generations as the death of the engine process would, and the process after
    /// `linger`.
    pub(crate) fn kill_engine(&self, linger: Duration) {
        self.death.send_replace(Some(linger));
        self.live.interrupt(Reason::Dead, |_| true);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.death.borrow().is_some()
    }

    /// Waits until the process has to end because its engine died.
    pub(crate) async fn death(&self) {
        let mut death = self.death.subscribe();
        let linger = death.wait_for(Option::is_some).await.map(|it| it.unwrap_or_default());
        tokio::time::sleep(linger.expect("the sender lives in the engine")).await;
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

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    unix_us() / 1_000_000
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
