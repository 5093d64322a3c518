//! What happens to one replica's process: a pure state machine.
//!
//! No clock, process or network in here: time and randomness are arguments, effects are returned.
//! The shell in `replica.rs` performs them, one at a time.

mod event;
mod orders;
mod standing;

use adapter_api::Properties;
use config_schema::Restart;
use pool_api::ReplicaState;

pub(crate) use event::{Answer, Effect, Event, Failure};
pub(crate) use standing::Standing;

/// Milliseconds since an arbitrary start.
pub(crate) type Millis = u64;

/// Between questions to an engine of ours that starts.
const STARTING_POLL_MS: Millis = 100;
/// Between questions to an engine that serves, or that somebody else has to start.
const CALM_POLL_MS: Millis = 2_000;
/// Unanswered questions in a row before a ready engine counts as hung.
const SILENCES_MAX: u32 = 3;
/// A run that was ready for this long starts the backoff anew.
const STABLE_MS: Millis = 60_000;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// False for a server that somebody else runs.
    pub(crate) managed: bool,
    /// Loaded by order only.
    pub(crate) on_demand: bool,
    /// Without any progress.
    pub(crate) start_timeout_ms: Millis,
    pub(crate) stop_grace_ms: Millis,
    pub(crate) restart: Restart,
}

/// What is wanted of the replica; from `Drain` it only ever moves downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Run,
    /// Not in memory.
    Rest,
    Drain,
    Stop,
}

#[derive(Debug)]
pub(crate) struct Supervisor {
    policy: Policy,
    wish: Wish,
    state: ReplicaState,
    incarnation: u64,
    /// A process of ours exists.
    alive: bool,
    /// An earlier manager started it.
    adopted: bool,
    /// Memory is being set aside for one.
    reserving: bool,
    /// This incarnation was ready once.
    was_ready: bool,
    /// Start of the load under way, or of readiness.
    since: Millis,
    /// When the load last got on, and how far.
    progress: (Millis, u32),
    /// An order to rest has waited for this engine to be idle, until then.
    patience: Option<Millis>,
    due: Option<Millis>,
    silences: u32,
    /// Failures since the last stable run.
    failures: u32,
    /// Of those, the ones of an engine that was started.
    falls: u32,
    restarts: u64,
    down_by: Option<Failure>,
    properties: Option<Properties>,
    last_error: Option<String>,
}

