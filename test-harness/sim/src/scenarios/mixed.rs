//! Interactive work beside batch work that always waits and is stopped for it.
//!
//! A batch answer is at most four times its mean, as in the default lengths.

use orchestrator_core::{Class, Core, CoreConfig};

use super::{Settings, policy, seconds};
use crate::figures::{Outcome, percentile};
use crate::load::{Arrivals, Source};
use crate::random::Random;
use crate::world::World;

const BATCH_QUEUED: u32 = 40;
/// Enough never to be what limits; the figure tells how many there were.
const PREEMPTIONS_PER_MIN: u32 = 600;
/// How long tasks may take to end after the last one came, in seconds.
const DRAIN: u64 = 3_600;

pub(crate) fn run(settings: Settings<'_>, seed: u64) -> Outcome {
    let mut with = world(settings, seed, true);
    let without = world(settings, seed, false);
    let ttft = |it: &World| {
        let interactive = it.tasks.iter().filter(|it| it.class == Class::Interactive);
        let mut times: Vec<u64> =
            interactive.map(|task| task.first_token.unwrap_or(it.now) - task.arrived).collect();
        seconds(percentile(&mut times, 95))
    };
    let (first_with, first_without) = (ttft(&with), ttft(&without));
    let (low, high) = with.confirm_s;
    let confirm = low + 0.95 * (high - low);
    let interactive = with.tasks.iter().filter(|it| it.class == Class::Interactive);
    let mut prompts: Vec<u64> = interactive.map(|it| u64::from(it.prompt)).collect();
    let prefill = seconds(percentile(&mut prompts, 95) * 1_000_000) * settings.seconds().1;
    let tokens = |class: Class| -> f64 {
        let tasks = with.tasks.iter().filter(|it| it.class == class);
        tasks.map(|it| f64::from(it.kept)).sum()
    };
    let slots = f64::from(settings.count("/replicas") * settings.count("/slots_each"));
    let all = slots * seconds(with.now) / settings.seconds().0;
    let batch = tokens(Class::Batch) / (all - tokens(Class::Interactive));
    let preemptions = with.stats.preemptions;
    let wasted = with.stats.recomputed;
    let most = with.tasks.iter().map(|it| it.preemptions).max().unwrap_or(0);
    with.arrivals_until = with.now;
    with.run(with.now + DRAIN * crate::world::SECOND);
    let unfinished = with.tasks.iter().filter(|it| it.admitted && it.ended.is_none()).count();
    #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
    let mut outcome = Outcome {
        figures: vec![
            ("mixed.interactive_ttft_excess", (first_with - first_without) / (confirm + prefill)),
            ("mixed.batch_throughput_ratio", batch),
            ("preempt.max_per_task", f64::from(most)),
            ("preempt.unfinished", unfinished as f64),
        ],
        beside: vec![
            (
                "mixed.interactive_ttft_excess",
                format!("p95 {first_with:.2} s with batch, {first_without:.2} s without"),
            ),
            ("preempt.max_per_task", format!("{preemptions} preemptions, {wasted} tokens again")),
        ],
        ..Outcome::default()
    };
    outcome.check("tasks were preempted", 0 < preemptions, preemptions.to_string());
    outcome.check("invariants", with.stats.violations.is_empty(), with.stats.violations.join("; "));
    outcome
}

pub(crate) fn world(settings: Settings<'_>, seed: u64, batch: bool) -> World {
    let config = CoreConfig {
        headroom_slots: settings.count("/headroom_slots"),
        preemptions_per_min: PREEMPTIONS_PER_MIN,
        ..policy()
    };
    let mut world = settings.world(Box::new(Core::new(config)), seed);
    let slots = settings.add_hosts(&mut world);
    world.hosts.values_mut().for_each(|it| it.interruptible = true);
    let lengths = settings.lengths();
    let mean_s = 1.0 / (settings.capacity(slots, &lengths) * settings.number("/interactive/load"));
    let arrivals = Arrivals::Open { mean_s };
    world.sources.push(Source::new(1, lengths, Random::new(seed, 10), arrivals));
    if batch {
        let mean = settings.number("/batch/output_mean");
        let mut lengths = settings.lengths();
        lengths.output_max *= mean / lengths.output_mean;
        lengths.output_mean = mean;
        let arrivals = Arrivals::Backlog { tasks: BATCH_QUEUED };
        let mut source = Source::new(2, lengths, Random::new(seed, 11), arrivals);
        source.class = Class::Batch;
        world.sources.push(source);
    }
    world.start();
    world.run(settings.duration());
    world
}
