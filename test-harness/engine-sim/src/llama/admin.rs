//! The simulator's own routes: faults of the whole process, and counters.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use serde::Deserialize;

use super::answers::{self, Then};
use crate::engine::Engine;
use crate::wire::{Gone, Wire};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultOrder {
    /// Connections to close right after they are accepted.
    refuse: Option<u32>,
    unready: Option<bool>,
    hang_all: Option<bool>,
    #[serde(default)]
    die: bool,
}

pub(super) async fn fault(
    engine: &Engine,
    wire: &mut Wire,
    body: Range<usize>,
) -> Result<Then, Gone> {
    let order: FaultOrder = match serde_json::from_slice(wire.request_bytes(body)) {
        Ok(order) => order,
        Err(error) => return answers::bad_request(wire, &error.to_string()).await,
    };
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
    answers::json(wire, b"{}").await
}

pub(super) async fn stats(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
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
    answers::json(wire, body.to_string().as_bytes()).await
}
