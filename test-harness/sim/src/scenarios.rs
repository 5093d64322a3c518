//! The scenarios of `scenarios.json`: their constants are read from there and stand nowhere else.

pub(crate) mod backlog;
pub(crate) mod deadline;
pub(crate) mod flood;
pub(crate) mod mixed;
pub(crate) mod storm;
pub(crate) mod swap;
pub(crate) mod vtc;

use orchestrator_core::{
    ClassPolicy, Core, CoreConfig, FullPolicy, Micros, Prices, SwapPolicy, TenantId,
};
use serde_json::Value;

use crate::engine::Pace;
use crate::random::Lengths;
use crate::scheduler::Scheduler;
use crate::world::{SECOND, World};

/// Looking at all invariants takes as long as the queue is; long runs look now and then.
const CHECK_EVERY: u64 = 20_000;

/// One scenario's object, with the defaults it shares with the others.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub(crate) own: &'a Value,
    all: &'a Value,
    /// Events between two looks at all invariants.
    pub(crate) check_every: u64,
}

impl<'a> Settings<'a> {
    pub(crate) fn new(all: &'a Value, name: &str) -> Self {
        Self { own: &all["scenarios"][name], all, check_every: CHECK_EVERY }
    }

    /// # Panics
    /// If the file lacks the number: it is part of the program.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.own.pointer(pointer).and_then(Value::as_f64).expect("the scenario has the number")
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
    pub(crate) fn count(&self, pointer: &str) -> u32 {
        self.number(pointer) as u32
    }

    pub(crate) fn duration(&self) -> u64 {
        u64::from(self.count("/duration_s")) * SECOND
    }

    pub(crate) fn pace(&self) -> Pace {
        let rate = |name: &str| {
            self.all["engine_default"][name].as_u64().expect("the engine has the rate")
        };
        Pace { prefill: rate("prefill_tokens_per_s"), decode: rate("decode_tokens_per_s") }
    }

    pub(crate) fn lengths(&self) -> Lengths {
        let of = |pointer: &str| {
            self.all["lengths_default"].pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0)
        };
        Lengths {
            prompt_mean: of("/prompt/lognormal_mean"),
            prompt_sigma: of("/prompt/sigma"),
            prompt_max: of("/prompt/max"),
            output_mean: of("/output/geometric_mean"),
            output_max: of("/output/max"),
        }
    }

    /// Seconds per output token in a full batch, and per prompt token.
    #[expect(clippy::cast_precision_loss, reason = "rates are small")]
    pub(crate) fn seconds(&self) -> (f64, f64) {
        let pace = self.pace();
        (1.0 / (pace.decode as f64 * 0.7), 1.0 / pace.prefill as f64)
    }

    /// Tasks that `slots` finish in a second when all are in use.
    pub(crate) fn capacity(&self, slots: u32, lengths: &Lengths) -> f64 {
        let (output_s, prompt_s) = self.seconds();
        let (prompt, output) = lengths.means();
        f64::from(slots) / (prompt * prompt_s + output * output_s)
    }

    pub(crate) fn world(&self, scheduler: Box<dyn Scheduler>, seed: u64) -> World {
        let mut world = World::new(scheduler, seed);
        world.check_every = self.check_every;
        world
    }

    /// As many replicas and slots as the scenario says; replica ids from 1.
    pub(crate) fn add_hosts(&self, world: &mut World) -> u32 {
        let (replicas, slots) = (self.count("/replicas"), self.count("/slots_each"));
        (1..=replicas).for_each(|id| {
            world.add_host(id, 0, slots, self.pace());
        });
        replicas * slots
    }
}

/// The home profile's policy with a queue that never fills.
pub(crate) fn policy() -> CoreConfig {
    let class = |weight, max_wait_s, patience_s| ClassPolicy {
        weight,
        max_wait: Micros::seconds(max_wait_s),
        patience: Micros::seconds(patience_s),
    };
    CoreConfig {
        queue_capacity: 4_000_000,
        full_policy: FullPolicy::Reject,
        unready_wait: Micros::seconds(600),
        interactive: class(8, 30, 30),
        batch: class(1, 1_800, 3_600),
        strict_classes: false,
        prices: Prices { input: 1, output: 2 },
        swap: SwapPolicy { min_resident: Micros::seconds(10), max_wait: Micros::seconds(60) },
        preemptions_per_min: 0,
        headroom_slots: 0,
        on_time_percent_min: 5,
    }
}

pub(crate) fn core() -> Box<Core> {
    Box::new(Core::new(policy()))
}

/// Part of the slots' time that was in use.
#[expect(clippy::cast_precision_loss, reason = "microseconds of hours")]
pub(crate) fn utilisation(world: &World, slots: u32) -> f64 {
    world.stats.busy as f64 / (f64::from(slots) * world.now as f64)
}

/// Service of each tenant in each window of `seconds` that begins at or after `from`.
#[expect(clippy::cast_precision_loss, reason = "tokens of hours")]
pub(crate) fn windows(
    world: &World,
    tenants: &[TenantId],
    (from, seconds): (usize, usize),
) -> Vec<Vec<f64>> {
    let length = usize::try_from(world.now / SECOND).unwrap_or(0);
    let sums: Vec<Vec<f64>> = tenants
        .iter()
        .map(|tenant| {
            let service = world.stats.service.get(tenant);
            let mut sum = 0;
            let mut sums = vec![0.0];
            for second in 0..length {
                sum += service.and_then(|it| it.get(second)).copied().unwrap_or(0);
                sums.push(sum as f64);
            }
            sums
        })
        .collect();
    (from..length.saturating_sub(seconds))
        .map(|start| sums.iter().map(|it| it[start + seconds] - it[start]).collect())
        .collect()
}

/// In seconds.
#[expect(clippy::cast_precision_loss, reason = "microseconds of hours")]
pub(crate) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
