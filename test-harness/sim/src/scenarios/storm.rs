//! Replicas that die at random, and tasks that kill them.
//!
//! A poison task kills its engine at the end of its prefill.

use orchestrator_core::Ending;

use super::{Settings, core};
use crate::figures::Outcome;
use crate::hosts::Crashes;
use crate::load::{Arrivals, Source};
use crate::random::Random;
use crate::world::{SECOND, World};

const CRASH_MEAN_S: f64 = 120.0;
const BACK_AFTER_S: u64 = 15;
const POISON_EVERY: u64 = 500;
/// How long tasks may take to end after the last one came, in seconds.
const DRAIN: u64 = 3_600;

#[expect(clippy::cast_precision_loss, reason = "counts of tasks")]
pub(crate) fn run(settings: Settings<'_>, seed: u64) -> Outcome {
    let mut world = world(settings, seed);
    world.arrivals_until = world.now;
    world.run(world.now + DRAIN * SECOND);
    let admitted = || world.tasks.iter().filter(|it| it.admitted);
    let lost = admitted().filter(|it| it.ended.is_none()).count();
    let bad = |it: &crate::load::Truth| matches!(it.ended, Some((_, Some(ending))) if ending != Ending::Completed);
    let innocent = admitted().filter(|it| !it.poison && bad(it)).count();
    let kills = admitted().map(|it| it.kills).max().unwrap_or(0);
    let poison = admitted().filter(|it| it.poison).count();
    let again = admitted().filter(|it| 1 < it.attempts).count();
    let mut outcome = Outcome {
        figures: vec![
            ("storm.lost", lost as f64),
            ("storm.innocent_failed", innocent as f64),
            ("storm.poison_kills_max", f64::from(kills)),
        ],
        beside: vec![(
            "storm.lost",
            format!("{} tasks, {again} resumed, {poison} poison", admitted().count()),
        )],
        ..Outcome::default()
    };
    outcome.check(
        "there was poison, and engines died",
        0 < poison && 50 < again,
        format!("{poison}, {again}"),
    );
    outcome.check(
        "invariants",
        world.stats.violations.is_empty(),
        world.stats.violations.join("; "),
    );
    outcome
}

pub(crate) fn world(settings: Settings<'_>, seed: u64) -> World {
    let mut world = settings.world(core(), seed);
    let slots = settings.add_hosts(&mut world);
    for (index, host) in (20..).zip(world.hosts.values_mut()) {
        let random = Random::new(seed, index);
        let back_after = BACK_AFTER_S * SECOND;
        host.crashes = Some(Crashes { random, mean_s: CRASH_MEAN_S, back_after });
    }
    let lengths = settings.lengths();
    let mean_s = 1.0 / (settings.capacity(slots, &lengths) * settings.number("/load"));
    let arrivals = Arrivals::Open { mean_s };
    let mut source = Source::new(1, lengths, Random::new(seed, 10), arrivals);
    source.poison_every = POISON_EVERY;
    world.sources.push(source);
    world.start();
    world.run(settings.duration());
    world
}
