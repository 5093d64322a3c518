//! `/metrics`, where a metric is absent until something has moved it.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use super::answers;
use crate::engine::Engine;
use crate::wire::{Gone, Then, Wire};

pub(super) async fn answer(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    answers::plain(wire, 200, &text(engine)).await
}

fn text(engine: &Engine) -> String {
    let stats = &engine.stats;
    let started = stats.prompt_tokens.load(Relaxed) > 0;
    let finished = stats.finished.load(Relaxed);
    let (overloaded, dropped) =
        (stats.rejected.load(Relaxed), stats.disconnects_seen.load(Relaxed));
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, label: &str, value: u64| {
        let _ = writeln!(out, "# TYPE {name} {kind}\n{name}{label} {value}\n");
    };
    if started {
        metric("tgi_queue_size", "gauge", "", engine.slots.deferred().into());
        metric("tgi_batch_current_size", "gauge", "", engine.slots.busy() as u64);
        metric("tgi_batch_current_max_tokens", "gauge", "", tokens_planned(engine));
    }
    for (label, value) in [
        (r#"{err="overloaded"}"#, overloaded),
        (r#"{err="dropped"}"#, dropped),
        (r#"{err="validation"}"#, stats.refused.load(Relaxed)),
    ] {
        if value > 0 {
            metric("tgi_request_failure", "counter", label, value);
        }
    }
    if finished > 0 {
        metric("tgi_request_success", "counter", "", finished);
        let _ = writeln!(
            out,
            "# TYPE tgi_request_generated_tokens histogram\ntgi_request_generated_tokens_sum {}\ntgi_request_generated_tokens_count {finished}\n",
            stats.tokens_sent.load(Relaxed),
        );
    }
    out
}

/// Tokens that the running requests may come to.
fn tokens_planned(engine: &Engine) -> u64 {
    let busy = engine.slots.table().iter().filter(|slot| slot.busy.load(Relaxed));
    busy.map(|slot| {
        u64::from(slot.prompt_tokens.load(Relaxed)) + u64::from(slot.tokens_max.load(Relaxed))
    })
    .sum()
}
