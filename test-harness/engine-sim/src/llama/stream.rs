//! One streamed answer: progress, tokens at their pace, faults on their token, the final event.

use std::future::pending;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::answers::Then;
use super::completion::{Plan, Speech, ms_between};
use super::frames::{self, Common, Final, Timings};
use super::request::Job;
use crate::directives::Fault;
use crate::engine::Engine;
use crate::numbering::FIRST_ANSWER_ID;
use crate::slots::Held;
use crate::wire::{Gone, Wire};

/// Bytes of a stream without pacing that one write carries: enough to make the system call cheap,
/// small enough to stay in the first-level cache.
const WRITE_BYTES: usize = 16 * 1024;
/// Short enough for a test to wait for several.
const HANG_PING: Duration = Duration::from_millis(50);

pub(super) struct Stream<'a> {
    engine: &'a Engine,
    wire: &'a mut Wire,
    job: &'a Job,
    held: &'a Held<'a>,
    plan: Plan,
    common: Common,
    /// The event under construction.
    event: Vec<u8>,
    sent: u32,
    /// Tokens that the counters have seen.
    counted: u32,
    /// Events since the last write.
    unwritten: u32,
    last_write: Instant,
    prompt_start: Instant,
    decode_start: Instant,
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        wire: &'a mut Wire,
        job: &'a Job,
        held: &'a Held<'a>,
        plan: Plan,
    ) -> Self {
        let start = Instant::now();
        Self {
            engine,
            wire,
            job,
            held,
            plan,
            common: Common { id_slot: job.id_slot, evaluated: job.prompt_tokens },
            event: Vec::with_capacity(256),
            sent: 0,
            counted: 0,
            unwritten: 0,
            last_write: start,
            prompt_start: start,
            decode_start: start,
        }
    }

    pub(super) async fn run(mut self) -> Result<Then, Gone> {
        let outcome = self.generate().await;
        self.count();
        outcome
    }

    async fn generate(&mut self) -> Result<Then, Gone> {
        self.wire.out.extend_from_slice(frames::STREAM_HEAD);
        self.prefill().await?;
        let job = self.job;
        let mut speech = Speech::new(job);
        let mut text = Vec::with_capacity(64);
        let mut stopped = None;
        let paced = !self.plan.decode_per_token.is_zero();
        loop {
            if let Some((after, fault)) = job.directives.fault
                && after == self.sent
            {
                return self.fail(fault).await;
            }
            if self.engine.is_hung() {
                return self.fail(Fault::Hang).await;
            }
            if job.directives.malformed_after == Some(self.sent) {
                frames::push_chunk(&mut self.wire.out, frames::MALFORMED);
            }
            if stopped.is_some() || self.sent == self.plan.tokens {
                break;
            }
            if paced {
                self.pause(self.decode_start + self.plan.decode_per_token * (self.sent + 1))
                    .await?;
            }
            let number = job.first_number + u64::from(self.sent);
            text.clear();
            stopped = speech.say(&mut text, number, self.sent + 1 == self.plan.tokens);
            self.sent += 1;
            self.push_token(&text, FIRST_ANSWER_ID + number);
            self.write_if_due(paced).await?;
        }
        self.finish(stopped).await
    }

    async fn prefill(&mut self) -> Result<(), Gone> {
        let (total, per_token) = (self.job.prompt_tokens, self.plan.prefill_per_token);
        self.push_progress(0);
        if !per_token.is_zero() {
            let batch = self.engine.args.progress_tokens;
            let mut processed = 0;
            while processed < total {
                processed = total.min(processed + batch);
                self.pause(self.prompt_start + per_token * processed).await?;
                if processed < total {
                    self.push_progress(processed);
                }
            }
        }
        self.push_progress(total);
        self.decode_start = Instant::now();
        Ok(())
    }

    fn push_progress(&mut self, processed: u32) {
        if !self.job.progress {
            return;
        }
        let elapsed = self.prompt_start.elapsed();
        let timings = self.job.timings_per_token.then(|| Timings {
            prompt_tokens: processed,
            prompt_ms: ms_between(self.prompt_start, Instant::now()),
            ..Timings::default()
        });
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        frames::push_progress(&mut self.event, self.common, timings.as_ref(), processed, ms);
        self.end_event();
    }

    fn push_token(&mut self, text: &[u8], id: u64) {
        frames::push_token(&mut self.event, self.common, text, id, self.sent);
        if self.job.timings_per_token {
            let timings = self.timings();
            frames::push_timings(&mut self.event, &timings);
        }
        self.end_event();
    }

    /// Closes the JSON object and the event, and appends it to the output.
    fn end_event(&mut self) {
        self.event.extend_from_slice(b"}\n\n");
        frames::push_chunk(&mut self.wire.out, &self.event);
        self.event.clear();
        self.unwritten += 1;
    }

    async fn write_if_due(&mut self, paced: bool) -> Result<(), Gone> {
        let due = match self.job.directives {
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
        self.wire.flush().await?;
        self.unwritten = 0;
        self.last_write = Instant::now();
        self.count();
        Ok(())
    }

    fn count(&mut self) {
        self.held.slot.decoded.store(self.sent, Relaxed);
        let more = self.sent - self.counted;
        self.engine.stats.tokens_sent.fetch_add(more.into(), Relaxed);
        self.counted = self.sent;
    }

    /// Waits until `deadline`, with comments when the silence grows long.
    async fn pause(&mut self, deadline: Instant) -> Result<(), Gone> {
        if self.job.directives.merge == 0 && !self.wire.out.is_empty() {
            self.write().await?;
        }
        while let Some(ping) = self.job.ping
            && self.last_write + ping < deadline
        {
            self.wire.pause_until(self.last_write + ping).await?;
            self.wire.out.extend_from_slice(frames::PING);
            self.write().await?;
        }
        self.wire.pause_until(deadline).await
    }

    fn timings(&self) -> Timings {
        Timings {
            prompt_tokens: self.job.prompt_tokens,
            prompt_ms: ms_between(self.prompt_start, self.decode_start),
            predicted: self.sent,
            predicted_ms: ms_between(self.decode_start, Instant::now()),
        }
    }

    async fn finish(&mut self, stopped: Option<&str>) -> Result<Then, Gone> {
        let timings = self.timings();
        self.event.extend_from_slice(b"data: ");
        let echo = self.job.prompt_echo.clone().unwrap_or_default();
        frames::push_final(
            &mut self.event,
            &Final {
                content: b"",
                tokens: &[],
                slot: self.held.index,
                model: &self.engine.args.alias,
                predicted: self.sent,
                evaluated: self.job.prompt_tokens,
                settings: &self.job.settings,
                prompt: self.wire.request_bytes(echo),
                truncated: self.plan.truncated && stopped.is_none(),
                stop_type: if stopped.is_some() { "word" } else { self.plan.stop_type },
                stopping_word: stopped.unwrap_or_default(),
                timings,
            },
        );
        self.event.extend_from_slice(b"\n\n");
        frames::push_chunk(&mut self.wire.out, &self.event);
        self.event.clear();
        self.wire.out.extend_from_slice(frames::END);
        self.write().await?;
        Ok(Then::KeepOpen)
    }

    async fn fail(&mut self, fault: Fault) -> Result<Then, Gone> {
        if fault == Fault::Error {
            frames::push_chunk(&mut self.wire.out, frames::MID_STREAM_ERROR);
        }
        if matches!(fault, Fault::Error | Fault::Eof) {
            self.wire.out.extend_from_slice(frames::END);
        }
        if fault == Fault::HalfClose {
            self.wire.out.extend_from_slice(b"75\r\ndata: {\"index\":0,\"content\":\"");
        }
        self.write().await?;
        match fault {
            Fault::Die => std::process::abort(),
            Fault::Hang => self.hang().await,
            Fault::Reset => {
                self.wire.reset_on_drop();
                Ok(Then::Close)
            }
            Fault::Eof | Fault::Error => Ok(Then::KeepOpen),
            Fault::HalfClose => {
                self.wire.close_sending_side().await;
                self.wire.while_present(pending()).await
            }
        }
    }

    async fn hang(&mut self) -> Result<Then, Gone> {
        if !self.job.directives.hang_ping {
            return self.wire.while_present(pending()).await;
        }
        loop {
            self.wire.pause_until(Instant::now() + HANG_PING).await?;
            self.wire.out.extend_from_slice(frames::PING);
            self.write().await?;
        }
    }
}
