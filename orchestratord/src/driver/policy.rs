//! From the configuration to the core's policy.

use std::time::Duration;

use config_schema::{ClassMode, Config, PreemptionMode};
use orchestrator_core::{
    ClassPolicy, Core, CoreConfig, Event, FullPolicy, Micros, ModelPolicy, OnExceed, Prices, Rate,
    SwapPolicy, TenantId, TenantPolicy, Timestamp,
};

use crate::clock::micros;
use crate::fleet::Directory;

/// What stands for the deadline of a task without one, in the order of tasks only.
const PATIENCE_INTERACTIVE: Micros = Micros(30_000_000);
const PATIENCE_BATCH: Micros = Micros(3_600_000_000);

/// The core with everything that it must know before the first task.
pub(super) fn core(config: &Config, directory: &Directory, start: Timestamp) -> Core {
    let mut core = Core::new(core_config(config));
    for (id, tenant) in (0..).zip(&config.tenants) {
        let policy = TenantPolicy {
            weight_milli: tenant.weight_milli.get(),
            queued: tenant.queued,
            concurrent: tenant.concurrent,
            requests: tenant.requests.map(|(per_s, burst)| Rate { per_s, burst }),
            tokens_per_min: tenant.tokens_per_min,
            on_exceed: match tenant.on_exceed {
                config_schema::OnExceed::Reject => OnExceed::Reject,
                config_schema::OnExceed::Hold => OnExceed::Hold,
            },
        };
        core.apply(start, Event::TenantChanged { tenant: TenantId(id), policy });
    }
    for (model, cost) in directory.model_costs(&config.model_costs) {
        let policy = ModelPolicy { cost_milli: cost };
        core.apply(start, Event::ModelChanged { model, policy });
    }
    core
}

fn core_config(config: &Config) -> CoreConfig {
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
        strict_classes: config.classes.mode == ClassMode::Strict,
        prices: Prices {
            input: config.fairness.input_token_cost.get(),
            output: config.fairness.output_token_cost.get(),
        },
        swap: SwapPolicy {
            min_resident: span(config.swap.min_resident_ms),
            max_wait: span(config.swap.max_wait_ms),
        },
        preemptions_per_min: match config.preemption.mode {
            PreemptionMode::Soft => 0,
            PreemptionMode::Hard => config.preemption.max_per_min.get(),
        },
        headroom_slots: config.queue.interactive_headroom_slots,
        on_time_percent_min: config.deadlines.on_time_percent_min,
    }
}
