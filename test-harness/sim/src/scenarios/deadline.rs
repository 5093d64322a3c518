//! Half again as much work as fits, every task with a deadline.
//!
//! A caller who derives the deadline from the service time knows the length and states it as
//! `expected_tokens`. Both schedulers have a queue of 64. The ninetieth percentile of predicted
//! starts is measured apart, without deadlines, on the tasks that had to wait.

use orchestrator_core::{Core, CoreConfig};

use super::{Settings, core, policy, seconds};
use crate::baseline::{Baseline, Order};
use crate::figures::Outcome;
use crate::load::{Arrivals, Source};
use crate::random::Random;
use crate::scheduler::Scheduler;
use crate::world::{SECOND, World};

const CAPACITY: u32 = 64;
const STEADY_LOAD: f64 = 0.8;
const WARM_UP: u64 = 600 * SECOND;
/// The factors between service time and deadline.
const FACTORS: (f64, f64) = (1.5, 6.0);

pub(crate) fn run(settings: Settings<'_>, seed: u64) -> Outcome {
    let load = settings.number("/load");
    let bounded = CoreConfig { queue_capacity: CAPACITY, ..policy() };
    let ours = world(settings, seed, Box::new(Core::new(bounded)), load, true);
    let fifo = Box::new(Baseline::new(Order::Fifo, CAPACITY as usize));
    let fifo = world(settings, seed, fifo, load, true);
    let slots = f64::from(settings.count("/replicas") * settings.count("/slots_each"));
    let share = |it: &World| on_time_tokens(it) * settings.seconds().0 / (slots * seconds(it.now));
    let (share_ours, share_fifo) = (share(&ours), share(&fifo));
    let steady = world(settings, seed, core(), STEADY_LOAD, false);
    let waited: Vec<_> = steady
        .tasks
        .iter()
        .filter(|it| WARM_UP < it.arrived && 0 < it.wait(steady.now))
        .filter_map(|it| Some((it.wait(steady.now), it.p90?)))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "thousands of tasks")]
    let coverage =
        waited.iter().filter(|(wait, p90)| wait <= p90).count() as f64 / waited.len().max(1) as f64;
    let mut outcome = Outcome {
        figures: vec![
            ("deadline.ontime_share_of_capacity", share_ours),
            ("deadline.p90_coverage", coverage),
        ],
        beside: vec![
            ("deadline.ontime_share_of_capacity", format!("fifo {share_fifo:.3}")),
            ("deadline.p90_coverage", format!("of {} tasks that waited", waited.len())),
        ],
        ..Outcome::default()
    };
    outcome.check("fifo stays under 0.3", share_fifo < 0.3, format!("{share_fifo:.3}"));
    outcome.check("invariants", ours.stats.violations.is_empty(), ours.stats.violations.join("; "));
    outcome
}

fn on_time_tokens(world: &World) -> f64 {
    let on_time = world.tasks.iter().filter(|it| {
        it.is_done() && it.ended.is_some_and(|(at, _)| it.deadline.is_some_and(|by| at <= by))
    });
    on_time.map(|it| f64::from(it.output)).sum()
}

pub(crate) fn world(
    settings: Settings<'_>,
    seed: u64,
    scheduler: Box<dyn Scheduler>,
    load: f64,
    deadlines: bool,
) -> World {
    let mut world = settings.world(scheduler, seed);
    let slots = settings.add_hosts(&mut world);
    let lengths = settings.lengths();
    let mean_s = 1.0 / (settings.capacity(slots, &lengths) * load);
    let mut source = Source::new(1, lengths, Random::new(seed, 10), Arrivals::Open { mean_s });
    source.deadline = deadlines.then_some(FACTORS);
    source.seconds = settings.seconds();
    world.sources.push(source);
    world.start();
    world.run(settings.duration());
    world
}
