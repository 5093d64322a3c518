//! From the configuration to the core's policy.

use std::time::Duration;

use config_schema::Config;
use orchestrator_core::{ClassPolicy, CoreConfig, FullPolicy, Micros, Prices, SwapPolicy};

use super::micros;

/// What stands for the deadline of a task without one, in the order of tasks only.
const PATIENCE_INTERACTIVE: Micros = Micros(30_000_000);
const PATIENCE_BATCH: Micros = Micros(3_600_000_000);

pub(super) fn core_config(config: &Config) -> CoreConfig {
    let span = |ms| micros(Duration::from_millis(ms));
    let class = |it: config_schema::Class, patience| ClassPolicy {
        weight: it.weight.get(),
        max_wait: span(it.max_wait_ms),
        patience,
    };
    CoreConfig {
        queue_capacity: config.queue.capacity.get(),
        full_policy: match config.queue.full_policy {
            config_schema::FullPolicy::Reject => FullPolicy::Reject,
            config_schema::FullPolicy::DropLru => FullPolicy::DropLru,
            config_schema::FullPolicy::ShedLowPriority => FullPolicy::ShedLowPriority,
        },
        unready_wait: span(config.queue.unready_wait_ms),
        interactive: class(config.classes.interactive, PATIENCE_INTERACTIVE),
        batch: class(config.classes.batch, PATIENCE_BATCH),
        strict_classes: false,
        prices: Prices { input: 1, output: 2 },
        swap: SwapPolicy { min_resident: span(10_000), max_wait: span(60_000) },
        preemptions_per_min: 0,
        headroom_slots: 0,
        on_time_percent_min: 5,
    }
}
