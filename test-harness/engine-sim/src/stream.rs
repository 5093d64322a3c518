//! One streamed answer in any dialect: tokens at their pace, faults on their token, the last events.
//!
//! What the bytes look like is the [`Encoder`]'s affair. It is a type parameter, because this loop is
//! what the benchmarks measure a relay against: per token there is no allocation and no indirect call.

use std::future::pending;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use crate::decimal::push_hex;
use crate::directives::Fault;
use crate::engine::Engine;
use crate::generation::{Broken, Clock, Ending, Generation, Plan, Task, Watch, occupy};
use crate::live::Reason;
use crate::numbering::EOS;
use crate::slots::{Held, Place};
use crate::wire::{Gone, Then, Wire};

/// Bytes of a stream without pacing that one write carries: enough to make the system call cheap,
/// small enough to stay in the first-level cache.
const WRITE_BYTES: usize = 16 * 1024;
/// Short enough for a test to wait for several.
const HANG_PING: Duration = Duration::from_millis(50);

const PING: &[u8] = b"3\r\n:\n\n\r\n";
pub(crate) const END: &[u8] = b"0\r\n\r\n";

/// When a dialect sends the head of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadAt {
    /// Before the request has a slot.
    Once,
    /// When the prompt starts to be processed.
    PromptStart,
    /// With the first event, whose kind decides the status.
    FirstEvent,
}

/// One token of an answer.
pub(crate) struct Token<'a> {
    /// Escaped for JSON; can be empty.
    pub(crate) text: &'a [u8],
    pub(crate) id: u64,
    /// The end of text rather than text.
    pub(crate) special: bool,
    /// Set on the last one.
    pub(crate) ending: Option<Ending<'a>>,
}

/// What the last event can tell.
pub(crate) struct Last<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) ending: Ending<'a>,
    pub(crate) slot: u32,
    /// The bytes of the request.
    pub(crate) request: &'a [u8],
}

/// The bytes of a dialect's streams. Every method appends one whole event, without chunk framing, or
/// nothing.
pub(crate) trait Encoder {
    const HEAD_AT: HeadAt;
    /// Whether a peer that goes is noticed at once; otherwise only before the next write.
    const WATCHES: bool = true;
    /// Whether the size of a chunk is written in capitals.
    const UPPER_HEX: bool = false;
    /// The event that ends every stream, also a failed one.
    const DONE: &'static [u8] = b"";
    /// An event that is not JSON.
    const MALFORMED: &'static [u8];
    /// The start of a chunk that is never completed.
    const TORN: &'static [u8];

    fn head(&self, out: &mut Vec<u8>);

    /// The head of an answer whose first event is an error.
    fn error_head(&self, out: &mut Vec<u8>) {
        self.head(out);
    }

    /// Prompt tokens per progress report; `None` for no reports.
    fn progress_step(&self) -> Option<u32> {
        None
    }

    fn progress(&mut self, _event: &mut Vec<u8>, _clock: &Clock, _processed: u32) {}

    fn token(&mut self, event: &mut Vec<u8>, clock: &Clock, token: &Token<'_>);

    fn last(&mut self, _event: &mut Vec<u8>, _last: &Last<'_>) {}

    fn error(&self, event: &mut Vec<u8>);

    /// Appends the error that a stream ends in which somebody else aborted; false where an abort is
    /// no error but an ending.
    fn abort(&self, _event: &mut Vec<u8>) -> bool {
        false
    }
}

struct Stream<'a, E> {
    engine: &'a Engine,
    wire: &'a mut Wire,
    task: &'a Task,
    plan: Plan,
    watch: Watch<'a>,
    held: Option<Held<'a>>,
    encoder: E,
    clock: Clock,
    /// The event under construction.
    event: Vec<u8>,
    head_sent: bool,
    /// Tokens that the counters have seen.
    counted: u32,
    /// Events since the last write.
    unwritten: u32,
    last_write: Instant,
}

impl<'a> Generation<'a> {
    /// Answers with a stream.
    pub(crate) async fn stream<E: Encoder>(
        self,
        wire: &'a mut Wire,
        encoder: E,
    ) -> Result<Then, Gone> {
        let clock = Clock::start();
        wire.split = self.task.directives.split;
        let stream = Stream {
            engine: self.engine,
            wire,
            task: self.task,
            plan: Plan::of(self.engine, self.task),
            watch: Watch { watches: E::WATCHES, interrupt: self.interrupt },
            held: None,
            encoder,
            clock,
            event: Vec::with_capacity(256),
            head_sent: false,
            counted: 0,
            unwritten: 0,
            last_write: clock.prompt_start,
        };
        stream.run(self.place).await
    }
}

impl<'a, E: Encoder> Stream<'a, E> {
    async fn run(mut self, place: Place<'a>) -> Result<Then, Gone> {
        let outcome = match self.admit(place).await {
            Ok(()) => self.generate().await,
            Err(broken) => Err(broken),
        };
        self.count();
        match outcome {
            Ok(then) => Ok(then),
            Err(Broken::Gone) => Err(Gone),
            Err(Broken::Cut(reason)) => self.cut(reason).await,
        }
    }

