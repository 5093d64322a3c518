//! How fast a replica has answered lately, and the goals for that.

use std::collections::VecDeque;
use std::sync::Mutex;

use api_types::{Latency, Priority, Slo};

/// Values that are kept of each latency; about as many as make a 95th percentile steady.
const RECENT_MAX: usize = 256;
const PRIORITIES: [Priority; 2] = [Priority::Interactive, Priority::Batch];
const FIRST_TOKEN_GOAL_MS: u64 = 900;
const TOKENS_64_GOAL_MS: u64 = 2_500;

/// Of one replica, while it serves one model file with one version of its engine.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    interactive: Mutex<Recent>,
    batch: Mutex<Recent>,
}

/// In ms, newest last.
#[derive(Debug, Default)]
struct Recent {
    first_token: VecDeque<u64>,
    tokens_64: VecDeque<u64>,
}

impl Latencies {
    fn class(&self, priority: Priority) -> &Mutex<Recent> {
        match priority {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        }
    }

    /// `decode_ms`: from the first to the last of `tokens`.
    pub(super) fn observe(
        &self,
        priority: Priority,
        first_token_ms: u64,
        decode_ms: u64,
        tokens: u64,
    ) {
        let mut recent = self.class(priority).lock().expect("no holder panics");
        keep(&mut recent.first_token, first_token_ms);
        // Of a shorter answer nobody knows when it would have got there.
        if 64 <= tokens {
            keep(&mut recent.tokens_64, first_token_ms + decode_ms * 63 / (tokens - 1));
        }
    }
}

fn keep(values: &mut VecDeque<u64>, value: u64) {
    if RECENT_MAX <= values.len() {
        values.pop_front();
    }
    values.push_back(value);
}

/// What replicas together have achieved, by class; nothing of a class that had no task lately.
pub(crate) fn slo<'a>(replicas: impl Iterator<Item = &'a Latencies> + Clone) -> Vec<Slo> {
    let of = |priority: Priority| {
        let (mut first_token, mut tokens_64) = (Vec::new(), Vec::new());
        for replica in replicas.clone() {
            let recent = replica.class(priority).lock().expect("no holder panics");
            first_token.extend(&recent.first_token);
            tokens_64.extend(&recent.tokens_64);
        }
        let has_goal = priority == Priority::Interactive;
        (!first_token.is_empty()).then(|| Slo {
            priority,
            first_token: latency(first_token, has_goal.then_some(FIRST_TOKEN_GOAL_MS)),
            tokens_64: latency(tokens_64, has_goal.then_some(TOKENS_64_GOAL_MS)),
        })
    };
    PRIORITIES.into_iter().filter_map(of).collect()
}

/// By nearest rank, so that it is a latency that somebody had.
fn latency(mut values: Vec<u64>, goal_ms: Option<u64>) -> Latency {
    values.sort_unstable();
    let rank = (values.len() * 95).div_ceil(100);
    let p95_ms = rank.checked_sub(1).map(|it| values[it]);
    Latency { tasks: u64::try_from(values.len()).unwrap_or(u64::MAX), p95_ms, goal_ms }
}

#[cfg(test)]
mod tests;
