//! Nine light tenants, and one that floods.
//!
//! Run four times: ours with and without the flood, first-come-first-served, and absolute priority of
//! the light tenants, which no policy that keeps the slots busy can beat. A task
//! that still waits at the end counts with its age, so that nobody gains by never serving.

use std::ops::Range;

use orchestrator_core::Class;

use super::{Settings, core, seconds, utilisation};
use crate::baseline::{Baseline, Order};
use crate::figures::{Outcome, percentile};
use crate::load::{Arrivals, Source};
use crate::random::Random;
use crate::scheduler::Scheduler;
use crate::world::World;

const FLOODER: u32 = 100;

pub(crate) fn run(settings: Settings<'_>, seed: u64) -> Outcome {
    let baseline = |order| Box::new(Baseline::new(order, usize::MAX));
    let calm = world(settings, seed, core(), false);
    let flooded = world(settings, seed, core(), true);
    let fifo = world(settings, seed, baseline(Order::Fifo), true);
    let strict = prepared(settings, seed, baseline(Order::Strict), (true, true));
    let waits = |it: &World| seconds(percentile(&mut light_waits(it, &(0..u64::MAX)), 95));
    let (without, with, first_come) = (waits(&calm), waits(&flooded), waits(&fifo));
    let mut releases = flooded.stats.releases.clone();
    releases.sort_unstable();
    let mut turnovers: Vec<u64> = releases.windows(2).map(|it| it[1] - it[0]).collect();
    let turnover = seconds(percentile(&mut turnovers, 95));
    let slots = settings.count("/replicas") * settings.count("/slots_each");
    let mut outcome = Outcome {
        figures: vec![
            ("flood.light_wait_excess_turnovers", (with - without) / turnover),
            ("flood.fifo_over_ours_p95", first_come / with),
        ],
        beside: vec![(
            "flood.light_wait_excess_turnovers",
            format!(
                "p95 {with:.2} s, turnover {turnover:.2} s; absolute priority {:.2}; fifo {first_come:.0} s",
                (waits(&strict) - without) / turnover
            ),
        )],
        ..Outcome::default()
    };
    let used = utilisation(&flooded, slots);
    outcome.check("utilisation >= 0.99 with flood", 0.99 <= used, format!("{used:.4}"));
    // Early enough that the tasks of both parts are served before the end.
    let part = fifo.now / 30;
    let [early, late] = [0..part, part..2 * part]
        .map(|range| seconds(percentile(&mut light_waits(&fifo, &range), 95)));
    outcome.check(
        "fifo's light waits grow with the queue",
        1.5 * early < late,
        format!("p95 {early:.0} s in the first thirtieth, {late:.0} s in the second"),
    );
    outcome.check(
        "invariants",
        flooded.stats.violations.is_empty(),
        flooded.stats.violations.join("; "),
    );
    outcome
}

fn light_waits(world: &World, arrived: &Range<u64>) -> Vec<u64> {
    world
        .tasks
        .iter()
        .filter(|it| it.tenant.0 != FLOODER && arrived.contains(&it.arrived))
        .map(|it| it.wait(world.now))
        .collect()
}

pub(crate) fn world(
    settings: Settings<'_>,
    seed: u64,
    scheduler: Box<dyn Scheduler>,
    flood: bool,
) -> World {
    prepared(settings, seed, scheduler, (flood, false))
}

/// `strict`: the flooder is of the lower class.
fn prepared(
    settings: Settings<'_>,
    seed: u64,
    scheduler: Box<dyn Scheduler>,
    (flood, strict): (bool, bool),
) -> World {
    let mut world = settings.world(scheduler, seed);
    let slots = settings.add_hosts(&mut world);
    let lengths = settings.lengths();
    let capacity = settings.capacity(slots, &lengths);
    let open = |load: f64| Arrivals::Open { mean_s: 1.0 / (capacity * load) };
    let light = settings.count("/light/tenants");
    for tenant in 1..=light {
        let load = settings.number("/light/total_load") / f64::from(light);
        let random = Random::new(seed, 10 + u64::from(tenant));
        world.sources.push(Source::new(tenant, lengths, random, open(load)));
    }
    if flood {
        let random = Random::new(seed, 9);
        let load = settings.number("/flooder/load");
        world.sources.push(Source::new(FLOODER, lengths, random, open(load)));
    }
    if strict {
        world.sources.last_mut().into_iter().for_each(|it| it.class = Class::Batch);
    }
    world.start();
    world.run(settings.duration());
    world
}
