//! The fairness bound over random schedules.
//!
//! Two to four tenants of random weights on one replica with a small cache. One often fills all
//! slots alone before another comes, with answers much longer than prompts: the case that the bound
//! is made for. The same schedules under counters without the lift, and under turns by request, must
//! break it.

use orchestrator_core::{Core, Event, ModelId, ModelPolicy, TenantId, TenantPolicy};

use super::{Settings, policy};
use crate::baseline::{Baseline, Order};
use crate::figures::Outcome;
use crate::gaps::Gaps;
use crate::load::{Arrivals, Source};
use crate::random::{Lengths, Random};
use crate::scheduler::Scheduler;
use crate::world::{SECOND, World};

/// Two thousand of the schedules are enough for the baselines.
const BASELINE_EVERY: u64 = 5;
const DURATION: u64 = 400 * SECOND;

pub(crate) fn run(settings: Settings<'_>, _seed: u64) -> Outcome {
    let schedules = u64::from(settings.count("/random_schedules"));
    let (mut violations, mut worst) = (0_u32, 0.0_f64);
    let (mut unlifted, mut turns, mut broken) = (0_u32, 0_u32, Vec::new());
    for seed in 1..=schedules {
        let ours = schedule(settings, seed, Box::new(Core::new(policy())));
        let gap = ours.gaps.as_ref().map_or(0.0, |it| it.worst);
        worst = worst.max(gap);
        violations += u32::from(1.0 < gap);
        broken.extend(ours.stats.violations);
        if seed % BASELINE_EVERY == 0 {
            let breaks = |order| {
                let it = schedule(settings, seed, Box::new(Baseline::new(order, usize::MAX)));
                u32::from(it.gaps.is_some_and(|it| 1.0 < it.worst))
            };
            unlifted += breaks(Order::CountersWithoutLift);
            turns += breaks(Order::RoundRobin);
        }
    }
    let mut outcome = Outcome {
        figures: vec![
            ("fair.vtc_bound_violations", f64::from(violations)),
            ("fair.vtc_max_gap_over_bound", worst),
        ],
        beside: vec![(
            "fair.vtc_bound_violations",
            format!("of {schedules}; every fifth: {unlifted} without lift, {turns} by turns"),
        )],
        ..Outcome::default()
    };
    outcome.check("violations without the lift", 0 < unlifted, unlifted.to_string());
    outcome.check("violations by turns", 0 < turns, turns.to_string());
    outcome.check("invariants", broken.is_empty(), broken.join("; "));
    outcome
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn schedule(settings: Settings<'_>, seed: u64, scheduler: Box<dyn Scheduler>) -> World {
    let mut random = Random::new(seed, 1);
    let mut world = settings.world(scheduler, seed);
    let slots = 2 + u32::try_from(random.below(3)).unwrap_or(0);
    let cost_milli = 500 + u32::try_from(random.below(2_000)).unwrap_or(0);
    let prompt_max = 10.0 + random.below(60) as f64;
    let output_max = 100.0 + random.below(300) as f64;
    let longest = prompt_max + output_max;
    let batch_tokens = longest * f64::from(slots);
    world.add_host(1, 0, slots, settings.pace());
    let policy = ModelPolicy { cost_milli };
    world.feed(Event::ModelChanged { model: ModelId(0), policy });
    let cost = f64::from(cost_milli) / 1_000.0;
    let long_prompts = prompt_max + 2.0 * (batch_tokens - prompt_max);
    let mut gaps = Gaps::new(cost * long_prompts.max(2.0 * batch_tokens), cost);
    let tenants = 2 + random.below(3);
    for tenant in 1..=u32::try_from(tenants).unwrap_or(0) {
        let weight_milli = 1_000 * (1 + u32::try_from(random.below(3)).unwrap_or(0));
        let tenant_id = TenantId(tenant);
        let weight = f64::from(weight_milli) / 1_000.0;
        gaps.add(tenant_id, weight);
        let policy = TenantPolicy { weight_milli, ..TenantPolicy::default() };
        world.feed(Event::TenantChanged { tenant: tenant_id, policy });
        let lengths = Lengths {
            prompt_mean: prompt_max * random.uniform(0.2, 1.0),
            prompt_sigma: 0.5,
            prompt_max,
            output_mean: output_max * random.uniform(0.2, 3.0),
            output_max,
        };
        // The first fills the slots at once; the others come while its answers are made.
        let arrivals = match random.below(3) {
            _ if tenant == 1 => Arrivals::Burst { tasks: slots + 6 + tenant, at: 0 },
            0 => Arrivals::Burst { tasks: 12, at: random.below(40) * SECOND / 4 },
            1 => Arrivals::Open { mean_s: random.uniform(0.5, 8.0) },
            _ => Arrivals::Closed { callers: 6, think_s: random.uniform(0.0, 3.0) },
        };
        let stream = Random::new(seed, 10 + u64::from(tenant));
        world.sources.push(Source::new(tenant, lengths, stream, arrivals));
        if random.below(2) == 0 {
            let stream = Random::new(seed, 30 + u64::from(tenant));
            let at = (50 + random.below(200)) * SECOND;
            let arrivals = Arrivals::Burst { tasks: 15, at };
            world.sources.push(Source::new(tenant, lengths, stream, arrivals));
        }
    }
    world.gaps = Some(gaps);
    world.start();
    world.run(DURATION);
    world
}
