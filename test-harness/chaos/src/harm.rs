//! What goes wrong: one thread for each kind of harm, at times that the seed draws.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rustix::process::{Signal, kill_process};

use crate::pause;
use crate::run::Run;
use crate::stack::Stack;

/// Pauses between two harms of one thread, in ms. Ten of each kind in three minutes need a mean of
/// less than 18 s, and kills must not be so dense that a task loses all its attempts to them.
const ORCHESTRATOR_EVERY: std::ops::Range<u64> = 3_000..7_000;
const OTHERS_EVERY: std::ops::Range<u64> = 5_000..11_000;

/// How long a moment is waited for: less than the two seconds after which streams end on a full disk.
const MOMENT_WITHIN: Duration = Duration::from_millis(1_200);

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

/// What orchestratord has just said to a client: it must be true of its next life, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Admitted,
    Token,
    Ended,
    Cancelled,
}

/// A kill that waits for a moment. Who sees the moment kills, because another thread would come too
/// late.
#[derive(Default)]
pub(crate) struct Trigger {
    armed: Mutex<Option<Moment>>,
    done: Condvar,
}

impl Trigger {
    fn armed(&self) -> MutexGuard<'_, Option<Moment>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has seen it.
    pub(crate) fn reached(&self, moment: Moment, stack: &Stack) {
        let mut armed = self.armed();
        if *armed == Some(moment) {
            *armed = None;
            stack.strike_orchestrator();
            self.done.notify_all();
        }
    }

    /// Returns once somebody has killed, or when the moment does not come.
    fn wait(&self, moment: Moment, patience: Duration) {
        let mut armed = self.armed();
        *armed = Some(moment);
        let waited = self.done.wait_timeout_while(armed, patience, |it| it.is_some());
        *waited.unwrap_or_else(PoisonError::into_inner).0 = None;
    }
}

type Lane = fn(&Run, &mut SmallRng) -> anyhow::Result<()>;

/// The disk and the kills of orchestratord take turns: the limit that stands for a full disk refuses
/// even what a full disk has kept back for the ends of tasks, which a kill would then forget.
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

/// At a moment that a client sees, or in vain: while the disk is full nothing is acknowledged or shown
/// that is not written.
fn kill(run: &Run, random: &mut SmallRng) -> anyhow::Result<()> {
    let dead_for = span(random, 0..800);
    // The first two are acknowledgements, which a full disk must hold back.
    let moments = [Moment::Admitted, Moment::Cancelled, Moment::Token, Moment::Ended];
    let moment = if random.random() {
        run.stack.limit_files(Some(1))?;
        moments[..2].choose(random)
    } else {
        moments.choose(random)
    };
    run.trigger.wait(*moment.context("no moment was drawn")?, MOMENT_WITHIN);
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
