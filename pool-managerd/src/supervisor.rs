//! What happens to one replica's process: a pure state machine.
//!
//! No clock, process or network in here: time and randomness are arguments, effects are returned.
//! The shell in `replica.rs` performs them, one at a time.

use adapter_api::Properties;
use config_schema::Restart;
use pool_api::ReplicaState;

/// Milliseconds since an arbitrary start.
pub(crate) type Millis = u64;

/// Between questions to an engine that starts, and to one that serves.
const STARTING_POLL_MS: Millis = 100;
const READY_POLL_MS: Millis = 2_000;
/// Unanswered questions in a row before a ready engine counts as hung.
const SILENCES_MAX: u32 = 3;
/// A run that was ready for this long starts the backoff anew.
const STABLE_MS: Millis = 60_000;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// False for a server that somebody else runs.
    pub(crate) managed: bool,
    pub(crate) start_timeout_ms: Millis,
    pub(crate) restart: Restart,
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Time has passed; due at [`Supervisor::next_wakeup`].
    Tick,
    /// The model or the machine cannot work as configured.
    CheckFailed {
        cause: String,
    },
    SpawnFailed {
        cause: String,
    },
    Spawned,
    /// The process is gone and reaped.
    Exited {
        cause: String,
        kind: Failure,
    },
    Answered(Answer),
    Probed(Result<Properties, String>),
    /// Take nothing new; what runs may finish.
    Drain,
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Silent { cause: String },
    Loading,
    Ready,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Check the model and the machine, then spawn; answer CheckFailed, SpawnFailed or Spawned.
    Start,
    /// Answer with Answered.
    AskHealth,
    /// Decode one token; answer with Probed.
    Probe,
    /// SIGKILL the process group; answer with Exited.
    Kill,
    /// SIGTERM, then SIGKILL after the grace; answer with Exited.
    Terminate,
    /// A load ended: counted and timed.
    Loaded {
        took_ms: Millis,
    },
    Failed(Failure),
}

/// What brought a replica down; a label of `engine_restarts_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Check,
    Spawn,
    Exit,
    Signal,
    StartTimeout,
    Health,
    Probe,
}

