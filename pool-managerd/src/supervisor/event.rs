//! What the supervisor is told, and what it asks for.

use adapter_api::Properties;
use serde::{Deserialize, Serialize};

use super::Millis;

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Time has passed; due at [`super::Supervisor::next_wakeup`].
    Tick,
    /// Whether the model and the machine can work as configured, and if not, why.
    Checked(Result<(), String>),
    /// Whether the model's memory is set aside.
    Reserved(Result<(), String>),
    SpawnFailed {
        cause: String,
    },
    Spawned,
    /// The process and its descendants are gone and reaped.
    Exited {
        cause: String,
        kind: Failure,
    },
    Answered(Answer),
    Probed(Result<Properties, String>),
    /// How far the load has come, in thousandths.
    Progressed {
        permille: u32,
    },
    /// Make the model resident.
    Load,
    /// Free its memory once the engine is idle; not, if it is busy for longer than this.
    Unload {
        patience_ms: Millis,
    },
    /// Nothing runs on the engine.
    Idle,
    /// Whether all devices work, and if not, why.
    Devices(Result<(), String>),
    /// Take nothing new; what runs may finish.
    Drain,
    Stop,
    /// Stop without grace.
    Hurry,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Silent { cause: String },
    Loading,
    Ready,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Look at the model and the machine; answer with Checked.
    Check,
    /// Set the model's memory aside, when there is enough; answer with Reserved.
    Reserve,
    /// Answer with SpawnFailed or Spawned.
    Spawn,
    /// Answer with Idle when nothing runs on the engine any more.
    AwaitIdle,
    /// The question under way needs no answer.
    Forget,
    /// Answer with Answered.
    AskHealth,
    /// Decode one token; answer with Probed.
    Probe,
    /// Ask for its properties only; answer with Probed.
    Recognise,
    /// SIGKILL to the engine and all it started; answer with Exited.
    Kill,
    /// SIGTERM; answer with Exited.
    Terminate,
    /// The engine is up again after it was down for `cause`.
    Restarted { cause: Failure },
    /// It serves, `took_ms` after its start; None if it served already when it was taken over.
    Ready { took_ms: Option<Millis> },
    /// It does not serve; `loading` if it never did since its start.
    Down { cause: Failure, loading: bool },
}

/// What brought a replica down; a label of `engine_restarts_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    Check,
    /// Others hold the memory that the model needs.
    Memory,
    Spawn,
    Exit,
    Signal,
    /// A device had no memory for the engine.
    DeviceOom,
    /// The machine had none.
    HostOom,
    StartTimeout,
    Health,
    Probe,
    /// The device failed under it.
    Device,
}

impl Failure {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Device => "device",
            Self::Memory => "memory",
            Self::DeviceOom => "device_oom",
            Self::HostOom => "host_oom",
            Self::Spawn => "spawn",
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::StartTimeout => "start_timeout",
            Self::Health => "health",
            Self::Probe => "probe",
        }
    }
}
