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

/// Chosen by the caller, ascending in order of submission; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelId(pub u32);

/// Stable over restarts of the replica's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u32);

/// An engine kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineId(pub u8);

/// One run of a task on a replica, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

/// Interactive sorts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Interactive,
    Batch,
}

impl Class {
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];
}

/// What the core needs to know of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskSpec {
    pub task: TaskId,
    pub model: ModelId,
    pub class: Class,
    /// Exact or estimated.
    pub prompt_tokens: u32,
    pub max_tokens: u32,
    /// Only replicas of this engine may run it.
    pub engine: Option<EngineId>,
}
