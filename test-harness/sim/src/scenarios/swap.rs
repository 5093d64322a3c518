//! Three models that take turns on one device.
//!
//! A task's service time is clipped to a wall limit of 20 s, which is R of the bound.

use orchestrator_core::{DeviceId, Event, Footprint, Micros, ReplicaId};
use sha2::{Digest, Sha256};

use super::{Settings, core, policy, seconds};
use crate::baseline::{Baseline, Order};
use crate::figures::Outcome;
use crate::load::{Arrivals, Source};
use crate::random::Random;
use crate::scheduler::Scheduler;
use crate::world::{SECOND, World};
use orchestrator_core::Availability;

const WALL_LIMIT_S: f64 = 20.0;
const THINK_S: f64 = 1.0;
const MEMORY: u64 = 1;

pub(crate) fn run(settings: Settings<'_>, seed: u64) -> Outcome {
    let ours = world(settings, seed, core(), settings.duration());
    let fifo = Box::new(Baseline::new(Order::Fifo, usize::MAX));
    let fifo = world(settings, seed, fifo, settings.duration());
    let done = |it: &World| it.tasks.iter().filter(|it| it.is_done()).count();
    let models = settings.own["models"].as_object().map_or(0, serde_json::Map::len);
    let load_s = settings.number("/models/A/load_s");
    let swap = policy().swap;
    let (max_wait, min_resident) = (seconds(swap.max_wait.0), seconds(swap.min_resident.0));
    #[expect(clippy::cast_precision_loss, reason = "three models")]
    let ahead = (models - 1) as f64 * (load_s + min_resident + WALL_LIMIT_S);
    let bound = max_wait + ahead + WALL_LIMIT_S + load_s;
    let longest = ours.tasks.iter().map(|it| seconds(it.wait(ours.now))).fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "thousands of tasks")]
    let (goodput, share) = (
        done(&ours) as f64 / done(&fifo) as f64,
        fifo.stats.loads.len() as f64
            / fifo.tasks.iter().filter(|it| it.dispatched.is_some()).count() as f64,
    );
    let mut outcome = Outcome {
        figures: vec![
            ("swap.goodput_vs_fifo", goodput),
            ("swap.wait_over_bound_s", longest - bound),
        ],
        beside: vec![
            (
                "swap.goodput_vs_fifo",
                format!(
                    "{} tasks, {} loads; fifo {} tasks, {} loads",
                    done(&ours),
                    ours.stats.loads.len(),
                    done(&fifo),
                    fifo.stats.loads.len()
                ),
            ),
            ("swap.wait_over_bound_s", format!("longest wait {longest:.1} s, bound {bound:.0} s")),
        ],
        ..Outcome::default()
    };
    outcome.check(
        "fifo swaps on 0.63 to 0.70 of its tasks",
        (0.63..=0.70).contains(&share),
        format!("{share:.3}"),
    );
    outcome.check("invariants", ours.stats.violations.is_empty(), ours.stats.violations.join("; "));
    outcome
}

pub(crate) fn world(
    settings: Settings<'_>,
    seed: u64,
    scheduler: Box<dyn Scheduler>,
    until: u64,
) -> World {
    let mut world = prepared(settings, seed, scheduler);
    world.run(until);
    world
}

/// SHA-256 of the effects of one run.
pub(crate) fn golden(settings: Settings<'_>, seed: u64) -> String {
    let mut world = prepared(settings, seed, core());
    world.timeline = Some(Sha256::new());
    world.run(settings.duration());
    let digest = world.timeline.take().map(Sha256::finalize);
    digest.into_iter().flatten().map(|it| format!("{it:02x}")).collect()
}

fn prepared(settings: Settings<'_>, seed: u64, scheduler: Box<dyn Scheduler>) -> World {
    let mut world = settings.world(scheduler, seed);
    let load_s = u64::from(settings.count("/models/A/load_s"));
    let models = settings.own["models"].as_object().map_or(0, serde_json::Map::len);
    let models = u32::try_from(models).unwrap_or(0);
    world.feed(Event::DeviceChanged { device: DeviceId(0), memory_bytes: MEMORY });
    for model in 0..models {
        let host = world.add_host(model, model, settings.count("/slots"), settings.pace());
        host.load = load_s * SECOND;
        if model != 0 {
            host.availability = Availability::Unloaded;
        }
    }
    let random = Random::new(seed, 10);
    let callers = settings.count("/agents");
    let arrivals = Arrivals::Closed { callers, think_s: THINK_S };
    let mut source = Source::new(1, settings.lengths(), random, arrivals);
    source.models = models;
    source.service_s = Some((settings.number("/service_s/exp_mean"), WALL_LIMIT_S));
    world.sources.push(source);
    world.start();
    for replica in 0..models {
        let footprint = Footprint {
            memory_bytes: vec![(DeviceId(0), MEMORY)],
            load: Micros::seconds(load_s),
            pinned: false,
            idle_ttl: None,
        };
        world.feed(Event::FootprintChanged { replica: ReplicaId(replica), footprint });
    }
    world
}
