//! The simulator's own routes, the same in every dialect: faults of the whole process, and counters.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Deserialize;

use crate::engine::Engine;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultOrder {
    /// Connections to close right after they are accepted.
    refuse: Option<u32>,
    unready: Option<bool>,
    hang_all: Option<bool>,
    /// Whether the health route falls silent while everything else goes on.
    health_hangs: Option<bool>,
    /// The engine behind the API dies: streams end in an error and the process follows.
    #[serde(default)]
    engine_dead: bool,
    /// How long the process outlives its engine; 1000 if absent, as recorded.
    linger_ms: Option<u64>,
    #[serde(default)]
    die: bool,
}

/// Carries out the order in `body`; an error is the message of a refusal.
pub(crate) fn fault(engine: &Engine, body: &[u8]) -> Result<(), String> {
    let order: FaultOrder = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if order.die {
        std::process::abort();
    }
    let faults = &engine.faults;
    if let Some(count) = order.refuse {
        faults.refuse.store(count, Relaxed);
    }
    if let Some(unready) = order.unready {
        faults.unready.store(unready, Relaxed);
    }
    if let Some(hung) = order.hang_all {
        faults.hang_all.store(hung, Relaxed);
    }
    if let Some(hangs) = order.health_hangs {
        faults.health_hangs.store(hangs, Relaxed);
    }
    if order.engine_dead {
        engine.kill_engine(Duration::from_millis(order.linger_ms.unwrap_or(1000)));
    }
    Ok(())
}

pub(crate) fn stats(engine: &Engine) -> String {
    let stats = &engine.stats;
    let body = serde_json::json!({
        "connections": stats.connections.load(Relaxed),
        "requests": stats.requests.load(Relaxed),
        "tokens_sent": stats.tokens_sent.load(Relaxed),
        "disconnects_seen": stats.disconnects_seen.load(Relaxed),
        "last_disconnect_unix_us": stats.last_disconnect_unix_us.load(Relaxed),
        "slots_busy": engine.slots.busy(),
        "deferred": engine.slots.deferred(),
    });
    body.to_string()
}