impl Failure {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Spawn => "spawn",
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::StartTimeout => "start_timeout",
            Self::Health => "health",
            Self::Probe => "probe",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Supervisor {
    policy: Policy,
    state: ReplicaState,
    incarnation: u64,
    /// A process of ours exists.
    alive: bool,
    /// Start of the load under way, or of readiness.
    since: Millis,
    due: Option<Millis>,
    silences: u32,
    /// Failures since the last stable run.
    failures: u32,
    properties: Option<Properties>,
    last_error: Option<String>,
    stopping: bool,
}

impl Supervisor {
    /// Due at once: the first tick starts it.
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: ReplicaState::Starting,
            incarnation: 0,
            alive: false,
            since: 0,
            due: Some(0),
            silences: 0,
            failures: 0,
            properties: None,
            last_error: None,
            stopping: false,
        }
    }

    pub(crate) fn state(&self) -> ReplicaState {
        self.state
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) fn properties(&self) -> Option<&Properties> {
        self.properties.as_ref()
    }

    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    pub(crate) fn next_wakeup(&self) -> Option<Millis> {
        self.due
    }

    /// `random` is uniform over all of u32.
    pub(crate) fn apply(&mut self, now: Millis, event: Event, random: u32) -> Vec<Effect> {
        match event {
            Event::Tick if self.due.is_some_and(|it| it <= now) => self.tick(now, random),
            Event::Tick => Vec::new(),
            Event::CheckFailed { cause } => self.fail(now, cause, Failure::Check, random),
            Event::SpawnFailed { cause } => self.fail(now, cause, Failure::Spawn, random),
            Event::Spawned => {
                self.alive = true;
                self.due = Some(now + STARTING_POLL_MS);
                if self.stopping { vec![Effect::Terminate] } else { Vec::new() }
            }
            Event::Exited { cause, kind } => self.exited(now, cause, kind, random),
            Event::Answered(answer) => self.answered(now, answer, random),
            Event::Probed(result) => self.probed(now, result, random),
            Event::Drain => {
                if self.state == ReplicaState::Ready {
                    self.state = ReplicaState::Draining;
                }
                self.stopping = true;
                self.due = None;
                Vec::new()
            }
            Event::Stop => self.stop(),
        }
    }

    fn tick(&mut self, now: Millis, random: u32) -> Vec<Effect> {
        self.due = None;
        match self.state {
            ReplicaState::Backoff | ReplicaState::Unready => self.start(now),
            ReplicaState::Starting if self.incarnation == 0 => self.start(now),
            ReplicaState::Starting | ReplicaState::Loading | ReplicaState::Probing => {
                let limit = self.policy.start_timeout_ms;
                if self.policy.managed && limit <= now.saturating_sub(self.since) {
                    let cause = format!("engine was not ready within {limit} ms");
                    return self.fail(now, cause, Failure::StartTimeout, random);
                }
                vec![Effect::AskHealth]
            }
            ReplicaState::Ready => vec![Effect::AskHealth],
            ReplicaState::Draining | ReplicaState::Stopped => Vec::new(),
        }
    }

    fn start(&mut self, now: Millis) -> Vec<Effect> {
        if self.alive {
            // The process before has not been reaped; its exit brings us back.
            return Vec::new();
        }
        self.state = ReplicaState::Starting;
        self.since = now;
        self.silences = 0;
        self.incarnation += 1;
        if self.policy.managed { vec![Effect::Start] } else { vec![Effect::AskHealth] }
    }

    fn answered(&mut self, now: Millis, answer: Answer, random: u32) -> Vec<Effect> {
        match (self.state, answer) {
            (ReplicaState::Starting | ReplicaState::Loading, Answer::Ready) => {
                self.state = ReplicaState::Probing;
                vec![Effect::Probe]
            }
            (ReplicaState::Starting | ReplicaState::Loading, Answer::Loading) => {
                self.state = ReplicaState::Loading;
                self.due = Some(now + STARTING_POLL_MS);
                Vec::new()
            }
            (ReplicaState::Starting | ReplicaState::Loading, Answer::Silent { cause }) => {
                if !self.policy.managed {
                    return self.fail(now, cause, Failure::Health, random);
                }
                self.due = Some(now + STARTING_POLL_MS);
                Vec::new()
            }
            (ReplicaState::Ready, Answer::Ready) => {
                self.silences = 0;
                self.due = Some(now + READY_POLL_MS);
                Vec::new()
            }
            (ReplicaState::Ready, other) => {
                self.silences += 1;
                if self.silences < SILENCES_MAX {
                    self.due = Some(now + READY_POLL_MS);
                    return Vec::new();
                }
                let cause = match other {
                    Answer::Silent { cause } => cause,
                    Answer::Loading | Answer::Ready => "engine says that it loads".into(),
                };
                self.fail(now, cause, Failure::Health, random)
            }
            _ => Vec::new(),
        }
    }

    fn probed(
        &mut self,
        now: Millis,
        result: Result<Properties, String>,
        random: u32,
    ) -> Vec<Effect> {
        if self.state != ReplicaState::Probing {
            return Vec::new();
        }
        match result {
            Ok(properties) => {
                let took_ms = now.saturating_sub(self.since);
                self.state = ReplicaState::Ready;
                self.since = now;
                self.silences = 0;
                self.properties = Some(properties);
                self.last_error = None;
                self.due = Some(now + READY_POLL_MS);
                vec![Effect::Loaded { took_ms }]
            }
            Err(cause) => {
                self.fail(now, format!("test decode failed: {cause}"), Failure::Probe, random)
            }
        }
    }

    fn exited(&mut self, now: Millis, cause: String, kind: Failure, random: u32) -> Vec<Effect> {
        self.alive = false;
        if self.stopping {
            self.state = ReplicaState::Stopped;
            self.due = None;
            return Vec::new();
        }
        match self.state {
            // We killed it ourselves and know why.
            ReplicaState::Backoff | ReplicaState::Unready => {
                self.due = self.due.or(Some(now));
                Vec::new()
            }
            _ => self.fail(now, cause, kind, random),
        }
    }

    /// Down, with a cause, until the backoff is over.
    fn fail(&mut self, now: Millis, cause: String, kind: Failure, random: u32) -> Vec<Effect> {
        if self.state == ReplicaState::Ready && STABLE_MS <= now.saturating_sub(self.since) {
            self.failures = 0;
        }
        let backoff = if self.policy.managed {
            let restart = self.policy.restart;
            let doubled = restart.backoff_ms.saturating_mul(1 << self.failures.min(20));
            let full = doubled.min(restart.backoff_max_ms);
            // Full jitter, with a floor: replicas that fell together come back apart, and an engine
            // that exits at once never spins.
            full / 4 + (full - full / 4) * u64::from(random) / u64::from(u32::MAX)
        } else {
            READY_POLL_MS
        };
        self.failures += 1;
        self.state = match kind {
            Failure::Check | Failure::Spawn => ReplicaState::Unready,
            Failure::Health if !self.policy.managed => ReplicaState::Unready,
            Failure::Exit
            | Failure::Signal
            | Failure::StartTimeout
            | Failure::Health
            | Failure::Probe => ReplicaState::Backoff,
        };
        self.last_error = Some(cause);
        self.due = Some(now + backoff);
        let kill = self.alive.then_some(Effect::Kill);
        [Effect::Failed(kind)].into_iter().chain(kill).collect()
    }

    fn stop(&mut self) -> Vec<Effect> {
        self.stopping = true;
        self.due = None;
        if self.alive {
            return vec![Effect::Terminate];
        }
        self.state = ReplicaState::Stopped;
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
