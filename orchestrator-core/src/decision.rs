//! Why a task went where it went.

use crate::types::{Micros, ReplicaId, TaskId, Timestamp};

/// Candidates that a record names.
pub(crate) const CANDIDATES_MAX: usize = 8;

/// One choice of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRecord {
    pub task: TaskId,
    pub at: Timestamp,
    pub replica: ReplicaId,
    /// Its session's earlier turns are in the replica's cache.
    pub warm: bool,
    /// It is in a pool that the task prefers.
    pub preferred: bool,
    pub choice: Choice,
    /// The best ones with their predicted time to the last token, the chosen one first; at most 8.
    pub candidates: Vec<(ReplicaId, Micros)>,
    /// Replicas of the model that could not take it, by reason; no zeros.
    pub dropped: Vec<(DropReason, u32)>,
}

/// What made the chosen one better than the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// There was no other.
    Only,
    /// A pool that the task prefers.
    Preferred,
    /// Its session's earlier turns are in the replica's cache.
    Warm,
    /// It is done first.
    Fastest,
    /// As fast as another, with the smaller share of its slots in use.
    LeastLoaded,
    /// As loaded as another, with its devices closer together.
    Topology,
    /// Equal in everything; the smaller id.
    Order,
}

/// Why a replica was no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    ModelNotResident,
    NotReady,
    Draining,
    NoSlot,
    InsufficientContext,
    InsufficientKv,
    EngineMismatch,
    /// The task is pinned to other pools.
    PoolMismatch,
    Avoided,
    /// Set aside: for interactive work, for a swap, or for a task that must run alone.
    Reserved,
    /// It refused a request a moment ago.
    Suspect,
}