impl Supervisor {
    /// Due at once: the first tick starts it.
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            wish: if policy.on_demand { Wish::Rest } else { Wish::Run },
            state: ReplicaState::Starting,
            incarnation: 0,
            alive: false,
            adopted: false,
            reserving: false,
            was_ready: false,
            since: 0,
            progress: (0, 0),
            patience: None,
            due: Some(0),
            silences: 0,
            failures: 0,
            falls: 0,
            restarts: 0,
            down_by: None,
            properties: None,
            last_error: None,
        }
    }

    /// Goes on where an earlier manager was: with its engine, if that lives, which serves already and
    /// is recognised rather than tested, for its slots may all be busy.
    pub(crate) fn adopt(&mut self, incarnation: u64, alive: bool) {
        self.incarnation = incarnation;
        if alive {
            self.wish = Wish::Run;
            self.alive = true;
            self.adopted = true;
        }
    }

    pub(crate) fn state(&self) -> ReplicaState {
        self.state
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Starts of ours after a failure; what others restart is not counted, nor are loads by order.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    pub(crate) fn properties(&self) -> Option<&Properties> {
        self.properties.as_ref()
    }

    /// A process of ours exists.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive
    }

    pub(crate) fn is_waiting_for_memory(&self) -> bool {
        self.reserving
    }

    /// How far the load under way has come, in thousandths.
    pub(crate) fn progress(&self) -> u32 {
        self.progress.1
    }

    /// Something that operators should know of, beside what is known here.
    pub(crate) fn note(&mut self, cause: String) {
        self.last_error = Some(cause);
    }

    /// Why the replica is not ready, or why it last was not.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    pub(crate) fn next_wakeup(&self) -> Option<Millis> {
        self.due
    }

    /// `random` is uniform over all of u32.
    pub(crate) fn apply(&mut self, now: Millis, event: Event, random: u32) -> Vec<Effect> {
        self.reserving &= matches!(event, Event::Tick | Event::Load | Event::Progressed { .. });
        match event {
            Event::Tick if self.due.is_some_and(|it| it <= now) => self.tick(now, random),
            Event::Tick => Vec::new(),
            Event::Checked(_) | Event::Reserved(_) | Event::SpawnFailed { .. }
                if self.is_over() =>
            {
                self.stopped()
            }
            Event::Checked(Err(cause)) => self.fail(now, cause, Failure::Check, random),
            // What was being checked or awaited is not wanted any more.
            Event::Checked(Ok(())) | Event::Reserved(_) if self.wish == Wish::Rest => self.rested(),
            Event::Checked(Ok(())) if self.policy.managed => {
                self.reserving = true;
                vec![Effect::Reserve]
            }
            Event::Checked(Ok(())) => vec![Effect::AskHealth],
            Event::Reserved(Ok(())) => vec![Effect::Spawn],
            Event::Reserved(Err(cause)) => self.fail(now, cause, Failure::Memory, random),
            Event::SpawnFailed { cause } => self.fail(now, cause, Failure::Spawn, random),
            Event::Spawned => self.spawned(now),
            Event::Exited { cause, kind } => self.exited(now, cause, kind, random),
            // Asked before we were told to stop: it no longer matters.
            Event::Answered(_) | Event::Probed(_) if self.wish != Wish::Run => Vec::new(),
            Event::Answered(answer) => self.answered(now, answer, random),
            Event::Probed(result) => self.probed(now, result, random),
            Event::Progressed { permille } => {
                if self.progress.1 < permille {
                    self.progress = (now, permille);
                }
                Vec::new()
            }
            Event::Load => self.load(now),
            Event::Unload { patience_ms } => self.unload(now, patience_ms),
            Event::Idle => self.idle(now),
            Event::Devices(Ok(())) => self.devices_work(now),
            Event::Devices(Err(cause)) => self.devices_fail(now, cause, random),
            Event::Drain => self.drain(),
            Event::Stop => self.stop(now),
            Event::Hurry if self.alive => vec![Effect::Kill],
            Event::Hurry => Vec::new(),
        }
    }

    fn tick(&mut self, now: Millis, random: u32) -> Vec<Effect> {
        self.due = None;
        if self.patience.take().is_some() {
            return self.impatient(now);
        }
        if self.alive && (self.wish != Wish::Run || self.state == ReplicaState::Draining) {
            // The grace is over.
            return vec![Effect::Kill];
        }
        if self.is_over() {
            return Vec::new();
        }
        match self.state {
            ReplicaState::Starting if !self.alive => vec![Effect::Check],
            // A process that is not reaped yet holds its memory; its exit brings us back.
            ReplicaState::Backoff | ReplicaState::Unready if self.alive => Vec::new(),
            ReplicaState::Backoff if self.wish == Wish::Rest => self.rested(),
            ReplicaState::Backoff | ReplicaState::Unready => vec![Effect::Check],
            ReplicaState::Starting | ReplicaState::Loading | ReplicaState::Probing => {
                let limit = self.policy.start_timeout_ms;
                if self.policy.managed && limit <= now.saturating_sub(self.progress.0) {
                    let cause = format!("engine made no progress for {limit} ms while it started");
                    return self.fail(now, cause, Failure::StartTimeout, random);
                }
                vec![Effect::AskHealth]
            }
            ReplicaState::Ready => vec![Effect::AskHealth],
            ReplicaState::Unloaded | ReplicaState::Draining | ReplicaState::Stopped => Vec::new(),
        }
    }

    /// The daemon ends: nothing new is begun.
    fn is_over(&self) -> bool {
        matches!(self.wish, Wish::Drain | Wish::Stop)
    }

    fn spawned(&mut self, now: Millis) -> Vec<Effect> {
        self.alive = true;
        self.begin(now);
        self.state = ReplicaState::Starting;
        self.due = Some(now + STARTING_POLL_MS);
        match self.down_by {
            Some(cause) if 1 < self.incarnation => {
                self.restarts += 1;
                vec![Effect::Restarted { cause }]
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn begin(&mut self, now: Millis) {
        self.incarnation += 1;
        self.adopted = false;
        self.was_ready = false;
        self.since = now;
        self.progress = (now, 0);
        self.silences = 0;
    }

    fn answered(&mut self, now: Millis, answer: Answer, random: u32) -> Vec<Effect> {
        match self.state {
            ReplicaState::Ready => self.answered_while_ready(now, answer, random),
            ReplicaState::Starting | ReplicaState::Loading if self.policy.managed => {
                self.answered_while_starting(now, answer)
            }
            ReplicaState::Starting | ReplicaState::Loading | ReplicaState::Unready => {
                self.answered_by_external(now, answer, random)
            }
            ReplicaState::Unloaded
            | ReplicaState::Probing
            | ReplicaState::Draining
            | ReplicaState::Backoff
            | ReplicaState::Stopped => Vec::new(),
        }
    }

    fn answered_while_ready(&mut self, now: Millis, answer: Answer, random: u32) -> Vec<Effect> {
        let cause = match answer {
            Answer::Ready => {
                self.silences = 0;
                self.due = Some(now + CALM_POLL_MS);
                return Vec::new();
            }
            Answer::Loading => "engine says that it loads".into(),
            Answer::Silent { cause } => cause,
        };
        self.silences += 1;
        if self.silences < SILENCES_MAX {
            self.due = Some(now + CALM_POLL_MS);
            return Vec::new();
        }
        self.fail(now, cause, Failure::Health, random)
    }

    fn answered_while_starting(&mut self, now: Millis, answer: Answer) -> Vec<Effect> {
        match answer {
            Answer::Ready => {
                self.state = ReplicaState::Probing;
                self.due = Some(now + self.policy.start_timeout_ms);
                return vec![if self.adopted { Effect::Recognise } else { Effect::Probe }];
            }
            Answer::Loading => self.state = ReplicaState::Loading,
            // It does not listen yet.
            Answer::Silent { .. } => {}
        }
        self.due = Some(now + STARTING_POLL_MS);
        Vec::new()
    }

    fn answered_by_external(&mut self, now: Millis, answer: Answer, random: u32) -> Vec<Effect> {
        if let Answer::Silent { cause } = answer {
            if self.state == ReplicaState::Unready {
                // Still away: no news for anybody.
                self.last_error = Some(cause);
                self.due = Some(now + CALM_POLL_MS);
                return Vec::new();
            }
            return self.fail(now, cause, Failure::Health, random);
        }
        if self.incarnation == 0 || self.was_ready {
            self.begin(now);
        }
        if answer == Answer::Ready {
            self.state = ReplicaState::Probing;
            return vec![Effect::Probe];
        }
        self.state = ReplicaState::Loading;
        self.due = Some(now + CALM_POLL_MS);
        Vec::new()
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
                let took_ms = (!self.adopted).then(|| now.saturating_sub(self.since));
                self.state = ReplicaState::Ready;
                self.since = now;
                self.silences = 0;
                self.was_ready = true;
                self.properties = Some(properties);
                self.due = Some(now + CALM_POLL_MS);
                vec![Effect::Ready { took_ms }]
            }
            Err(cause) => {
                self.fail(now, format!("test decode failed: {cause}"), Failure::Probe, random)
            }
        }
    }

    fn exited(&mut self, now: Millis, cause: String, kind: Failure, random: u32) -> Vec<Effect> {
        self.alive = false;
        if self.is_over() {
            return self.stopped();
        }
        match self.state {
            // It rests, or is wanted again already.
            ReplicaState::Draining => {
                self.patience = None;
                if self.wish == Wish::Run {
                    self.begin_load(now);
                    return Vec::new();
                }
                self.rested()
            }
            // We killed it ourselves and know why.
            ReplicaState::Backoff | ReplicaState::Unready => {
                self.due = self.due.or(Some(now));
                Vec::new()
            }
            ReplicaState::Unloaded
            | ReplicaState::Starting
            | ReplicaState::Loading
            | ReplicaState::Probing
            | ReplicaState::Ready
            | ReplicaState::Stopped => self.fail(now, cause, kind, random),
        }
    }

    /// Down, with a cause, until the backoff is over.
    fn fail(&mut self, now: Millis, cause: String, kind: Failure, random: u32) -> Vec<Effect> {
        let ready = self.state == ReplicaState::Ready;
        (self.failures, self.falls) = self.failures_at(now);
        self.failures += 1;
        let fell = !matches!(kind, Failure::Check | Failure::Memory);
        self.falls += u32::from(fell);
        self.down_by = Some(kind);
        let given_up = fell && self.is_given_up();
        let wait =
            if given_up { self.policy.restart.breaker_ms } else { self.backoff(kind, random) };
        let hopeless = match kind {
            Failure::Check | Failure::Spawn | Failure::Device => true,
            // Who holds it may be asked to go: a model on demand can be planned for.
            Failure::Memory => !self.policy.on_demand,
            Failure::Exit
            | Failure::Signal
            | Failure::DeviceOom
            | Failure::HostOom
            | Failure::StartTimeout
            | Failure::Health
            | Failure::Probe => false,
        };
        self.state = if hopeless || given_up || !self.policy.managed {
            ReplicaState::Unready
        } else {
            ReplicaState::Backoff
        };
        self.last_error = Some(if given_up {
            let falls = self.falls;
            format!("given up for {} s after {falls} failures in a row: {cause}", wait / 1_000)
        } else {
            cause
        });
        if self.policy.on_demand && !ready {
            // Whoever wants it orders it again.
            self.wish = Wish::Rest;
        }
        self.due = Some(now + wait);
        let down = Effect::Down { cause: kind, loading: self.policy.managed && !ready };
        [down].into_iter().chain(self.alive.then_some(Effect::Kill)).collect()
    }

    /// All failures, and the falls among them, that still count.
    fn failures_at(&self, now: Millis) -> (u32, u32) {
        let runs = self.state == ReplicaState::Ready;
        if runs && STABLE_MS <= now.saturating_sub(self.since) {
            return (0, 0);
        }
        (self.failures, self.falls)
    }

    /// Only falls of engines count: a check that fails costs nothing.
    fn is_given_up(&self) -> bool {
        self.policy.managed && self.policy.restart.breaker_failures.get() <= self.falls
    }

    fn backoff(&self, kind: Failure, random: u32) -> Millis {
        if !self.policy.managed && kind == Failure::Health {
            // Asking costs nothing, and nobody but its owner brings it back.
            return CALM_POLL_MS;
        }
        let restart = self.policy.restart;
        let doubled = restart.backoff_ms.saturating_mul(1 << (self.failures - 1).min(20));
        let full = doubled.min(restart.backoff_max_ms);
        // Full jitter, with a floor: replicas that fell together come back apart, and an engine
        // that exits at once never spins.
        full / 4 + (full - full / 4) * u64::from(random) / u64::from(u32::MAX)
    }

    fn drain(&mut self) -> Vec<Effect> {
        if matches!(self.wish, Wish::Run | Wish::Rest) {
            self.wish = Wish::Drain;
            self.due = None;
            self.patience = None;
        }
        if self.state == ReplicaState::Ready {
            self.state = ReplicaState::Draining;
        }
        Vec::new()
    }

    fn stop(&mut self, now: Millis) -> Vec<Effect> {
        self.wish = Wish::Stop;
        if !self.alive {
            return self.stopped();
        }
        self.due = Some(now + self.policy.stop_grace_ms);
        vec![Effect::Terminate]
    }

    fn stopped(&mut self) -> Vec<Effect> {
        self.state = ReplicaState::Stopped;
        self.due = None;
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
