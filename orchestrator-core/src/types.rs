//! Ids, time and the description of a task: small integers, no strings.

/// A point in time, in microseconds since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

/// A length of time in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Micros(pub u64);

impl Timestamp {
    /// Saturates at the end of time instead of wrapping.
    #[must_use]
    pub fn after(self, span: Micros) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Zero when `earlier` is not earlier: clocks that step back do not make spans negative.
    #[must_use]
    pub fn since(self, earlier: Self) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}

impl Micros {
    #[must_use]
    pub fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Chosen by the caller, ascending in order of submission; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TaskId(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u32);

/// Stable over restarts of the replica's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u32);

/// Memory that models are loaded into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u32);

/// Turns of one conversation; they share a prompt prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// An engine kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineId(pub u8);

/// One run of a task on a replica, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

/// Interactive sorts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Interactive,
    Batch,
}

impl Class {
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    /// Index in a per-class array.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Interactive => 0,
            Self::Batch => 1,
        }
    }
}

/// What the core needs to know of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    pub task: TaskId,
    pub model: ModelId,
    pub tenant: TenantId,
    pub class: Class,
    /// Exact or estimated.
    pub prompt_tokens: u32,
    pub max_tokens: u32,
    /// What the caller thinks it will take; never above `max_tokens` in effect.
    pub expected_tokens: Option<u32>,
    /// From admission to the last token.
    pub deadline: Option<Micros>,
    /// Longest time in the queue before the first dispatch.
    pub ttl: Option<Micros>,
    pub session: Option<SessionId>,
    /// Stopped in its midst, it can go on from the tokens it has.
    pub resumable: bool,
    /// Only replicas of this engine may run it.
    pub engine: Option<EngineId>,
    /// `None`: any pool.
    pub pools: Option<Box<PoolChoice>>,
}

/// Which pools a task wants, must have, or must not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolChoice {
    /// Nowhere else than here, unless empty.
    pub pin: Vec<PoolId>,
    /// Here if a slot is free, else anywhere.
    pub prefer: Vec<PoolId>,
    pub avoid: Vec<PoolId>,
}
