//! Limits of one tenant: requests, tokens, tasks that wait and tasks that run.

use std::collections::VecDeque;

use crate::core::SavedQuota;
use crate::policy::{OnExceed, Rate, TenantPolicy};
use crate::types::{Micros, Timestamp};

const SECOND: u64 = 1_000_000;
/// Tokens count against the limit for this many seconds after the one they were reserved in, so
/// that no 60 seconds hold more than the limit.
const WINDOW_S: u64 = 60;

#[derive(Debug, Default)]
pub(crate) struct Tenant {
    pub(crate) policy: TenantPolicy,
    pub(crate) queued: u32,
    pub(crate) running: u32,
    /// Virtual time of the request bucket: when it is full again.
    requests_until: Timestamp,
    tokens: Window,
    /// Until when the next task waits for tokens.
    pub(crate) held_until: Option<Timestamp>,
}

/// Tokens reserved, by second.
#[derive(Debug, Default)]
struct Window {
    seconds: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Tenant {
    pub(crate) fn saved(&self) -> SavedQuota {
        SavedQuota {
            requests_until: self.requests_until,
            tokens: self.tokens.seconds.iter().copied().collect(),
        }
    }

    pub(crate) fn restore(&mut self, saved: SavedQuota) {
        self.requests_until = saved.requests_until;
        self.tokens.sum = saved.tokens.iter().map(|it| it.1).sum();
        self.tokens.seconds = saved.tokens.into();
    }

    pub(crate) fn holds(&self) -> bool {
        self.policy.on_exceed == OnExceed::Hold
    }

    /// No further task of the tenant may run now.
    pub(crate) fn is_held(&self) -> bool {
        self.held_until.is_some() || self.at_concurrency()
    }

    fn at_concurrency(&self) -> bool {
        self.holds() && self.policy.concurrent.is_some_and(|it| it <= self.running)
    }

    /// Takes a request out of the bucket, or says when there is one again.
    ///
    /// The generic cell rate algorithm (ITU-T I.371): one time stands for the level of a bucket.
    pub(crate) fn take_request(&mut self, now: Timestamp) -> Result<(), Micros> {
        let Some(Rate { per_s, burst }) = self.policy.requests else { return Ok(()) };
        let step = (SECOND / u64::from(per_s.max(1))).max(1);
        let room = step.saturating_mul(u64::from(burst.max(1)) - 1);
        let wait = self.requests_until.since(now).0.saturating_sub(room);
        if 0 < wait {
            return Err(Micros(wait));
        }
        self.requests_until = self.requests_until.max(now).after(Micros(step));
        Ok(())
    }

    /// Reserves tokens, or says when they may be reserved; `Err(None)`: never.
    pub(crate) fn reserve(&mut self, now: Timestamp, tokens: u64) -> Result<(), Option<Micros>> {
        let Some(limit) = self.policy.tokens_per_min else { return Ok(()) };
        if limit < tokens {
            return Err(None);
        }
        self.tokens.expire(now);
        if self.tokens.sum + tokens <= limit {
            self.tokens.add(now, tokens);
            return Ok(());
        }
        Err(Some(self.tokens.room_at(limit - tokens).since(now)))
    }

    /// Gives back what was reserved at `since` and not used.
    pub(crate) fn refund(&mut self, since: Timestamp, tokens: u64) {
        if let Ok(index) = self.tokens.seconds.binary_search_by_key(&(since.0 / SECOND), |it| it.0)
        {
            let back = tokens.min(self.tokens.seconds[index].1);
            self.tokens.seconds[index].1 -= back;
            self.tokens.sum -= back;
        }
    }

    /// Tokens that may be reserved now; `None`: no limit.
    pub(crate) fn tokens_left(&self, now: Timestamp) -> Option<u64> {
        let limit = self.policy.tokens_per_min?;
        let live = self.tokens.seconds.iter().filter(|it| !Window::is_over(it.0, now));
        Some(limit.saturating_sub(live.map(|it| it.1).sum()))
    }
}

impl Window {
    fn is_over(second: u64, now: Timestamp) -> bool {
        (second + WINDOW_S + 1) * SECOND <= now.0
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some((second, tokens)) = self.seconds.front().copied()
            && Self::is_over(second, now)
        {
            self.seconds.pop_front();
            self.sum -= tokens;
        }
    }

    fn add(&mut self, now: Timestamp, tokens: u64) {
        let second = now.0 / SECOND;
        match self.seconds.back_mut() {
            Some(last) if last.0 == second => last.1 += tokens,
            Some(_) | None => self.seconds.push_back((second, tokens)),
        }
        self.sum += tokens;
    }

    /// When at most `rest` tokens will be left in the window.
    fn room_at(&self, rest: u64) -> Timestamp {
        let mut sum = self.sum;
        let freed = self.seconds.iter().find(|it| {
            sum -= it.1;
            sum <= rest
        });
        Timestamp(freed.map_or(0, |it| (it.0 + WINDOW_S + 1) * SECOND))
    }
}
