//! What an operator decides: shares, limits and what happens at them.

use crate::types::{Class, Micros};

#[derive(Debug, Clone, Copy)]
pub struct CoreConfig {
    /// Queued tasks per model; all models together may queue four times as many.
    pub queue_capacity: u32,
    pub full_policy: FullPolicy,
    /// How long a task may wait while no replica of its model is ready.
    pub unready_wait: Micros,
    pub interactive: ClassPolicy,
    pub batch: ClassPolicy,
    /// Interactive work always goes first; batch is served when it waits beyond its `max_wait`.
    pub strict_classes: bool,
    pub prices: Prices,
    pub swap: SwapPolicy,
    /// Running batch tasks that may be stopped for interactive ones in a minute; 0: none.
    pub preemptions_per_min: u32,
    /// Slots of each replica that batch work leaves free for interactive work.
    pub headroom_slots: u32,
    /// A deadline is refused when the chance to meet it is below this, in percent.
    pub on_time_percent_min: u32,
}

/// What a token costs its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// Of a prompt token that the engine worked on, at least 1.
    pub input: u32,
    /// Of an output token, at least `input`.
    pub output: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwapPolicy {
    /// A loaded model stays at least this long.
    pub min_resident: Micros,
    /// After this wait of its oldest task, the models in a waiting model's way stop taking work.
    pub max_wait: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullPolicy {
    /// The newcomer is refused.
    Reject,
    /// The oldest queued task of the lowest class goes.
    DropLru,
    /// The newest queued batch task goes, if the newcomer is interactive.
    ShedLowPriority,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassPolicy {
    /// Share of tokens while both classes wait, at least 1.
    pub weight: u32,
    /// A class that waits and was not served for this long is served next.
    pub max_wait: Micros,
    /// What stands for the deadline of a task without one, in the order of tasks only.
    pub patience: Micros,
}

impl CoreConfig {
    pub(crate) fn class(&self, class: Class) -> ClassPolicy {
        match class {
            Class::Interactive => self.interactive,
            Class::Batch => self.batch,
        }
    }
}

/// A tenant's share and limits. A limit of `None` does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantPolicy {
    /// Share among tenants, in thousandths: 1000 is 1. At least 1.
    pub weight_milli: u32,
    /// Tasks that may wait.
    pub queued: Option<u32>,
    /// Tasks that may run at once.
    pub concurrent: Option<u32>,
    pub requests: Option<Rate>,
    /// Prompt and output tokens in any 60 seconds.
    pub tokens_per_min: Option<u64>,
    pub on_exceed: OnExceed,
}

impl Default for TenantPolicy {
    fn default() -> Self {
        Self {
            weight_milli: 1_000,
            queued: None,
            concurrent: None,
            requests: None,
            tokens_per_min: None,
            on_exceed: OnExceed::Reject,
        }
    }
}

/// Requests a second on average, and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub per_s: u32,
    /// At least 1.
    pub burst: u32,
}

/// What happens at the limits of concurrent tasks and of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExceed {
    /// The newcomer is refused.
    Reject,
    /// It waits in the queue.
    Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPolicy {
    /// Cost of a token relative to other models, in thousandths: 1000 is 1. At least 1.
    pub cost_milli: u32,
}

impl Default for ModelPolicy {
    fn default() -> Self {
        Self { cost_milli: 1_000 }
    }
}
