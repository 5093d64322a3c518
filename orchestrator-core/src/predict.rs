//! How long things take, learned from what they took: slot occupancy, speed of replicas, lengths of
//! answers, and how far off earlier predictions were. Integers only.

use crate::types::{Micros, TaskSpec};

/// Before anything was measured: a small GPU's pace. Replaced by the first finished task.
const PRIOR_PREFILL_US: u64 = 1_000;
const PRIOR_DECODE_US: u64 = 50_000;

/// Counts of values by quarter octave; old values fade.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: [u16; BUCKETS],
    total: u32,
}

/// Quarter octaves up to 2^20.
const BUCKETS: usize = 80;
/// Past this the counts are halved, so that the histogram follows what changes.
const TOTAL_MAX: u32 = 2_000;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        if self.total == TOTAL_MAX {
            self.counts.iter_mut().for_each(|it| *it /= 2);
            self.total = self.counts.iter().map(|it| u32::from(*it)).sum();
        }
    }

    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// The value that `permille` of the recorded ones do not exceed, to a quarter octave; linear
    /// inside it.
    pub(crate) fn quantile(&self, permille: u32) -> Option<u64> {
        let wanted = u64::from(self.total) * u64::from(permille);
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            let upto = below + u64::from(*count) * 1_000;
            if 0 < *count && wanted <= upto {
                let (low, high) = (lower_edge(index), lower_edge(index + 1));
                return Some(low + (high - low) * (wanted - below) / (upto - below));
            }
            below = upto;
        }
        None
    }

    /// How many of a thousand recorded values are at most `value`.
    pub(crate) fn permille_at_most(&self, value: u64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let index = bucket(value);
        let whole: u64 = self.counts[..index].iter().map(|it| u64::from(*it)).sum();
        let (low, high) = (lower_edge(index), lower_edge(index + 1));
        let inside = (value.min(high) + 1).saturating_sub(low).min(high - low);
        let partly = u64::from(self.counts[index]) * 1_000 * inside / (high - low);
        Some((whole * 1_000 + partly) / u64::from(self.total))
    }
}

fn bucket(value: u64) -> usize {
    let value = value.max(4);
    let octave = value.ilog2();
    let quarter = (value >> (octave - 2)) & 3;
    let index = (octave as usize - 2) * 4 + usize::try_from(quarter).unwrap_or(0);
    index.min(BUCKETS - 1)
}

fn lower_edge(index: usize) -> u64 {
    if index == 0 { 0 } else { (4 + index as u64 % 4) << (index / 4) }
}

/// Exponentially weighted mean and mean deviation, as in TCP's round-trip estimator (RFC 6298): the
/// mean moves by 1/8, the deviation by 1/4 of each new error.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    measured: Option<(u64, u64)>,
}

impl Mean {
    pub(crate) fn record(&mut self, value: u64) {
        self.measured = Some(match self.measured {
            None => (value, value / 2),
            Some((mean, deviation)) => {
                let error = value.abs_diff(mean);
                (mean - mean / 8 + value / 8, deviation - deviation / 4 + error / 4)
            }
        });
    }

    pub(crate) fn get(self) -> Option<u64> {
        self.measured.map(|it| it.0)
    }

    fn deviation(self) -> Option<u64> {
        self.measured.map(|it| it.1)
    }
}

/// How fast one replica is: microseconds a token, decode by how full its batch is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Speed {
    prefill: Mean,
    /// By quarters of the slots in use.
    decode: [Mean; 4],
}

impl Speed {
    pub(crate) fn record_prefill(&mut self, tokens: u32, took: Micros) {
        if 0 < tokens {
            self.prefill.record(took.0 * 16 / u64::from(tokens));
        }
    }

    pub(crate) fn record_decode(&mut self, tokens: u32, took: Micros, busy: u32, slots: u32) {
        if 0 < tokens {
            self.decode[quarter(busy, slots)].record(took.0 * 16 / u64::from(tokens));
        }
    }

