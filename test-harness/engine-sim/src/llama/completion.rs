//! `POST /completion`: admission to a slot, and the answer that is not a stream.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::answers::{self, Then};
use super::frames::{self, Final, Timings};
use super::request::Job;
use super::stream::Stream;
use crate::directives::Fault;
use crate::engine::Engine;
use crate::numbering::{self, FIRST_ANSWER_ID, Style};
use crate::slots::Held;
use crate::wire::{Gone, Wire};

pub(super) async fn answer(
    engine: &Engine,
    wire: &mut Wire,
    body: Range<usize>,
) -> Result<Then, Gone> {
    let offset = body.start;
    let job = match Job::parse(&engine.args, wire.request_bytes(body), offset) {
        Ok(job) => job,
        Err(refused) => return answers::refuse(wire, refused.status, &refused.message).await,
    };
    if let Some(status) = job.directives.status {
        return answers::refuse(wire, status, "failure on demand").await;
    }
    if job.prompt_tokens >= engine.args.slot_context {
        return answers::overflow(wire, job.prompt_tokens, engine.args.slot_context).await;
    }
    let wanted = u32::try_from(job.id_slot).ok();
    let held = match engine.slots.try_take(wanted) {
        Some(held) => held,
        None => wire.while_present(engine.slots.take(wanted)).await?,
    };
    let plan = Plan::of(engine, &job);
    held.slot.prompt_tokens.store(job.prompt_tokens, Relaxed);
    held.slot.decoded.store(0, Relaxed);
    held.slot.tokens_max.store(plan.tokens, Relaxed);
    engine.stats.prompt_tokens.fetch_add(job.prompt_tokens.into(), Relaxed);
    if !job.directives.slow_headers.is_zero() {
        wire.pause_until(Instant::now() + job.directives.slow_headers).await?;
    }
    wire.split = job.directives.split;
    if job.stream {
        Stream::new(engine, wire, &job, &held, plan).run().await
    } else {
        whole(engine, wire, &job, &held, plan).await
    }
}

/// How an answer would end if no stop sequence and no fault came first.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) tokens: u32,
    pub(super) stop_type: &'static str,
    pub(super) truncated: bool,
    pub(super) prefill_per_token: Duration,
    pub(super) decode_per_token: Duration,
}

impl Plan {
    fn of(engine: &Engine, job: &Job) -> Self {
        let room = engine.args.slot_context - job.prompt_tokens;
        // Recorded: a limit of 0 still gives one token; a negative one is no limit.
        let limit = u32::try_from(job.settings.n_predict).map_or(u32::MAX, |limit| limit.max(1));
        let (tokens, stop_type, truncated) = match job.directives.tokens {
            Some(end) if end <= limit && end <= room => (end, "eos", false),
            _ if limit <= room => (limit, "limit", false),
            _ => (room, "limit", true),
        };
        Self {
            tokens,
            stop_type,
            truncated,
            prefill_per_token: engine.args.prefill_per_token,
            decode_per_token: job.directives.decode.unwrap_or(engine.args.decode_per_token),
        }
    }
}

/// The text of an answer as it grows, with what may yet become a stop sequence held back.
pub(super) struct Speech<'a> {
    stop: &'a [String],
    style: Style,
    unsent: Vec<u8>,
}

impl<'a> Speech<'a> {
    pub(super) fn new(job: &'a Job) -> Self {
        let style = Style { multi_byte: job.directives.utf8, pad: job.directives.pad };
        Self { stop: &job.stop, style, unsent: Vec::with_capacity(64) }
    }

    /// Appends to `out` what token `number` makes sayable; returns the stop sequence it completed.
    ///
    /// As in the real engine, all unsent text is held back while its end could begin a stop sequence.
    pub(super) fn say(&mut self, out: &mut Vec<u8>, number: u64, last: bool) -> Option<&'a str> {
        if self.stop.is_empty() {
            numbering::push_text(out, number, self.style);
            return None;
        }
        numbering::push_text(&mut self.unsent, number, self.style);
        let found = self
            .stop
            .iter()
            .filter_map(|word| Some((memchr::memmem::find(&self.unsent, word.as_bytes())?, word)))
            .min_by_key(|(at, _)| *at);
        if let Some((at, word)) = found {
            out.extend_from_slice(&self.unsent[..at]);
            return Some(word);
        }
        if last || !self.stop.iter().any(|word| ends_in_start_of(&self.unsent, word.as_bytes())) {
            out.append(&mut self.unsent);
        }
        None
    }
}

fn ends_in_start_of(text: &[u8], word: &[u8]) -> bool {
    (1..word.len()).any(|len| text.ends_with(&word[..len]))
}

pub(super) fn ms_between(from: Instant, to: Instant) -> f64 {
    // Three decimals, as the real engine has.
    (to.duration_since(from).as_secs_f64() * 1e6).round() / 1e3
}

async fn whole(
    engine: &Engine,
    wire: &mut Wire,
    job: &Job,
    held: &Held<'_>,
    plan: Plan,
) -> Result<Then, Gone> {
    let start = Instant::now();
    let prefill = plan.prefill_per_token * job.prompt_tokens;
    if !prefill.is_zero() {
        wire.pause_until(start + prefill).await?;
    }
    let decode_start = Instant::now();
    let mut speech = Speech::new(job);
    let (mut content, mut tokens, mut stopped, mut predicted) = (Vec::new(), Vec::new(), None, 0);
    let fault_at = job.directives.fault.map_or(plan.tokens, |(after, _)| after.min(plan.tokens));
    while predicted < fault_at && stopped.is_none() {
        let number = job.first_number + u64::from(predicted);
        stopped = speech.say(&mut content, number, predicted + 1 == plan.tokens);
        tokens.push(FIRST_ANSWER_ID + number);
        predicted += 1;
    }
    let decode = plan.decode_per_token * predicted;
    if !decode.is_zero() {
        wire.pause_until(decode_start + decode).await?;
    }
    held.slot.decoded.store(predicted, Relaxed);
    engine.stats.tokens_sent.fetch_add(predicted.into(), Relaxed);
    match job.directives.fault {
        Some((after, fault)) if after == predicted => return fail_whole(wire, fault).await,
        _ => {}
    }
    let timings = Timings {
        prompt_tokens: job.prompt_tokens,
        prompt_ms: ms_between(start, decode_start),
        predicted,
        predicted_ms: ms_between(decode_start, Instant::now()),
    };
    let prompt = job.prompt_echo.clone().map(|at| wire.request_bytes(at)).unwrap_or_default();
    let mut body = Vec::with_capacity(2048 + content.len() + prompt.len());
    frames::push_final(
        &mut body,
        &Final {
            content: &content,
            tokens: if job.return_tokens { &tokens } else { &[] },
            slot: held.index,
            model: &engine.args.alias,
            predicted,
            evaluated: job.prompt_tokens,
            settings: &job.settings,
            prompt,
            truncated: plan.truncated && stopped.is_none(),
            stop_type: if stopped.is_some() { "word" } else { plan.stop_type },
            stopping_word: stopped.unwrap_or_default(),
            timings,
        },
    );
    answers::json(wire, &body).await
}

async fn fail_whole(wire: &mut Wire, fault: Fault) -> Result<Then, Gone> {
    match fault {
        Fault::Die => std::process::abort(),
        Fault::Hang => wire.while_present(std::future::pending()).await,
        Fault::Reset => {
            wire.reset_on_drop();
            Ok(Then::Close)
        }
        Fault::Eof | Fault::HalfClose => Ok(Then::Close),
        Fault::Error => answers::refuse(wire, 500, "Context size has been exceeded.").await,
    }
}
