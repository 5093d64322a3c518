//! `/metrics`, as far as anybody places by it.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use super::answers;
use crate::engine::Engine;
use crate::wire::{Gone, Then, Wire};

pub(super) async fn answer(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    answers::text(wire, &text(engine)).await
}

fn text(engine: &Engine) -> String {
    let stats = &engine.stats;
    let model = &engine.args.alias;
    let waiting = f64::from(engine.slots.deferred());
    let level = *engine.sleep_level.borrow();
    let asleep =
        |name: &str, is: bool| (format!(r#"sleep_state="{name}""#), f64::from(u8::from(is)));
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, values: &[(String, f64)]| {
        let _ = writeln!(out, "# TYPE vllm:{name} {kind}");
        for (label, value) in values {
            let comma = if label.is_empty() { "" } else { "," };
            let _ = writeln!(
                out,
                r#"vllm:{name}{{engine="0",model_name="{model}"{comma}{label}}} {value:?}"#
            );
        }
    };
    let plain = |value: f64| [(String::new(), value)];
    let count = |value: u64| plain(as_float(value));
    metric("num_requests_running", "gauge", &count(engine.slots.busy() as u64));
    metric("num_requests_waiting", "gauge", &plain(waiting));
    metric(
        "num_requests_waiting_by_reason",
        "gauge",
        &[(r#"reason="capacity""#.to_owned(), waiting), (r#"reason="deferred""#.to_owned(), 0.0)],
    );
    metric(
        "engine_sleep_state",
        "gauge",
        &[
            asleep("awake", level == 0),
            asleep("weights_offloaded", level == 1),
            asleep("discard_all", level >= 2),
        ],
    );
    metric("kv_cache_usage_perc", "gauge", &plain(kv_usage(engine)));
    metric("num_preemptions_total", "counter", &plain(0.0));
    metric("prompt_tokens_total", "counter", &count(stats.prompt_tokens.load(Relaxed)));
    metric("prompt_tokens_cached_total", "counter", &plain(0.0));
    metric("generation_tokens_total", "counter", &count(stats.tokens_sent.load(Relaxed)));
    let finished = as_float(stats.finished.load(Relaxed));
    metric(
        "request_success_total",
        "counter",
        &[(r#"finished_reason="length""#.to_owned(), finished)],
    );
    let rejected = as_float(stats.rejected.load(Relaxed));
    metric(
        "admission_rejections_total",
        "counter",
        &[(r#"reason="max_num_queued_reqs""#.to_owned(), rejected)],
    );
    out
}

/// Tokens in busy slots over all that fit.
fn kv_usage(engine: &Engine) -> f64 {
    let busy = engine.slots.table().iter().filter(|slot| slot.busy.load(Relaxed));
    let used: u64 = busy
        .map(|slot| {
            u64::from(slot.prompt_tokens.load(Relaxed)) + u64::from(slot.decoded.load(Relaxed))
        })
        .sum();
    let all = f64::from(engine.args.slot_context) * f64::from(engine.args.slot_count);
    (as_float(used) / all).min(1.0)
}

fn as_float(value: u64) -> f64 {
    u32::try_from(value).map_or(f64::INFINITY, f64::from)
}
