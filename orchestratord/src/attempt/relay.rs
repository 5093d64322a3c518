//! The hot path: what has arrived from the engine goes into the log in one go.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use adapter_api::{EngineError, Generation, GenerationEvent};
use api_types::{FinishReason, Resumed, ResumedDeterminism, Started};
use tokio::time::{Instant, Sleep};

use super::{Attempt, Failure, Outcome, millis};
use crate::crash::{self, Point};
use crate::driver::close_with_end;
use crate::task::Stream;
use crate::telemetry::Telemetry;

/// Polls one generation until it, the clock or somebody else ends it.
pub(super) struct Relay<'a> {
    attempt: &'a Attempt,
    generation: Box<dyn Generation>,
    /// Reused between polls.
    events: Vec<GenerationEvent>,
    started: Instant,
    /// When the engine last made progress.
    progress: Instant,
    first_token: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    announced: bool,
    /// When the core was last told how far this is.
    reported: Option<Instant>,
}

/// How often the core is told of progress, at most.
const REPORT_EVERY: Duration = Duration::from_millis(200);

impl<'a> Relay<'a> {
    /// `timer` runs out when the first token is late.
    pub(super) fn new(
        attempt: &'a Attempt,
        generation: Box<dyn Generation>,
        started: Instant,
        timer: Pin<Box<Sleep>>,
    ) -> Self {
        Self {
            attempt,
            generation,
            events: Vec::new(),
            started,
            progress: started,
            first_token: None,
            timer,
            announced: false,
            reported: None,
        }
    }

    /// Appends all events of one poll under one lock. `None` while the engine goes on.
    fn deliver(&mut self) -> Option<Outcome> {
        let now = Instant::now();
        self.progress = now;
        let record = &self.attempt.record;
        let events = std::mem::take(&mut self.events);
        let mut finished = None;
        let mut tokens = 0;
        let mut current = true;
        let open = record.update(|stream| {
            current = self.attempt.is_current(stream);
            if !current {
                return;
            }
            if !self.announced {
                self.announced = true;
                announce(self.attempt, stream);
            }
            for event in &events {
                match event {
                    GenerationEvent::PromptProgress { total, .. } => {
                        note_prompt(stream, *total, self.attempt.kept);
                    }
                    GenerationEvent::Tokens(piece) => {
                        if self.first_token.is_none() {
                            self.first_token = Some(now);
                            let took = Some(millis(now - self.started));
                            let timings = &mut stream.progress.timings;
                            timings.first_token_ms = timings.first_token_ms.or(took);
                        }
                        tokens += u64::from(piece.count);
                        let ids = record.job.canonical.return_token_ids.then_some(&*piece.ids);
                        stream.log.token(&piece.text, piece.count, ids);
                    }
                    GenerationEvent::Finished { reason, usage, .. } => {
                        finished = Some(*usage);
                        note_prompt(stream, usage.prompt_tokens, self.attempt.kept);
                        finish(stream, now, self.first_token, reason);
                    }
                }
            }
        });
        crash::here(if finished.is_some() { Point::Closed } else { Point::Relayed });
        self.events = events;
        self.events.clear();
        self.attempt.series().tokens_out.inc_by(tokens);
        if !open || !current {
            return Some(Outcome::Closed);
        }
        let Some(usage) = finished else {
            self.report(now);
            return None;
        };
        Telemetry::completed(self.attempt, usage);
        Some(Outcome::Completed)
    }

    /// Tells the core, at the first token and now and then.
    fn report(&mut self, now: Instant) {
        let due = self.reported.is_none_or(|it| it + REPORT_EVERY <= now);
        if due && self.first_token.is_some() {
            self.reported = Some(now);
            let usage = self.attempt.usage(&self.attempt.record.lock());
            self.attempt.handle.progress(self.attempt.run, usage);
        }
    }

