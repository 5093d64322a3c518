//! What the core costs: time per event and memory per queued task, at several depths.
//!
//! A thousand replicas of eight slots serve twenty models, all slots in use; the queue keeps its
//! depth, since each end is followed by a submission. One turn is Submit, five times Progress, and
//! Finish, which dispatches the next: seven calls for the eight events of the scenario.

use std::collections::VecDeque;
use std::time::Instant;

use orchestrator_core::{
    Availability, Class, Core, CoreConfig, Effect, EngineId, Event, ModelId, PoolId, ReplicaId,
    ReplicaStatus, Report, Run, TaskId, TaskSpec, TenantId, Timestamp, Usage,
};

use crate::figures::Outcome;
use crate::random::Random;
use crate::scenarios::{Settings, policy};

const MODELS: u32 = 20;
const SLOTS: u32 = 8;
const PROGRESS: u32 = 5;
/// Turns that are measured at each depth.
const TURNS: usize = 100_000;
/// Depths beside those of the scenario, for the curve.
const FURTHER: [u64; 3] = [10_000, 30_000, 300_000];

#[derive(Debug)]
struct Cost {
    depth: u64,
    mean_ns: f64,
    p99_ns: u32,
    bytes_per_task: f64,
}

pub(crate) fn run(settings: Settings<'_>) -> Outcome {
    let named = settings.own["depths"].as_array().into_iter().flatten();
    let mut depths: Vec<u64> = named.filter_map(serde_json::Value::as_u64).chain(FURTHER).collect();
    depths.sort_unstable();
    let costs: Vec<Cost> = depths.iter().map(|it| measure(settings, *it)).collect();
    let at = |depth: u64| costs.iter().find(|it| it.depth == depth);
    let mean = |depth| at(depth).map_or(f64::NAN, |it| it.mean_ns);
    let curve: Vec<String> =
        costs.iter().map(|it| format!("{}: {:.0} ns", it.depth, it.mean_ns)).collect();
    let bytes = at(1_000_000).map_or(f64::NAN, |it| it.bytes_per_task);
    let mut outcome = Outcome {
        figures: vec![
            ("core.ns_per_event_1k", mean(1_000)),
            ("core.ns_per_event_1m", mean(1_000_000)),
            ("core.ns_p99_1m", at(1_000_000).map_or(f64::NAN, |it| f64::from(it.p99_ns))),
            ("core.bytes_per_queued_task", bytes),
        ],
        beside: vec![("core.ns_per_event_1k", curve.join(", "))],
        ..Outcome::default()
    };
    // A thousand times the depth, a few times the cost: far from linear.
    let growth = mean(1_000_000) / mean(1_000);
    outcome.check(
        "the curve is logarithmic",
        growth < 10.0,
        format!("x{growth:.1} from 1 k to 1 M"),
    );
    outcome
}

struct Driver {
    core: Core,
    random: Random,
    now: u64,
    next: u64,
    tenants: u64,
    running: VecDeque<Run>,
    queued: u64,
}

impl Driver {
    fn apply(&mut self, event: Event) {
        self.now += 10;
        for effect in self.core.apply(Timestamp(self.now), event) {
            match effect {
                Effect::Admitted { .. } => self.queued += 1,
                Effect::Dispatch { run, .. } => {
                    self.queued -= 1;
                    self.running.push_back(run);
                }
                Effect::Rejected { .. }
                | Effect::CancelOnReplica(_)
                | Effect::Preempt(_)
                | Effect::Ended { .. }
                | Effect::Load { .. }
                | Effect::Unload { .. }
                | Effect::Decided(_) => {}
            }
        }
    }

    fn submission(&mut self) -> Event {
        self.next += 1;
        let small = |it: u64| u32::try_from(it).unwrap_or(0);
        Event::Submitted(TaskSpec {
            task: TaskId(self.next),
            model: ModelId(small(self.random.below(MODELS.into()))),
            tenant: TenantId(small(self.random.below(self.tenants))),
            class: if self.random.below(4) == 0 { Class::Batch } else { Class::Interactive },
            prompt_tokens: 1 + small(self.random.below(800)),
            max_tokens: 1 + small(self.random.below(400)),
            expected_tokens: None,
            deadline: None,
            ttl: None,
            session: None,
            resumable: true,
            engine: None,
            pools: None,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds and bytes of one run")]
fn measure(settings: Settings<'_>, depth: u64) -> Cost {
    let mut driver = Driver {
        core: Core::new(CoreConfig { queue_capacity: 4_000_000, ..policy() }),
        random: Random::new(depth, 1),
        now: 0,
        next: 0,
        tenants: u64::from(settings.count("/tenants")),
        running: VecDeque::new(),
        queued: 0,
    };
    for id in 0..settings.count("/replicas") {
        let status = ReplicaStatus {
            model: ModelId(id % MODELS),
            pool: PoolId(id),
            engine: EngineId(0),
            incarnation: 1,
            availability: Availability::Ready,
            slots: SLOTS,
            context_tokens: 4_096,
            kv_tokens: 0,
            interruptible: false,
            spread: 0,
        };
        driver.apply(Event::ReplicaChanged { replica: ReplicaId(id), status });
    }
    let slots = u64::from(settings.count("/replicas") * SLOTS);
    while (driver.running.len() as u64) < slots * 99 / 100 || driver.queued < depth / 100 {
        let event = driver.submission();
        driver.apply(event);
    }
    let (before, queued) = (resident_bytes(), driver.queued);
    while driver.queued < depth {
        let event = driver.submission();
        driver.apply(event);
    }
    let bytes = (resident_bytes() - before) as f64 / (driver.queued - queued).max(1) as f64;
    let mut times = Vec::with_capacity(TURNS * 7);
    for _ in 0..TURNS {
        turn(&mut driver, &mut times);
    }
    let sum: u64 = times.iter().map(|it| u64::from(*it)).sum();
    let mean_ns = sum as f64 / times.len() as f64;
    times.sort_unstable();
    Cost { depth, mean_ns, p99_ns: times[times.len() * 99 / 100], bytes_per_task: bytes }
}

fn turn(driver: &mut Driver, times: &mut Vec<u32>) {
    let mut timed = |driver: &mut Driver, event| {
        let started = Instant::now();
        driver.apply(event);
        times.push(u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX));
    };
    let event = driver.submission();
    timed(driver, event);
    let Some(run) = driver.running.pop_front() else { return };
    let usage = |output_tokens| Usage { prompt_tokens: None, output_tokens };
    for step in 1..=PROGRESS {
        timed(driver, Event::Progress { run, usage: usage(step * 10) });
    }
    let (report, usage) = (Report::Completed, usage(60));
    timed(driver, Event::Finished { run, report, usage, slot_free: true });
}

/// As the kernel counts; 0 where it does not tell.
fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: i64 = status.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    pages * 4_096
}
