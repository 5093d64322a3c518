//! Tenants that always wait: equal ones, and ones of different weight.
//!
//! Each keeps forty tasks queued, more than the slots that come free between two of its turns.

use orchestrator_core::{Event, TenantId, TenantPolicy};

use super::{Settings, core, windows};
use crate::baseline::{Baseline, Order};
use crate::figures::{Outcome, jain};
use crate::load::{Arrivals, Source};
use crate::random::Random;
use crate::scheduler::Scheduler;
use crate::world::World;

const QUEUED: u32 = 40;
/// Seconds until the slots are filled by the order of service and not by the start.
const WARM_UP_S: usize = 60;

pub(crate) fn equal(settings: Settings<'_>, seed: u64) -> Outcome {
    let tenants = settings.count("/tenants");
    let ours = world(settings, seed, core(), &vec![1; tenants as usize], false);
    let index = worst_index(&ours, tenants);
    let mixed = |scheduler| world(settings, seed, scheduler, &vec![1; tenants as usize], true);
    let ours_mixed = worst_index(&mixed(core()), tenants);
    let turns =
        worst_index(&mixed(Box::new(Baseline::new(Order::RoundRobin, usize::MAX))), tenants);
    let mut outcome = Outcome {
        figures: vec![("fair.jain_60s_min", index)],
        beside: vec![(
            "fair.jain_60s_min",
            format!("prompts 10x apart: ours {ours_mixed:.4}, round robin {turns:.4}"),
        )],
        ..Outcome::default()
    };
    outcome.check(
        "round robin by request is less fair when prompts differ 10x",
        turns < ours_mixed,
        format!("{turns:.4} against {ours_mixed:.4}"),
    );
    outcome.check("invariants", ours.stats.violations.is_empty(), ours.stats.violations.join("; "));
    outcome
}

pub(crate) fn weighted(settings: Settings<'_>, seed: u64) -> Outcome {
    let weights: Vec<u32> = settings.own["weights"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| u32::try_from(it.as_u64()?).ok())
        .collect();
    let world = world(settings, seed, core(), &weights, false);
    let sum: f64 = weights.iter().map(|it| f64::from(*it)).sum();
    let ids: Vec<TenantId> = (1..).map(TenantId).take(weights.len()).collect();
    let errors = windows(&world, &ids, (WARM_UP_S, 600)).into_iter().flat_map(|window| {
        let all: f64 = window.iter().sum();
        let pairs = window.into_iter().zip(weights.clone());
        pairs.map(move |(got, weight)| (got / all - f64::from(weight) / sum).abs())
    });
    let mut outcome = Outcome {
        figures: vec![("fair.share_error_max", errors.fold(0.0, f64::max))],
        ..Outcome::default()
    };
    outcome.check(
        "invariants",
        world.stats.violations.is_empty(),
        world.stats.violations.join("; "),
    );
    outcome
}

fn worst_index(world: &World, tenants: u32) -> f64 {
    let ids: Vec<TenantId> = (1..=tenants).map(TenantId).collect();
    windows(world, &ids, (WARM_UP_S, 60)).iter().map(|it| jain(it)).fold(1.0, f64::min)
}

/// `apart`: prompts of every other tenant are ten times as long as those of the rest.
pub(crate) fn world(
    settings: Settings<'_>,
    seed: u64,
    scheduler: Box<dyn Scheduler>,
    weights: &[u32],
    apart: bool,
) -> World {
    let mut world = settings.world(scheduler, seed);
    settings.add_hosts(&mut world);
    for (tenant, weight) in (1..).zip(weights) {
        let mut lengths = settings.lengths();
        if apart {
            lengths.prompt_mean *= if tenant % 2 == 0 { 2.5 } else { 0.25 };
        }
        let random = Random::new(seed, 10 + u64::from(tenant));
        let arrivals = Arrivals::Backlog { tasks: QUEUED };
        world.sources.push(Source::new(tenant, lengths, random, arrivals));
        let policy = TenantPolicy { weight_milli: weight * 1_000, ..TenantPolicy::default() };
        world.feed(Event::TenantChanged { tenant: TenantId(tenant), policy });
    }
    world.start();
    world.run(settings.duration());
    world
}
