//! Places where a test lets the process die: no unwinding, nothing flushed. The thread that comes there
//! stops first, while others go on.
//!
//! With the feature `crash-points`, which tests alone turn on, `LLAMA_ORCH_CRASH_AT=POINT:N` aborts at
//! the Nth time that a point is reached.

/// Every point, in the order of a task's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// The core took it; nobody has written it.
    Admitted,
    /// A commit is put together.
    BeforeCommit,
    /// It is written; nobody was told.
    AfterCommit,
    /// A replica is chosen.
    Dispatched,
    /// Something of the engine's is in the log.
    Relayed,
    /// The last event is in the log.
    Closed,
    /// The core knows that it ended.
    Ended,
    /// A cancel was decided.
    Cancelled,
}

#[cfg(not(feature = "crash-points"))]
#[inline]
pub(crate) fn here(_: Point) {}

#[cfg(feature = "crash-points")]
pub(crate) fn here(point: Point) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static AT: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static REACHED: AtomicU32 = AtomicU32::new(0);
    #[expect(
        clippy::disallowed_methods,
        reason = "only of a build for tests, which is told this way"
    )]
    let at = AT.get_or_init(|| {
        let wanted = std::env::var("LLAMA_ORCH_CRASH_AT").ok()?;
        let (name, times) = wanted.split_once(':').expect("POINT:N");
        Some((name.to_owned(), times.parse().expect("POINT:N")))
    });
    let Some((name, times)) = at else { return };
    if format!("{point:?}") == *name && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *times {
        linger();
        std::process::abort();
    }
}

/// Whatever does not wait for what comes next has the time to get out.
#[cfg(feature = "crash-points")]
#[expect(clippy::disallowed_methods, reason = "the thread stops here for good")]
fn linger() {
    std::thread::sleep(std::time::Duration::from_millis(100));
}
