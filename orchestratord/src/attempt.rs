//! One run of a task on a replica: send, relay, watch the clock, report.
//!
//! Dropping the generation closes the engine's connection, which is how an engine is told to stop.
//! Whatever happens, the attempt ends with its slot reported free exactly once.

mod compute;
mod relay;
mod release;

use std::sync::Arc;
use std::time::Duration;

use adapter_api::{EngineError, Prompt};
use api_types::{ErrorCode, ErrorEnvelope, Preempted, PreemptionMode, TaskState};
use config_schema::Config;
use journal::JournalError;
use orchestrator_core::{Event, Report, Run, Usage};
use tokio::time::Instant;

use crate::driver::{Command, Handle, close_failed};
use crate::fleet::ReplicaEntry;
use crate::task::{Input, State, Stream, TaskRecord};
use crate::telemetry::{ReplicaSeries, Telemetry};
use crate::wire::envelope;

/// How long the manager of an engine that died may take to tell.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptConfig {
    wall: Duration,
    idle: Duration,
    first_token: Duration,
    pub(crate) release_timeout: Duration,
}

impl AttemptConfig {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            wall: Duration::from_millis(config.watchdog.wall_ms),
            idle: Duration::from_millis(config.watchdog.idle_ms),
            first_token: Duration::from_millis(config.watchdog.first_token_ms),
            release_timeout: Duration::from_millis(config.release_timeout_ms),
        }
    }

    /// Of an attempt that may run no longer than `left`; `None`: no further limit.
    pub(crate) fn within(self, left: Option<Duration>) -> Self {
        Self { wall: left.map_or(self.wall, |it| it.min(self.wall)), ..self }
    }
}

pub(crate) struct Attempt {
    pub(crate) run: Run,
    pub(crate) record: Arc<TaskRecord>,
    pub(crate) replica: Arc<ReplicaEntry>,
    pub(crate) handle: Handle,
    pub(crate) config: AttemptConfig,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Tokens of the answer that earlier attempts made.
    pub(crate) kept: u32,
}

/// How an attempt ended.
enum Outcome {
    /// The engine said its last word.
    Completed,
    /// The stream was closed by somebody else: a cancel or a shutdown.
    Closed,
    /// The daemon ends; the task does not.
    Suspended,
    /// The core wants the slot for another task.
    Preempted,
    /// The engine never took the request.
    NotTaken(EngineError),
    Failed(Failure),
}

enum Failure {
    Engine(EngineError),
    /// What there is of the answer cannot be read back.
    Journal(Option<JournalError>),
    /// A watchdog limit passed.
    Timeout {
        limit: &'static str,
        after: Duration,
        /// Another attempt may do better.
        again: bool,
    },
}

pub(crate) async fn run(attempt: Attempt) {
    let started = Instant::now();
    let outcome = attempt.generate(started).await;
    let (report, slot_free) = match &outcome {
        Outcome::Completed => (Report::Completed, true),
        Outcome::Suspended => return,
        Outcome::Closed => (Report::Failed, false),
        Outcome::Preempted => {
            attempt.record.update(|stream| attempt.make_way(stream));
            (Report::Preempted, false)
        }
        Outcome::NotTaken(error) => {
            attempt.log_failure(&error.to_string(), "engine did not take the request");
            attempt.record.update(|stream| {
                if attempt.is_current(stream) {
                    stream.enter(State::Queued);
                    stream.progress.placement = None;
                }
            });
            (Report::NotTaken, true)
        }
        Outcome::Failed(failure) if attempt.can_go_on(failure) => {
            if !attempt.is_news_of_the_engine(failure).await {
                attempt.lose(failure);
            }
            (Report::Lost, false)
        }
        Outcome::Failed(failure) => {
            attempt.fail(failure);
            (Report::Failed, false)
        }
    };
    let run = attempt.run;
    let usage = attempt.usage(&attempt.record.lock());
    attempt.handle.send(Command::Core(Event::Finished { run, report, usage, slot_free })).await;
    if !slot_free {
        attempt.confirm_release().await;
        attempt.handle.send(Command::Core(Event::SlotConfirmedFree(run))).await;
    }
}

