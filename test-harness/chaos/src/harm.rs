//! What goes wrong: one thread for each kind of harm, at times that the seed draws.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rustix::process::{Signal, kill_process};

use crate::pause;
use crate::run::Run;

/// Pauses between two harms of one thread, in ms. Ten of each kind in three minutes need a mean of
/// less than 18 s, and kills must not be so dense that a task loses all its attempts to them.
const ORCHESTRATOR_EVERY: std::ops::Range<u64> = 3_000..7_000;
const OTHERS_EVERY: std::ops::Range<u64> = 5_000..11_000;

/// How often each kind was done.
#[derive(Default)]
pub(crate) struct Harms(Mutex<BTreeMap<&'static str, u64>>);

impl Harms {
    pub(crate) const KINDS: [&str; 6] =
        ["orchestratord", "pool_managerd", "engine", "clients_wire", "daemons_wire", "disk"];

    pub(crate) fn count(&self, kind: &str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(kind).copied().unwrap_or(0)
    }

    fn note(&self, kind: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }
}

type Lane = fn(&Run, &mut SmallRng) -> anyhow::Result<()>;

/// The disk and the kills of orchestratord take turns: the limit that stands for a full disk refuses
/// even what a full disk has kept back for the ends of tasks.
const LANES: [(std::ops::Range<u64>, Lane); 5] = [
    (ORCHESTRATOR_EVERY, orchestrator),
    (OTHERS_EVERY, manager),
    (OTHERS_EVERY, engine),
    (OTHERS_EVERY, clients_wire),
    (OTHERS_EVERY, daemons_wire),
];

/// The lanes of harm, to be run on a thread each until the run's harm is over. Each one heals what it
/// did before it returns.
pub(crate) fn lanes(run: &Run) -> impl Iterator<Item = impl FnOnce() + Send> {
    LANES.iter().zip(1..).map(move |((every, lane), number)| {
        move || {
            let mut random = SmallRng::seed_from_u64(run.options.seed.wrapping_add(number << 32));
            loop {
                run.rest(Duration::from_millis(random.random_range(every.clone())));
                if run.is_calm() {
                    return;
                }
                if let Err(error) = lane(run, &mut random) {
                    run.surprise(format!("{error:#}"));
                }
            }
        }
    })
}

fn span(random: &mut SmallRng, ms: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(ms))
}

/// A full disk, then a kill, or the other way round.
fn orchestrator(run: &Run, random: &mut SmallRng) -> anyhow::Result<()> {
    let disk_first = random.random();
    let mut harm = |fills: bool| if fills { fill(run, random) } else { kill(run, random) };
    harm(disk_first)?;
    // What had no room is written within a second of there being room.
    pause(Duration::from_secs(3));
    harm(!disk_first)
}

fn kill(run: &Run, random: &mut SmallRng) -> anyhow::Result<()> {
    let dead_for = span(random, 0..800);
    run.stack.kill_orchestrator()?;
    run.harms.note("orchestratord");
    pause(dead_for);
    run.stack.start_orchestrator()
}

/// Streams wait for two seconds, then end: both sides of that.
fn fill(run: &Run, random: &mut SmallRng) -> anyhow::Result<()> {
    let full_for = span(random, 200..2_600);
    run.stack.limit_files(Some(1))?;
    run.harms.note("disk");
    pause(full_for);
    run.stack.limit_files(None)
}

fn manager(run: &Run, random: &mut SmallRng) -> anyhow::Result<()> {
    let dead_for = span(random, 0..1_500);
    let on_exit = if random.random() { "stop" } else { "keep" };
    run.stack.kill_manager()?;
    run.harms.note("pool_managerd");
    pause(dead_for);
    run.stack.start_manager(on_exit)
}

fn engine(run: &Run, random: &mut SmallRng) -> anyhow::Result<()> {
    let Some(pid) = run.stack.engines().choose(random).copied() else { return Ok(()) };
    // It may have gone with its manager just now.
    if kill_process(pid, Signal::KILL).is_ok() {
        run.harms.note("engine");
    }
    Ok(())
}

fn clients_wire(run: &Run, random: &mut SmallRng) -> anyhow::Result<()> {
    if random.random_ratio(3, 4) {
        run.stack.clients.cut();
    } else {
        run.stack.clients.freeze(span(random, 100..2_000));
    }
    run.harms.note("clients_wire");
    Ok(())
}

/// Up to more than the six seconds after which a silent manager counts as gone.
fn daemons_wire(run: &Run, random: &mut SmallRng) -> anyhow::Result<()> {
    if random.random() {
        run.stack.daemons.cut();
    } else {
        run.stack.daemons.freeze(span(random, 1_000..8_000));
    }
    run.harms.note("daemons_wire");
    Ok(())
}