    /// Which limit has passed, if one has; otherwise the timer is set to the next one.
    fn poll_watchdog(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let config = &self.attempt.config;
            let silence: (&'static str, Duration, Instant) = if self.first_token.is_some() {
                ("idle", config.idle, self.progress + config.idle)
            } else {
                ("first token", config.first_token, self.started + config.first_token)
            };
            let wall = ("wall", config.wall, self.started + config.wall);
            let (limit, after, at) = if wall.2 < silence.2 { wall } else { silence };
            if at <= Instant::now() {
                return Poll::Ready(Failure::Timeout { limit, after, again: limit != wall.0 });
            }
            // Moved here only: a token costs no timer operation.
            self.timer.as_mut().reset(at);
        }
        Poll::Pending
    }
}

impl Future for Relay<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        loop {
            match this.generation.poll_events(cx, &mut this.events) {
                Poll::Ready(Ok(())) => {
                    if let Some(outcome) = this.deliver() {
                        return Poll::Ready(outcome);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(this.broken(error)),
                Poll::Pending => break,
            }
        }
        {
            let mut stream = this.attempt.record.lock();
            if let Some(outcome) = this.attempt.interruption(&stream) {
                return Poll::Ready(outcome);
            }
            stream.watch_close(cx.waker());
        }
        this.poll_watchdog(cx).map(Outcome::Failed)
    }
}

impl Relay<'_> {
    /// Tokens that came before the break are the client's.
    fn broken(&mut self, error: EngineError) -> Outcome {
        if !self.events.is_empty()
            && let Some(outcome) = self.deliver()
        {
            return outcome;
        }
        Outcome::Failed(Failure::Engine(error))
    }
}

/// The first event of an attempt.
pub(super) fn announce(attempt: &Attempt, stream: &mut Stream) {
    let placement = &attempt.replica.placement;
    let kv_warmth = stream.progress.kv_warmth();
    let (sampling, features) = (attempt.record.job.sampling, &attempt.replica.features);
    let names = |it: Vec<&str>| it.into_iter().map(str::to_owned).collect();
    if stream.log.last_id() != 0 {
        let resumed = Resumed {
            attempt: attempt.run.attempt.0,
            replica_id: placement.replica_id.clone(),
            determinism: ResumedDeterminism::BestEffort,
            kv_migrated: false,
            kv_warmth,
            settings_restarted: names(sampling.restarting(features)),
        };
        stream.log.event("resumed", &resumed);
        return;
    }
    let started = Started {
        queue_position: stream.progress.queue_position,
        predicted_start_ms: stream.progress.predicted_start_ms,
        queue_time_ms: stream.progress.timings.queue_time_ms.unwrap_or(0),
        engine: placement.engine.clone(),
        engine_version: placement.engine_version.clone(),
        pool_id: placement.pool_id.clone(),
        replica_id: placement.replica_id.clone(),
        model_id: attempt.record.job.model_name.clone(),
        model_digest: placement.model_digest.clone(),
        kv_warmth,
        attempt: attempt.run.attempt.0,
        seed: attempt.record.job.seed,
        settings_left_out: names(sampling.beyond(features)),
    };
    stream.log.event("started", &started);
}

/// The prompt of a resumed attempt holds the answer so far; only the first one tells its size.
fn note_prompt(stream: &mut Stream, tokens: u32, kept: u32) {
    if kept == 0 || stream.progress.usage.tokens_in == 0 {
        stream.progress.usage.tokens_in = u64::from(tokens.saturating_sub(kept));
    }
}

fn finish(
    stream: &mut Stream,
    now: Instant,
    first_token: Option<Instant>,
    reason: &adapter_api::FinishReason,
) {
    stream.progress.timings.decode_time_ms = first_token.map(|it| millis(now - it));
    let (reason, stop) = match reason {
        adapter_api::FinishReason::EndOfText => (FinishReason::Stop, None),
        adapter_api::FinishReason::StopSequence(it) => (FinishReason::Stop, Some(it.clone())),
        adapter_api::FinishReason::Length | adapter_api::FinishReason::ContextFull => {
            (FinishReason::Length, None)
        }
    };
    close_with_end(stream, reason, stop);
}
