//! Whether a tenant had more than its limits allow.
//!
//! A client does not know when exactly a task began and ended. Only what is certain counts: the
//! latest time at which it may have begun, the earliest at which it may have ended. A breach that is
//! found is one; a short one may stay hidden.

/// A window of the limit of tokens, in ms.
const MINUTE_MS: u64 = 60_000;

/// When something certainly lasted, in ms of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// Tokens that were taken out of a limit at a time between two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) earliest: u64,
    pub(crate) latest: u64,
    pub(crate) tokens: u64,
}

/// How often something began while `limit` others lasted.
pub(crate) fn over_at_once(spans: &[Span], limit: usize) -> u64 {
    let real = spans.iter().filter(|it| it.from < it.to);
    let lasting = |at: u64| spans.iter().filter(|it| it.from <= at && at < it.to).count();
    real.filter(|it| limit < lasting(it.from)).count() as u64
}

/// How many minutes, each from the begin of something, have more tokens than `limit`.
pub(crate) fn over_in_a_minute(taken: &[Taken], limit: u64) -> u64 {
    let inside = |from: u64| {
        let within = move |it: &&Taken| from <= it.earliest && it.latest < from + MINUTE_MS;
        taken.iter().filter(within).map(|it| it.tokens).sum::<u64>()
    };
    taken.iter().filter(|it| limit < inside(it.earliest)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_at_once_than_allowed_is_seen_and_as_many_is_not() {
        let span = |from, to| Span { from, to };
        let spans = [span(0, 10), span(5, 15), span(10, 20), span(9, 9)];
        assert_eq!(over_at_once(&spans, 2), 0);
        assert_eq!(over_at_once(&spans, 1), 2);
    }

    #[test]
    fn a_minute_with_too_many_tokens_is_seen_wherever_it_lies() {
        let taken = |earliest, latest, tokens| Taken { earliest, latest, tokens };
        let spread =
            [taken(1_000, 1_000, 60), taken(30_000, 30_500, 40), taken(61_000, 61_500, 60)];
        assert_eq!(over_in_a_minute(&spread, 100), 0);
        assert_eq!(over_in_a_minute(&spread, 99), 2);
        // It may have been taken a minute later.
        let late = [taken(1_000, 1_000, 60), taken(30_000, 61_000, 60)];
        assert_eq!(over_in_a_minute(&late, 100), 0);
    }
}
