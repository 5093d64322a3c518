//! What all threads of a run share, and what they found.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::Options;
use crate::harm::{Harms, Moment, Trigger};
use crate::quota::{Span, Taken};
use crate::stack::Stack;
use crate::trace::{Asked, Flaws};

/// How long everything may take to end once nothing goes wrong any more: a tenant may have to wait a
/// minute for its tokens.
const CALM: Duration = Duration::from_secs(120);

pub(crate) struct Run {
    pub(crate) options: Options,
    pub(crate) stack: Stack,
    pub(crate) harms: Harms,
    pub(crate) trigger: Trigger,
    started: Instant,
    phase: Mutex<Phase>,
    changed: Condvar,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Phase {
    /// Since when nothing is submitted and nothing goes wrong any more.
    calm: bool,
    /// When the patience with what has not ended is over.
    give_up: Option<Instant>,
}

/// What the clients have seen.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) tasks: Vec<Record>,
    pub(crate) flaws: Flaws,
    /// Tasks whose stream broke, or whose engine was lost, after its first event and before its end.
    pub(crate) interrupted: u64,
    /// Submissions that were sent again because their answer was lost.
    pub(crate) repeated: u64,
    /// Submissions that were refused with advice to come back.
    pub(crate) refused: u64,
    pub(crate) cancels: u64,
    /// Cancels after whose answer a task was not over, or got further text.
    pub(crate) broken_cancels: u64,
    /// What should not happen at all.
    pub(crate) surprises: Vec<String>,
    /// Of the tenant with limits.
    pub(crate) waiting: Vec<Span>,
    pub(crate) running: Vec<Span>,
    pub(crate) taken: Vec<Taken>,
}

/// An accepted task, once its client is through with it.
pub(crate) struct Record {
    pub(crate) id: Uuid,
    pub(crate) key: &'static str,
    pub(crate) asked: Asked,
    pub(crate) fate: Fate,
}

pub(crate) enum Fate {
    Ended {
        /// Of the whole stream.
        digest: u64,
        /// The code of a task that failed.
        error: Option<String>,
    },
    /// Unknown to the daemon, or without an end when the patience was over.
    Lost,
}

impl Run {
    pub(crate) fn new(options: Options, stack: Stack) -> Self {
        Self {
            options,
            stack,
            harms: Harms::default(),
            trigger: Trigger::default(),
            started: Instant::now(),
            phase: Mutex::default(),
            changed: Condvar::new(),
            found: Mutex::default(),
        }
    }

    /// Milliseconds since the start.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing new from here on.
    pub(crate) fn calm_down(&self) {
        self.phase().calm = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.phase().calm
    }

    /// Everything is healed: what does not end soon is lost.
    pub(crate) fn healed(&self) {
        self.phase().give_up = Some(Instant::now() + CALM);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase().give_up.is_some_and(|it| it < Instant::now())
    }

    /// Waits, but not beyond the begin of the calm.
    pub(crate) fn rest(&self, span: Duration) {
        let wait = self.changed.wait_timeout_while(self.phase(), span, |it| !it.calm);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    /// A client was told something.
    pub(crate) fn reached(&self, moment: Moment) {
        self.trigger.reached(moment, &self.stack);
    }

    pub(crate) fn surprise(&self, what: String) {
        self.found().surprises.push(what);
    }
}
