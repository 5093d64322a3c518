//! Replicas as the simulator runs them, and what it counts.

use std::collections::BTreeMap;

use orchestrator_core::{Availability, ModelId, TenantId};

use crate::engine::Engine;
use crate::random::Random;

/// One replica.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) model: ModelId,
    pub(crate) availability: Availability,
    pub(crate) load: u64,
    pub(crate) kv_tokens: u32,
    pub(crate) interruptible: bool,
    /// Slots of stopped attempts that are not confirmed free.
    pub(crate) leaving: u64,
    pub(crate) crashes: Option<Crashes>,
}

/// A replica that dies now and then.
pub(crate) struct Crashes {
    pub(crate) random: Random,
    pub(crate) mean_s: f64,
    pub(crate) back_after: u64,
}

/// What was seen on the way.
#[derive(Default)]
pub(crate) struct Stats {
    /// Slot time in use, in microseconds, and when it was last added up.
    pub(crate) busy: u64,
    pub(crate) busy_at: u64,
    /// When slots came free.
    pub(crate) releases: Vec<u64>,
    /// Tokens charged, by tenant and second.
    pub(crate) service: BTreeMap<TenantId, Vec<u64>>,
    pub(crate) loads: Vec<(u64, ModelId)>,
    pub(crate) preemptions: u64,
    pub(crate) recomputed: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) events: u64,
}