impl Attempt {
    async fn generate(&self, started: Instant) -> Outcome {
        if let Some(outcome) = self.compute(started).await {
            return outcome;
        }
        let limit = self.config.first_token.min(self.config.wall);
        let mut timer = Box::pin(tokio::time::sleep_until(started + limit));
        let submit = async {
            let text = self.record.text().await.map_err(|it| Failure::Journal(Some(it)))?;
            let text = text.ok_or(Failure::Journal(None))?;
            let prompt = self.prompt(text).await.map_err(Failure::Engine)?;
            let (job, id) = (&self.record.job, &self.record.correlation_id);
            let features = &self.replica.features;
            let request = job.generate(prompt, features, self.kept, self.run.attempt.0, id);
            self.replica.adapter.submit(request).await.map_err(Failure::Engine)
        };
        let generation = tokio::select! {
            submitted = submit => submitted,
            outcome = self.interrupted() => return outcome,
            () = &mut timer => {
                let limit = Failure::Timeout { limit: "first token", after: limit, again: true };
                return Outcome::Failed(limit);
            }
        };
        match generation {
            Ok(generation) => relay::Relay::new(self, generation, started, timer).await,
            Err(Failure::Engine(error)) if not_taken(&error) => Outcome::NotTaken(error),
            Err(failure) => Outcome::Failed(failure),
        }
    }

    pub(crate) fn series(&self) -> &ReplicaSeries {
        self.replica.series(&self.telemetry)
    }

    /// False once the task runs elsewhere: this attempt's reports and tokens are nobody's then.
    pub(crate) fn is_current(&self, stream: &Stream) -> bool {
        stream.progress.attempt == self.run.attempt.0
    }

    /// Why this attempt must not go on, if so.
    fn interruption(&self, stream: &Stream) -> Option<Outcome> {
        if stream.log.is_closed() || !self.is_current(stream) {
            Some(Outcome::Closed)
        } else if stream.suspended {
            Some(Outcome::Suspended)
        } else if stream.stopping {
            Some(Outcome::Preempted)
        } else {
            None
        }
    }

    /// The task waits again, with the tokens it has.
    fn make_way(&self, stream: &mut Stream) {
        if !self.is_current(stream) {
            return;
        }
        stream.stopping = false;
        stream.enter(State::Preempted);
        stream.progress.placement = None;
        stream.progress.preemptions += 1;
        if stream.log.last_id() != 0 {
            let tokens_kept = stream.log.tokens();
            let event = Preempted { mode: PreemptionMode::Hard, tokens_kept };
            stream.log.event("preempted", &event);
        }
    }

    /// What this attempt has used so far.
    pub(crate) fn usage(&self, stream: &Stream) -> Usage {
        let small = |it: u64| u32::try_from(it).unwrap_or(u32::MAX);
        let prompt = stream.progress.usage.tokens_in;
        Usage {
            prompt_tokens: (prompt != 0 && self.kept == 0).then(|| small(prompt)),
            output_tokens: small(stream.log.tokens()).saturating_sub(self.kept),
        }
    }

    /// With what there is of the answer.
    async fn prompt(&self, answer: String) -> Result<Prompt, EngineError> {
        match &self.record.job.input {
            Input::Prompt(Prompt::Text(text)) => Ok(Prompt::Text(text.clone() + &answer)),
            Input::Prompt(Prompt::TokenIds(ids)) => Ok(Prompt::TokenIds(ids.clone())),
            Input::Messages(messages) => {
                self.replica.adapter.apply_template(messages, &answer).await
            }
            Input::Texts(_) | Input::Documents { .. } => {
                let message = "it has no prompt".into();
                Err(EngineError::BadRequest { message })
            }
        }
    }

    /// Resolves when this attempt must not go on.
    async fn interrupted(&self) -> Outcome {
        std::future::poll_fn(|cx| {
            let mut stream = self.record.lock();
            match self.interruption(&stream) {
                Some(outcome) => std::task::Poll::Ready(outcome),
                None => {
                    stream.watch_close(cx.waker());
                    std::task::Poll::Pending
                }
            }
        })
        .await
    }