    /// Takes the slot, with the head before or after it.
    async fn admit(&mut self, place: Place<'a>) -> Result<(), Broken> {
        if E::HEAD_AT == HeadAt::Once {
            self.delay_head().await?;
            self.begin();
            self.write().await?;
        }
        let engine = self.engine;
        if engine.is_asleep() {
            self.wait(engine.awake()).await?;
        }
        let held = match place {
            Place::Held(held) => held,
            place => self.wait(engine.slots.take(place, self.task.slot)).await?,
        };
        occupy(engine, self.task, &held, self.plan);
        self.held = Some(held);
        if E::HEAD_AT != HeadAt::Once {
            self.delay_head().await?;
        }
        if E::HEAD_AT == HeadAt::PromptStart {
            self.begin();
        }
        self.clock = Clock::start();
        Ok(())
    }

    async fn delay_head(&mut self) -> Result<(), Broken> {
        match self.task.directives.slow_headers {
            Duration::ZERO => Ok(()),
            delay => self.watch.pause(self.wire, Instant::now() + delay).await,
        }
    }

    /// Appends the head, once.
    fn begin(&mut self) {
        if !self.head_sent {
            self.encoder.head(&mut self.wire.out);
            self.head_sent = true;
        }
    }

    /// Waits for `ready`, with comments when the silence grows long and the head was sent.
    async fn wait<T>(&mut self, ready: impl Future<Output = T>) -> Result<T, Broken> {
        let mut ready = std::pin::pin!(ready);
        while let Some(ping) = self.task.ping
            && self.head_sent
        {
            let silence_end = self.last_write + ping;
            let waited = self.watch.wait(self.wire, ready.as_mut());
            match tokio::time::timeout_at(silence_end, waited).await {
                Ok(done) => return done,
                Err(_) => {
                    self.wire.out.extend_from_slice(PING);
                    self.write().await?;
                }
            }
        }
        self.watch.wait(self.wire, ready).await
    }

    async fn generate(&mut self) -> Result<Then, Broken> {
        self.prefill().await?;
        let task = self.task;
        let mut speech = task.speech();
        let mut text = Vec::with_capacity(64);
        let mut stopped = None;
        let paced = !self.plan.pace.decode.is_zero();
        loop {
            if let Some(fault) = task.fault_at(self.clock.sent) {
                return Ok(self.fail(fault).await?);
            }
            if self.engine.is_hung() {
                return Ok(self.fail(Fault::Hang).await?);
            }
            if task.directives.malformed_after == Some(self.clock.sent) {
                self.begin();
                push_chunk::<E>(&mut self.wire.out, E::MALFORMED);
            }
            if stopped.is_some() || self.clock.sent == self.plan.tokens {
                break;
            }
            if let Some(reason) = self.watch.interrupt.and_then(|it| it.reason()) {
                return Err(Broken::Cut(reason));
            }
            if paced {
                let decoded = self.plan.pace.decode * (self.clock.sent + 1);
                self.pause(self.clock.decode_start + decoded).await?;
            }
            let index = self.clock.sent;
            let last = index + 1 == self.plan.tokens;
            text.clear();
            let special = last && self.plan.eos_token;
            if special {
                speech.flush(&mut text);
            } else {
                stopped = speech.say(&mut text, index, last);
            }
            self.clock.sent += 1;
            let id = if special { EOS.into() } else { speech.id(index) };
            let ending = self.ending_of_token(stopped, last);
            self.push_token(&Token { text: &text, id, special, ending });
            self.write_if_due(paced).await?;
        }
        Ok(self.finish(stopped.map_or(self.plan.ending, Ending::Stop)).await?)
    }

