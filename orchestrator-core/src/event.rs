//! What comes in and what goes out.

use crate::types::{Attempt, EngineId, Micros, ModelId, ReplicaId, TaskId, TaskSpec};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Submitted(TaskSpec),
    CancelRequested {
        task: TaskId,
    },
    /// The last report of an attempt. One whose attempt is not the task's current one changes
    /// nothing but its slot.
    Finished {
        run: Run,
        report: Report,
        slot_free: bool,
    },
    /// The engine no longer runs this attempt, or its release time-out has passed.
    SlotConfirmedFree(Run),
    ReplicaChanged {
        replica: ReplicaId,
        status: ReplicaStatus,
    },
    ReplicaRemoved {
        replica: ReplicaId,
    },
    /// Time has passed; due when [`crate::Core::next_wakeup`] says so.
    Tick,
}

/// One attempt of a task on a replica: what every report is fenced by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub task: TaskId,
    pub attempt: Attempt,
    pub replica: ReplicaId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Completed,
    Failed,
    /// The engine never took the request, so it may be sent again.
    NotTaken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaStatus {
    pub model: ModelId,
    pub engine: EngineId,
    /// Raised by each restart: slots of an earlier incarnation are gone.
    pub incarnation: u64,
    pub availability: Availability,
    pub slots: u32,
    pub context_tokens: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    Ready,
    /// Starting, loading or restarting: it is worth waiting for.
    Coming,
    /// Finishes what it runs and takes nothing new.
    Draining,
    /// Nothing says that it will come back.
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Admitted {
        task: TaskId,
        /// Rank in the lane, 0 = next.
        position: u64,
        /// `None`: no replica of the model is ready, so there is no rate to predict from.
        predicted_start: Option<Micros>,
        predicted_start_p90: Option<Micros>,
    },
    Rejected {
        task: TaskId,
        reason: RejectReason,
    },
    Dispatch(Run),
    /// Stop the attempt, then report [`Event::SlotConfirmedFree`].
    CancelOnReplica(Run),
    /// The task is over. Comes exactly once for each admitted task.
    Ended {
        task: TaskId,
        ending: Ending,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// The queue of its model, or the whole queue, is full.
    QueueFull { retry_after: Micros },
    /// No replica of the model is ready or coming.
    Unavailable,
    /// No replica of the model runs the engine that was asked for.
    EngineMismatch,
    /// Prompt and answer exceed what every replica of the model can hold.
    ContextOverflow { context_tokens: u32 },
    /// A task with this id was submitted before.
    DuplicateTask,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Completed,
    Failed,
    Cancelled,
    /// Pushed out of a full queue as the oldest (drop-lru).
    Dropped,
    /// Pushed out of a full queue by interactive work (shed-low-priority).
    Shed,
    /// Waited too long while no replica was ready. `coming`: one may still become so.
    NoReplica {
        coming: bool,
    },
    /// No engine took it within the attempts it has.
    AttemptsExhausted,
}
