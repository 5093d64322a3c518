//! Percentiles of what was measured lately.

use api_types::{Latency, Priority};

use super::{Latencies, RECENT_MAX, slo};

fn measured(values: impl Iterator<Item = (u64, u64, u64)>) -> Latencies {
    let latencies = Latencies::default();
    for (first_token_ms, decode_ms, tokens) in values {
        latencies.observe(Priority::Interactive, first_token_ms, decode_ms, tokens);
    }
    latencies
}

// OC-CTRL-2004
#[test]
fn one_in_twenty_may_be_slower_than_the_95th_percentile() {
    for (count, expected) in [(1, 1), (2, 2), (19, 19), (20, 19), (40, 38), (100, 95)] {
        let one = measured((1..=count).rev().map(|it| (it, 0, 1)));
        let slo = slo([&one].into_iter());
        let first_token = Latency { tasks: count, p95_ms: Some(expected), goal_ms: Some(900) };
        assert_eq!(slo[0].first_token, first_token);
        assert_eq!(slo[0].tokens_64, Latency { tasks: 0, p95_ms: None, goal_ms: Some(2_500) });
    }
}

// OC-CTRL-2004
#[test]
fn only_answers_that_reach_64_tokens_tell_how_long_that_takes() {
    let one = measured([(100, 9_999, 63), (100, 630, 64), (50, 2_000, 127)].into_iter());
    let slo = slo([&one].into_iter());
    assert_eq!(slo[0].tokens_64, Latency { tasks: 2, p95_ms: Some(1_050), goal_ms: Some(2_500) });
}

// OC-CTRL-2004
#[test]
fn replicas_count_together_and_what_is_long_ago_does_not() {
    let old = (0..RECENT_MAX).map(|_| (5_000, 0, 1));
    let new = (0..RECENT_MAX).map(|_| (10, 0, 1));
    let (one, two) = (measured(old.chain(new)), measured([(20, 0, 1)].into_iter()));
    two.observe(Priority::Batch, 7, 0, 1);
    let slo = slo([&one, &two].into_iter());
    assert_eq!((slo[0].first_token.tasks, slo[0].first_token.p95_ms), (257, Some(10)));
    let batch = Latency { tasks: 1, p95_ms: Some(7), goal_ms: None };
    assert_eq!((slo[1].priority, slo[1].first_token), (Priority::Batch, batch));
    assert_eq!(slo.len(), 2);
}
