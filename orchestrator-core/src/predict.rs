//! When a waiting task will start, from what tasks of its model took so far.

use crate::types::{Micros, TaskSpec};

/// Before anything was measured: a small GPU's pace. Replaced by the first finished task.
const PRIOR_PREFILL_TOKENS_PER_S: u64 = 1_000;
const PRIOR_DECODE_TOKENS_PER_S: u64 = 20;

/// Exponentially weighted mean and mean deviation of slot occupancy, as in TCP's round-trip
/// estimator (RFC 6298): the mean moves by 1/8, the deviation by 1/4 of each new error.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Occupancy {
    measured: Option<(u64, u64)>,
}

impl Occupancy {
    pub(crate) fn record(&mut self, took: Micros) {
        self.measured = Some(match self.measured {
            None => (took.0, took.0 / 2),
            Some((mean, deviation)) => {
                let error = took.0.abs_diff(mean);
                let mean = mean - mean / 8 + took.0 / 8;
                (mean, deviation - deviation / 4 + error / 4)
            }
        });
    }

    /// Mean and deviation; a guess from the task's own size until something was measured.
    fn of(&self, task: &TaskSpec) -> (u64, u64) {
        self.measured.unwrap_or_else(|| {
            let prefill = u64::from(task.prompt_tokens) * 1_000_000 / PRIOR_PREFILL_TOKENS_PER_S;
            let decode = u64::from(task.max_tokens) * 1_000_000 / PRIOR_DECODE_TOKENS_PER_S;
            (prefill + decode, (prefill + decode) / 2)
        })
    }
}

/// What stands between a task and its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backlog {
    /// Tasks of its lane before it.
    pub(crate) ahead: u64,
    /// Slots of all Ready replicas of the model, at least 1.
    pub(crate) slots: u64,
    /// Its class's share of dispatches while the classes of `weight_sum` wait.
    pub(crate) weight: u64,
    pub(crate) weight_sum: u64,
}

/// Predicted start and its 90th percentile, as spans from now: lane work ÷ (rate × share).
///
/// `slots` slots free one every mean/slots; the lane gets weight/weight_sum of them. The deviation of
/// a sum of n turnovers grows with √n; 1.28 is the normal distribution's 90 % quantile, and a mean
/// deviation is about 0.8 standard deviations, hence 1.6.
pub(crate) fn start(occupancy: &Occupancy, task: &TaskSpec, backlog: Backlog) -> (Micros, Micros) {
    let (mean, deviation) = occupancy.of(task);
    let turnovers = u128::from(backlog.ahead + 1) * u128::from(backlog.weight_sum)
        / u128::from(backlog.weight.max(1));
    let slots = u128::from(backlog.slots.max(1));
    let expected = turnovers * u128::from(mean) / slots;
    let spread = turnovers.isqrt() * u128::from(deviation) * 16 / 10 / slots;
    let clamp = |it: u128| Micros(u64::try_from(it).unwrap_or(u64::MAX));
    (clamp(expected), clamp(expected + spread))
}