    /// What the token just counted ends with, unless a fault is to come before the end.
    fn ending_of_token<'t>(&self, stopped: Option<&'t str>, last: bool) -> Option<Ending<'t>> {
        if stopped.is_none() && !last || self.task.fault_at(self.clock.sent).is_some() {
            return None;
        }
        Some(stopped.map_or(self.plan.ending, Ending::Stop))
    }

    async fn prefill(&mut self) -> Result<(), Broken> {
        let (total, per_token) = (self.task.prompt_tokens, self.plan.pace.prefill);
        self.push_progress(0);
        if !per_token.is_zero() {
            let batch = self.encoder.progress_step().unwrap_or(total);
            let mut processed = 0;
            while processed < total {
                processed = total.min(processed + batch);
                self.pause(self.clock.prompt_start + per_token * processed).await?;
                if processed < total {
                    self.push_progress(processed);
                }
            }
        }
        self.push_progress(total);
        self.clock.decode_start = Instant::now();
        Ok(())
    }

    fn push_progress(&mut self, processed: u32) {
        self.encoder.progress(&mut self.event, &self.clock, processed);
        self.end_event();
    }

    fn push_token(&mut self, token: &Token<'_>) {
        if E::HEAD_AT == HeadAt::FirstEvent {
            self.begin();
        }
        self.encoder.token(&mut self.event, &self.clock, token);
        self.end_event();
    }

    /// Appends the event, if there is one, to the output.
    fn end_event(&mut self) {
        if self.event.is_empty() {
            return;
        }
        push_chunk::<E>(&mut self.wire.out, &self.event);
        self.event.clear();
        self.unwritten += 1;
    }

    async fn write_if_due(&mut self, paced: bool) -> Result<(), Gone> {
        let due = match self.task.directives {
            directives if directives.merge > 0 => self.unwritten >= directives.merge,
            directives => paced || directives.split > 0 || self.wire.out.len() >= WRITE_BYTES,
        };
        if !due {
            return Ok(());
        }
        self.write().await?;
        if !paced {
            // Streams that never wait would otherwise keep the thread from the others.
            tokio::task::yield_now().await;
            self.wire.check_present()?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Gone> {
        if !E::WATCHES {
            self.wire.check_present()?;
        }
        self.wire.flush().await?;
        self.unwritten = 0;
        self.last_write = Instant::now();
        self.count();
        Ok(())
    }

    fn count(&mut self) {
        let Some(held) = &self.held else { return };
        held.slot.decoded.store(self.clock.sent, Relaxed);
        let more = self.clock.sent - self.counted;
        self.engine.stats.tokens_sent.fetch_add(more.into(), Relaxed);
        self.counted = self.clock.sent;
    }

    /// Waits until `deadline`, with comments when the silence grows long.
    async fn pause(&mut self, deadline: Instant) -> Result<(), Broken> {
        if self.task.directives.merge == 0 && !self.wire.out.is_empty() {
            self.write().await?;
        }
        while let Some(ping) = self.task.ping
            && self.last_write + ping < deadline
        {
            self.watch.pause(self.wire, self.last_write + ping).await?;
            self.wire.out.extend_from_slice(PING);
            self.write().await?;
        }
        self.watch.pause(self.wire, deadline).await
    }

    async fn finish(&mut self, ending: Ending<'_>) -> Result<Then, Gone> {
        self.begin();
        let last = Last {
            clock: &self.clock,
            ending,
            slot: self.held.as_ref().map_or(0, |held| held.index),
            request: self.wire.request(),
        };
        self.encoder.last(&mut self.event, &last);
        self.end_event();
        self.push_end();
        self.engine.stats.finished.fetch_add(1, Relaxed);
        self.write().await?;
        Ok(Then::KeepOpen)
    }

    fn push_end(&mut self) {
        if !E::DONE.is_empty() {
            push_chunk::<E>(&mut self.wire.out, E::DONE);
        }
        self.wire.out.extend_from_slice(END);
    }

    /// Ends the stream as `reason` wants it.
    async fn cut(&mut self, reason: Reason) -> Result<Then, Gone> {
        match reason {
            Reason::Dead => self.fail(Fault::Error).await,
            Reason::Abort if self.encoder.abort(&mut self.event) => self.end_in_error().await,
            Reason::Abort => {
                let ending = Some(Ending::Abort);
                self.push_token(&Token { text: b"", id: EOS.into(), special: true, ending });
                self.finish(Ending::Abort).await
            }
        }
    }

    /// Sends the error that is the event under construction, and the end.
    async fn end_in_error(&mut self) -> Result<Then, Gone> {
        if !self.head_sent {
            self.encoder.error_head(&mut self.wire.out);
            self.head_sent = true;
        }
        self.end_event();
        self.push_end();
        self.write().await?;
        Ok(Then::KeepOpen)
    }

    async fn fail(&mut self, fault: Fault) -> Result<Then, Gone> {
        match fault {
            Fault::Error => {
                self.encoder.error(&mut self.event);
                return self.end_in_error().await;
            }
            Fault::Eof => {
                self.begin();
                self.wire.out.extend_from_slice(END);
            }
            Fault::HalfClose => {
                self.begin();
                self.wire.out.extend_from_slice(E::TORN);
            }
            Fault::Die | Fault::Hang | Fault::Reset => {}
        }
        self.write().await?;
        match fault {
            Fault::Die => std::process::abort(),
            Fault::Hang => self.hang().await,
            Fault::Reset => {
                self.wire.reset_on_drop();
                Ok(Then::Close)
            }
            Fault::Error | Fault::Eof => Ok(Then::KeepOpen),
            Fault::HalfClose => {
                self.wire.close_sending_side().await;
                self.wire.while_present(pending()).await
            }
        }
    }

    async fn hang(&mut self) -> Result<Then, Gone> {
        if !self.task.directives.hang_ping {
            if E::WATCHES {
                return self.wire.while_present(pending()).await;
            }
            return pending().await;
        }
        self.begin();
        loop {
            let next = Instant::now() + HANG_PING;
            if E::WATCHES {
                self.wire.pause_until(next).await?;
            } else {
                self.wire.sleep_until(next).await;
            }
            self.wire.out.extend_from_slice(PING);
            self.write().await?;
        }
    }
}

/// Appends `payload` as one chunk.
#[inline]
pub(crate) fn push_chunk<E: Encoder>(out: &mut Vec<u8>, payload: &[u8]) {
    push_hex(out, payload.len(), E::UPPER_HEX);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}