    pub(crate) fn is_measured(&self) -> bool {
        self.decode.iter().any(|it| it.get().is_some())
    }

    /// Microseconds that `tokens` of a prompt take.
    pub(crate) fn prefill(&self, tokens: u32) -> u64 {
        let each = self.prefill.get().unwrap_or(PRIOR_PREFILL_US * 16);
        u64::from(tokens) * each / 16
    }

    /// Microseconds that `tokens` of an answer take with `busy` slots in use. What was not measured
    /// is taken from the nearest fill that was, and without any from a guess that falls to 0.7 of
    /// its speed when full.
    pub(crate) fn decode(&self, tokens: u32, busy: u32, slots: u32) -> u64 {
        let own = quarter(busy, slots);
        let measured = (0..4)
            .filter_map(|it| Some((it, self.decode[it].get()?)))
            .min_by_key(|(it, _)| it.abs_diff(own));
        let each = measured.map_or_else(
            || {
                let others = u64::from(busy.clamp(1, slots.max(1)) - 1);
                let slowdown = others * 300 / u64::from(slots.max(2) - 1);
                PRIOR_DECODE_US * 16 * 1_000 / (1_000 - slowdown)
            },
            |it| it.1,
        );
        u64::from(tokens) * each / 16
    }
}

fn quarter(busy: u32, slots: u32) -> usize {
    let slots = slots.max(1);
    usize::try_from((busy.clamp(1, slots) - 1) * 4 / slots).unwrap_or(0)
}

/// What is known of the tasks of one model.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    /// How long a task holds a slot.
    occupancy: Mean,
    /// Cost of a task in thousandths of a token.
    cost: Mean,
    /// Of all replicas together.
    pub(crate) speed: Speed,
    /// Answer lengths by class, in tokens.
    lengths: [Histogram; 2],
    /// Answer lengths in 64ths of what the caller expected.
    against_expected: Histogram,
    /// Waits in 64ths of what was predicted, by how much was ahead.
    residuals: [Histogram; 4],
}

/// What stands between a task and its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backlog {
    /// Slots that must come free, the one for the task included.
    pub(crate) turnovers: u64,
    /// Slots of all Ready replicas of the model, at least 1.
    pub(crate) slots: u64,
}

/// A predicted start: the likely one, and the one that nine of ten keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) expected: Micros,
    pub(crate) p90: Micros,
}

/// A batch without a free slot, of any size.
const FULL: u32 = 8;
const UNIT: u64 = 64;
/// Observations from which on a histogram is believed.
const ENOUGH: u32 = 20;

impl Experience {
    pub(crate) fn record_finished(&mut self, task: &TaskSpec, output: u32, took: Micros) {
        self.occupancy.record(took.0);
        self.lengths[task.class.index()].record(u64::from(output));
        if let Some(expected) = task.expected_tokens {
            self.against_expected.record(u64::from(output) * UNIT / u64::from(expected.max(1)));
        }
    }

    pub(crate) fn record_cost(&mut self, milli_tokens: u64) {
        self.cost.record(milli_tokens);
    }

    pub(crate) fn record_wait(&mut self, predicted: Start, backlog: u64, actual: Micros) {
        if let Some(ratio) = actual.0.saturating_mul(UNIT).checked_div(predicted.expected.0) {
            self.residuals[depth(backlog)].record(ratio);
        }
    }

    /// Mean cost of a task in thousandths of a token; from the task's own size until one finished.
    pub(crate) fn cost(&self, task: &TaskSpec) -> u64 {
        let own = u64::from(task.prompt_tokens) + u64::from(task.max_tokens);
        self.cost.get().unwrap_or(own * 1_000).max(1)
    }