    /// Whether another attempt may go on after the tokens there are.
    fn can_go_on(&self, failure: &Failure) -> bool {
        let of_the_engine = match failure {
            Failure::Engine(error) => matches!(
                error,
                EngineError::Reset { .. }
                    | EngineError::Timeout { .. }
                    | EngineError::Protocol { .. }
            ),
            Failure::Timeout { again, .. } => *again,
            Failure::Journal(_) => false,
        };
        let begun = 0 < self.record.lock().log.tokens();
        of_the_engine && (!begun || self.record.job.is_resumable())
    }

    /// An engine that dies breaks its streams a moment before its manager tells. Then it is the
    /// manager's word that counts: who was aboard, and who may be the cause.
    async fn is_news_of_the_engine(&self, failure: &Failure) -> bool {
        let Failure::Engine(_) = failure else { return false };
        tokio::time::timeout(TOLD_WITHIN, self.interrupted()).await.is_ok()
    }

    /// The task waits again, for an engine that does better.
    fn lose(&self, failure: &Failure) {
        let error = self.error(failure);
        self.log_failure(&error.message, "engine lost the attempt");
        self.record.update(|stream| {
            if self.is_current(stream) {
                stream.enter(State::Queued);
                stream.progress.placement = None;
                stream.progress.lost_by = Some(Box::new(error));
            }
        });
    }

    /// Ends the stream with the failure's error, unless it has ended.
    fn fail(&self, failure: &Failure) {
        let error = self.error(failure);
        let message = error.message.clone();
        let current = self.is_current(&self.record.lock());
        if current && close_failed(&self.record, error, TaskState::Failed) {
            self.log_failure(&message, "attempt failed");
        }
    }

    fn error(&self, failure: &Failure) -> ErrorEnvelope {
        let (code, message) = match failure {
            Failure::Engine(error) => (code_of(error), error.to_string()),
            Failure::Journal(error) => {
                let why = error.as_ref().map_or("it is gone".into(), ToString::to_string);
                let message = format!("what there is of the answer cannot be read back: {why}");
                (ErrorCode::Internal, message)
            }
            Failure::Timeout { limit, after, .. } => {
                let message =
                    format!("no token within the {limit} limit of {} ms", after.as_millis());
                (ErrorCode::DecodeTimeout, message)
            }
        };
        let placement = &self.replica.placement;
        let mut error = envelope(code, &message, &self.record.correlation_id);
        error.engine = Some(placement.engine.clone());
        error.pool_id = Some(placement.pool_id.clone());
        if error.retriable {
            error.retry_after_ms = Some(1_000);
        }
        error
    }

    fn log_failure(&self, error: &str, message: &'static str) {
        let placement = &self.replica.placement;
        tracing::warn!(
            task_id = %self.record.id, correlation_id = %self.record.correlation_id,
            attempt = self.run.attempt.0, engine = %placement.engine,
            pool_id = %placement.pool_id, replica_id = %placement.replica_id, error, message
        );
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the request can be sent again without the engine having worked on it.
fn not_taken(error: &EngineError) -> bool {
    match error {
        EngineError::Unreachable { .. }
        | EngineError::NotReady { .. }
        | EngineError::Overloaded { .. } => true,
        EngineError::ContextOverflow { .. }
        | EngineError::BadRequest { .. }
        | EngineError::Unauthorized
        | EngineError::Unsupported { .. }
        | EngineError::Reset { .. }
        | EngineError::Timeout { .. }
        | EngineError::Protocol { .. } => false,
    }
}

fn code_of(error: &EngineError) -> ErrorCode {
    match error {
        EngineError::ContextOverflow { .. } => ErrorCode::ContextOverflow,
        EngineError::BadRequest { .. } | EngineError::Unsupported { .. } => {
            ErrorCode::InvalidParams
        }
        EngineError::Timeout { .. } => ErrorCode::DecodeTimeout,
        EngineError::Overloaded { .. }
        | EngineError::NotReady { .. }
        | EngineError::Unreachable { .. }
        | EngineError::Unauthorized
        | EngineError::Reset { .. }
        | EngineError::Protocol { .. } => ErrorCode::WorkerReset,
    }
}
