//! What comes in and what goes out.

use crate::decision::DecisionRecord;
use crate::policy::{ModelPolicy, TenantPolicy};
use crate::types::{
    Attempt, DeviceId, EngineId, Micros, ModelId, PoolId, ReplicaId, SessionId, TaskId, TaskSpec,
    TenantId,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Submitted(TaskSpec),
    CancelRequested {
        task: TaskId,
    },
    /// What an attempt has used so far. Batched by the shell; at most every 200 ms for a task.
    Progress {
        run: Run,
        usage: Usage,
    },
    /// The last report of an attempt. One whose attempt is not the task's current one changes
    /// nothing but its slot.
    Finished {
        run: Run,
        report: Report,
        usage: Usage,
        slot_free: bool,
    },
    /// The engine no longer runs this attempt, or its release time-out has passed.
    SlotConfirmedFree(Run),
    ReplicaChanged {
        replica: ReplicaId,
        status: ReplicaStatus,
    },
    /// The engine process died with everything it ran. Its attempts are resumed elsewhere; reports
    /// that still come from them change nothing.
    ReplicaFailed {
        replica: ReplicaId,
        incarnation: u64,
    },
    ReplicaRemoved {
        replica: ReplicaId,
    },
    /// What a replica needs to be resident. Without it a replica needs nothing and is never
    /// loaded or unloaded by the core.
    FootprintChanged {
        replica: ReplicaId,
        footprint: Footprint,
    },
    /// [`Effect::Load`] or [`Effect::Unload`] was not carried out, and never will be.
    OrderFailed {
        replica: ReplicaId,
    },
    /// What still runs in the pool is to go on elsewhere, if it can.
    HandBack {
        pool: PoolId,
    },
    /// Before a restart the session's last turn ran there. Says nothing against what is known since.
    SessionHome {
        session: SessionId,
        replica: ReplicaId,
        incarnation: u64,
    },
    /// Its next turn begins another session of that name: nothing is known of where it ran, and its open
    /// turns leave nothing behind.
    SessionEnded {
        session: SessionId,
    },
    /// Memory of a device that models may fill, in bytes.
    DeviceChanged {
        device: DeviceId,
        memory_bytes: u64,
    },
    TenantChanged {
        tenant: TenantId,
        policy: TenantPolicy,
    },
    ModelChanged {
        model: ModelId,
        policy: ModelPolicy,
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

/// Running totals of one attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens that the engine worked on (not from its cache), once it has told.
    pub prompt_tokens: Option<u32>,
    pub output_tokens: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Completed,
    Failed,
    /// The engine never took the request, so it may be sent again.
    NotTaken,
    /// Stopped for [`Effect::Preempt`]; the tokens of `usage` are kept.
    Preempted,
    /// The engine lost it while it lives; the tokens of `usage` are kept.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaStatus {
    pub model: ModelId,
    pub pool: PoolId,
    pub engine: EngineId,
    /// Raised by each restart: slots of an earlier incarnation are gone.
    pub incarnation: u64,
    pub availability: Availability,
    pub slots: u32,
    /// Context of one slot; 0: not known yet.
    pub context_tokens: u32,
    /// Tokens that all slots together can hold; 0: as many as the slots' contexts.
    pub kv_tokens: u32,
    /// A running task can be stopped and resumed from its tokens.
    pub interruptible: bool,
    /// How far apart its devices are; less is better, 0: there is one, or nobody tells.
    pub spread: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    Ready,
    /// Starting, loading or restarting: it is worth waiting for.
    Coming,
    /// Finishes what it runs and takes nothing new.
    Draining,
    /// Not resident; [`Effect::Load`] makes it come.
    Unloaded,
    /// Nothing says that it will come back.
    Down,
}

/// What it takes to have a replica's model resident.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes on each device.
    pub memory_bytes: Vec<(DeviceId, u64)>,
    /// How long a load is expected to take; measured from the first one on.
    pub load: Micros,
    /// Never evicted.
    pub pinned: bool,
    /// Unloaded when nobody has used it for so long; `None`: only when its memory is needed.
    pub idle_ttl: Option<Micros>,
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
    /// Run it. `kept_tokens` of its answer exist already: the attempt goes on after them.
    Dispatch {
        run: Run,
        kept_tokens: u32,
    },
    /// Stop the attempt, then report [`Event::SlotConfirmedFree`].
    CancelOnReplica(Run),
    /// Stop the attempt and report it [`Report::Preempted`] with what it made.
    Preempt(Run),
    /// The task is over. Comes exactly once for each admitted task.
    Ended {
        task: TaskId,
        ending: Ending,
    },
    /// Make the replica's model resident.
    Load {
        replica: ReplicaId,
    },
    /// Free the replica's memory; nothing runs there.
    Unload {
        replica: ReplicaId,
    },
    Decided(Box<DecisionRecord>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// The queue of its model, or the whole queue, is full.
    QueueFull { retry_after: Micros },
    /// The tenant's own limit.
    Quota { kind: QuotaKind, retry_after: Micros },
    /// No replica of the model is ready or coming.
    Unavailable,
    /// No replica of the model runs the engine that was asked for.
    EngineMismatch,
    /// No replica of the model is in a pool that the task may use.
    PoolMismatch,
    /// Prompt and answer exceed what every replica of the model can hold.
    ContextOverflow { context_tokens: u32 },
    /// The chance to be on time is too small; `earliest` from now is more likely than not.
    DeadlineUnmet { earliest: Micros },
    /// A task with this id was submitted before.
    DuplicateTask,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaKind {
    Queued,
    Concurrent,
    Requests,
    Tokens,
    /// The task alone is larger than the limit of tokens.
    TokensOfTask,
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
    /// Its time to live in the queue has passed.
    Expired,
    /// Its deadline can no longer be met.
    Late,
    /// No engine took it, or each one died, within the attempts it has.
    AttemptsExhausted,
    /// It ran alone, and the engine died again before it made a token: the task is the cause.
    Poison,
}
