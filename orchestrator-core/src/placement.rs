//! Which replica runs a task: a pure function over the candidates of one model.
//!
//! Filter, then the earliest predicted end, then a total order, so that equal inputs give equal
//! choices.

use std::collections::BTreeMap;

use crate::decision::{CANDIDATES_MAX, Choice, DropReason};
use crate::event::ReplicaStatus;
use crate::queue::Route;
use crate::types::{Micros, PoolId, ReplicaId, TaskSpec};

/// A replica with a free slot as placement sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) replica: ReplicaId,
    pub(crate) status: ReplicaStatus,
    /// Slots that run an attempt or are not yet confirmed free.
    pub(crate) busy: u32,
    /// Tokens that those may fill.
    pub(crate) kv_reserved: u64,
    /// It has the session's earlier turns in its cache.
    pub(crate) warm: bool,
    /// Predicted time from dispatch to the last token.
    pub(crate) takes: Micros,
}

/// The chosen replica and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) replica: ReplicaId,
    pub(crate) warm: bool,
    pub(crate) preferred: bool,
    pub(crate) choice: Choice,
    pub(crate) candidates: Vec<(ReplicaId, Micros)>,
}

/// Picks the candidate that is done first; `dropped` counts those that cannot take the task.
pub(crate) fn place(
    task: &TaskSpec,
    route: &Route,
    candidates: impl Iterator<Item = Candidate>,
    dropped: &mut BTreeMap<DropReason, u32>,
) -> Option<Plan> {
    let preferred: &[PoolId] = task.pools.as_ref().map_or(&[], |it| &it.prefer);
    let mut ranked: Vec<(Rank, Candidate)> = Vec::new();
    for candidate in candidates {
        match admits(route, &candidate.status).or_else(|| lacks_kv(task, &candidate)) {
            Some(reason) => *dropped.entry(reason).or_default() += 1,
            None => ranked.push((Rank::of(preferred, &candidate), candidate)),
        }
    }
    ranked.sort_unstable_by_key(|it| it.0);
    let (best, chosen) = *ranked.first()?;
    let choice = ranked.get(1).map_or(Choice::Only, |next| best.over(next.0, &chosen));
    Some(Plan {
        replica: chosen.replica,
        warm: chosen.warm,
        preferred: preferred.contains(&chosen.status.pool),
        choice,
        candidates: ranked
            .iter()
            .take(CANDIDATES_MAX)
            .map(|(_, it)| (it.replica, it.takes))
            .collect(),
    })
}

/// Smaller is better; compared from top to bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    not_preferred: bool,
    /// By quarters of an octave, so that noise in what was measured does not outweigh load.
    end: u64,
    /// Slots in use, in 65,536ths.
    load: u64,
    /// Negated by subtraction: more free slots first.
    not_free: u32,
    /// What its devices say to each other takes the longer the farther they are apart.
    spread: u8,
    replica: ReplicaId,
}

impl Rank {
    fn of(preferred: &[PoolId], candidate: &Candidate) -> Self {
        let status = &candidate.status;
        Self {
            not_preferred: !preferred.is_empty() && !preferred.contains(&status.pool),
            end: coarse(candidate.takes.0),
            load: u64::from(candidate.busy) * 65_536 / u64::from(status.slots.max(1)),
            not_free: u32::MAX - status.slots.saturating_sub(candidate.busy),
            spread: status.spread,
            replica: candidate.replica,
        }
    }

    /// What put `self` before `next`.
    fn over(self, next: Self, chosen: &Candidate) -> Choice {
        if self.not_preferred != next.not_preferred {
            Choice::Preferred
        } else if self.end != next.end {
            if chosen.warm { Choice::Warm } else { Choice::Fastest }
        } else if (self.load, self.not_free) != (next.load, next.not_free) {
            Choice::LeastLoaded
        } else if self.spread != next.spread {
            Choice::Topology
        } else {
            Choice::Order
        }
    }
}

/// The quarter octave that a time lies in.
fn coarse(micros: u64) -> u64 {
    let micros = micros.max(4);
    let octave = micros.ilog2();
    u64::from(octave) * 4 + ((micros >> (octave - 2)) & 3)
}

/// Why a replica can never take tasks of this route, if so.
pub(crate) fn admits(route: &Route, status: &ReplicaStatus) -> Option<DropReason> {
    if route.engine.is_some_and(|it| it != status.engine) {
        Some(DropReason::EngineMismatch)
    } else if !route.pin.is_empty() && !route.pin.contains(&status.pool) {
        Some(DropReason::PoolMismatch)
    } else if route.avoid.contains(&status.pool) {
        Some(DropReason::Avoided)
    } else if room(status).is_some_and(|it| it < route.tokens) {
        Some(DropReason::InsufficientContext)
    } else {
        None
    }
}

fn lacks_kv(task: &TaskSpec, candidate: &Candidate) -> Option<DropReason> {
    let capacity = u64::from(candidate.status.kv_tokens);
    let full = capacity != 0 && capacity < candidate.kv_reserved + needed(task);
    full.then_some(DropReason::InsufficientKv)
}

/// Tokens that the longest task may fill; `None`: not known yet.
pub(crate) fn room(status: &ReplicaStatus) -> Option<u64> {
    let known = [status.context_tokens, status.kv_tokens];
    known.into_iter().filter(|it| *it != 0).min().map(u64::from)
}

/// Tokens that a task may fill.
pub(crate) fn needed(task: &TaskSpec) -> u64 {
    u64::from(task.prompt_tokens) + u64::from(task.max_tokens)
}