    /// `slots` slots free one every mean/slots. The 90th percentile comes from how far off earlier
    /// predictions were; before there are any, from the deviation of single tasks: that of a sum of n
    /// grows with √n, 1.28 is the normal distribution's quantile, and a mean deviation is about 0.8
    /// standard deviations, hence 1.6.
    pub(crate) fn start(&self, task: &TaskSpec, backlog: Backlog) -> Start {
        let mean = self.occupancy.get().unwrap_or_else(|| {
            self.speed.prefill(task.prompt_tokens) + self.speed.decode(task.max_tokens, 0, 1)
        });
        let slots = u128::from(backlog.slots.max(1));
        let clamp = |it: u128| Micros(u64::try_from(it).unwrap_or(u64::MAX));
        let expected = u128::from(backlog.turnovers) * u128::from(mean) / slots;
        let residuals = &self.residuals[depth(backlog.turnovers)];
        let p90 = if residuals.total() < ENOUGH {
            let deviation = self.occupancy.deviation().unwrap_or(mean / 2);
            let spread = u128::from(backlog.turnovers.isqrt()) * u128::from(deviation) * 16 / 10;
            expected + spread / slots
        } else {
            expected * u128::from(residuals.quantile(900).unwrap_or(UNIT)) / u128::from(UNIT)
        };
        Start { expected: clamp(expected), p90: clamp(p90) }
    }

    /// Tokens that the answer will probably have.
    pub(crate) fn length(&self, task: &TaskSpec) -> u32 {
        let learned = || self.lengths[task.class.index()].quantile(500);
        let guess = task
            .expected_tokens
            .or_else(|| learned().map(|it| u32::try_from(it).unwrap_or(u32::MAX)))
            .unwrap_or(task.max_tokens);
        guess.min(task.max_tokens)
    }

    /// Microseconds from dispatch to the last token of an answer of `length` tokens, in a full batch.
    pub(crate) fn service(&self, task: &TaskSpec, length: u32) -> Micros {
        let decode = self.speed.decode(length, FULL, FULL);
        Micros(self.speed.prefill(task.prompt_tokens) + decode)
    }

    /// How many of a thousand such tasks are done in `left` from their dispatch.
    pub(crate) fn on_time_permille(&self, task: &TaskSpec, left: Micros) -> u64 {
        let after_prefill = left.0.saturating_sub(self.speed.prefill(task.prompt_tokens));
        let each = self.speed.decode(1_024, FULL, FULL).max(1);
        let affordable = after_prefill.saturating_mul(1_024) / each;
        if u64::from(task.max_tokens) <= affordable {
            return 1_000;
        }
        if affordable == 0 {
            return 0;
        }
        match task.expected_tokens {
            Some(expected) => {
                let ratio = affordable * UNIT / u64::from(expected.max(1));
                let known = &self.against_expected;
                let learned =
                    if known.total() < ENOUGH { None } else { known.permille_at_most(ratio) };
                learned.unwrap_or(if UNIT <= ratio { 1_000 } else { 0 })
            }
            None => self.lengths[task.class.index()].permille_at_most(affordable).unwrap_or(1_000),
        }
    }

    /// How many of a thousand tasks that start as predicted are done in `left` from now: over ten
    /// equally likely starts.
    pub(crate) fn chance_permille(
        &self,
        task: &TaskSpec,
        start: Start,
        turnovers: u64,
        left: Micros,
    ) -> u64 {
        let residuals = &self.residuals[depth(turnovers)];
        let waits = (0..10).map(|it| {
            let ratio = residuals.quantile(it * 100 + 50);
            let ratio = if residuals.total() < ENOUGH { UNIT } else { ratio.unwrap_or(UNIT) };
            let wait = u128::from(start.expected.0) * u128::from(ratio) / u128::from(UNIT);
            Micros(u64::try_from(wait).unwrap_or(u64::MAX))
        });
        let sum: u64 = waits
            .map(|wait| match left.0.checked_sub(wait.0) {
                Some(rest) => self.on_time_permille(task, Micros(rest)),
                None => 0,
            })
            .sum();
        sum / 10
    }
}

fn depth(turnovers: u64) -> usize {
    match turnovers {
        0..=1 => 0,
        2..=3 => 1,
        4..=9 => 2,
        10.. => 3,
    }
}
