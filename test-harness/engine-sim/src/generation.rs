//! A generation as every dialect sees it: what was asked, how it would end, and the answer that is
//! not a stream.

use std::future::pending;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use crate::args::Pace;
use crate::directives::{Directives, Fault};
use crate::engine::Engine;
use crate::live::{Interrupt, Reason};
use crate::numbering::{EOS, Style};
use crate::slots::{Held, Place};
use crate::speech::{Speech, Stops};
use crate::wire::{Gone, Then, Wire};

/// What a request comes down to, in any dialect.
#[derive(Default)]
pub(crate) struct Task {
    pub(crate) prompt_tokens: u32,
    pub(crate) first_number: u64,
    pub(crate) stops: Stops,
    pub(crate) directives: Directives,
    /// The answer, one piece per token, if it is not numbered text.
    pub(crate) script: Option<Vec<String>>,
    /// Tokens at most.
    pub(crate) limit: u32,
    pub(crate) slot: Option<u32>,
    /// Silence before a comment.
    pub(crate) ping: Option<Duration>,
    /// Whether the end of text is a token of its own, counted and sent.
    pub(crate) eos_is_token: bool,
}

impl Task {
    pub(crate) fn speech(&self) -> Speech<'_> {
        match &self.script {
            Some(script) => Speech::script(script, &self.stops),
            None => {
                let style = Style { multi_byte: self.directives.utf8, pad: self.directives.pad };
                Speech::numbers(self.first_number, style, &self.stops)
            }
        }
    }

    /// The fault that is due once `sent` tokens were.
    pub(crate) fn fault_at(&self, sent: u32) -> Option<Fault> {
        self.directives.fault.filter(|(after, _)| *after == sent).map(|(_, fault)| fault)
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending<'a> {
    Eos,
    Length,
    /// As [`Ending::Length`], because the context was full.
    ContextFull,
    Stop(&'a str),
    Abort,
}

/// How an answer ends if no stop string and no fault comes first.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Tokens in all, with the end of text where that is one.
    pub(crate) tokens: u32,
    pub(crate) ending: Ending<'static>,
    /// Whether the last token is the end of text.
    pub(crate) eos_token: bool,
    pub(crate) pace: Pace,
}

impl Plan {
    pub(crate) fn of(engine: &Engine, task: &Task) -> Self {
        let room = engine.args.slot_context.saturating_sub(task.prompt_tokens);
        let script = task.script.as_ref().map(|pieces| u32::try_from(pieces.len()));
        let script = script.map(|len| len.unwrap_or(u32::MAX));
        let said = match (task.directives.tokens, script) {
            (Some(tokens), Some(script)) => Some(tokens.min(script)),
            (tokens, script) => tokens.or(script),
        };
        let end = said.map(|said| said + u32::from(task.eos_is_token));
        let (tokens, ending) = match end {
            Some(end) if end <= task.limit && end <= room => (end, Ending::Eos),
            _ if task.limit <= room => (task.limit, Ending::Length),
            _ => (room, Ending::ContextFull),
        };
        Self {
            tokens,
            ending,
            eos_token: ending == Ending::Eos && task.eos_is_token,
            pace: Pace {
                prefill: engine.args.pace.prefill,
                decode: task.directives.decode.unwrap_or(engine.args.pace.decode),
            },
        }
    }
}

/// How far a generation is.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) prompt_start: Instant,
    pub(crate) decode_start: Instant,
    /// Tokens generated.
    pub(crate) sent: u32,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { prompt_start: now, decode_start: now, sent: 0 }
    }
}

/// Milliseconds with three decimals.
pub(crate) fn ms_between(from: Instant, to: Instant) -> f64 {
    (to.duration_since(from).as_secs_f64() * 1e6).round() / 1e3
}

/// What keeps a generation from going on.
pub(crate) enum Broken {
    Gone,
    Cut(Reason),
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// An admitted generation.
pub(crate) struct Generation<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) task: &'a Task,
    pub(crate) place: Place<'a>,
    pub(crate) interrupt: Option<&'a Interrupt>,
}

/// An answer in one piece.
pub(crate) struct Whole<'a> {
    /// Escaped for JSON.
    pub(crate) content: Vec<u8>,
    pub(crate) ids: Vec<u64>,
    /// Where in `content` the text of each token ends.
    pub(crate) ends: Vec<usize>,
    pub(crate) ending: Ending<'a>,
    pub(crate) clock: Clock,
    /// When the last token was done.
    pub(crate) end: Instant,
    pub(crate) slot: u32,
}

pub(crate) enum Outcome<'a> {
    Whole(Whole<'a>),
    /// The engine failed, and the dialect has to say so.
    Failed,
    /// Nothing is to be said any more.
    Silent(Then),
}

impl<'a> Generation<'a> {
    /// Generates everything before anything is said. A peer that goes is noticed if `watches`.
    pub(crate) async fn whole(self, wire: &mut Wire, watches: bool) -> Result<Outcome<'a>, Gone> {
        let task = self.task;
        let Self { engine, place, interrupt, .. } = self;
        let watch = Watch { watches, interrupt };
        let prepared = async {
            if engine.is_asleep() {
                watch.wait(wire, engine.awake()).await?;
            }
            let held = watch.wait(wire, engine.slots.take(place, task.slot)).await?;
            let plan = Plan::of(engine, task);
            occupy(engine, task, &held, plan);
            if !task.directives.slow_headers.is_zero() {
                watch.pause(wire, Instant::now() + task.directives.slow_headers).await?;
            }
            Ok((held, plan))
        };
        let (held, plan) = match prepared.await {
            Ok(prepared) => prepared,
            Err(Broken::Gone) => return Err(Gone),
            Err(Broken::Cut(Reason::Dead)) => return Ok(Outcome::Failed),
            Err(Broken::Cut(Reason::Abort)) => return Ok(Outcome::Whole(nothing())),
        };
        wire.split = task.directives.split;
        let mut whole = Whole { slot: held.index, ..nothing() };
        match whole.generate(wire, task, plan, &watch).await {
            Ok(()) => {}
            Err(Broken::Gone) => return Err(Gone),
            Err(Broken::Cut(Reason::Dead)) => return Ok(Outcome::Failed),
            Err(Broken::Cut(Reason::Abort)) => whole.ending = Ending::Abort,
        }
        held.slot.decoded.store(whole.clock.sent, Relaxed);
        engine.stats.tokens_sent.fetch_add(whole.clock.sent.into(), Relaxed);
        match task.fault_at(whole.clock.sent) {
            Some(fault) => fail_whole(wire, fault, watches).await,
            None => {
                engine.stats.finished.fetch_add(1, Relaxed);
                Ok(Outcome::Whole(whole))
            }
        }
    }
}

fn nothing() -> Whole<'static> {
    let clock = Clock::start();
    Whole {
        content: Vec::new(),
        ids: Vec::new(),
        ends: Vec::new(),
        ending: Ending::Abort,
        clock,
        end: clock.decode_start,
        slot: 0,
    }
}

impl<'a> Whole<'a> {
    async fn generate(
        &mut self,
        wire: &mut Wire,
        task: &'a Task,
        plan: Plan,
        watch: &Watch<'_>,
    ) -> Result<(), Broken> {
        self.clock = Clock::start();
        let prefill = plan.pace.prefill * task.prompt_tokens;
        if !prefill.is_zero() {
            watch.pause(wire, self.clock.prompt_start + prefill).await?;
        }
        self.clock.decode_start = Instant::now();
        self.ending = plan.ending;
        let mut speech = task.speech();
        let fault_at = task.directives.fault.map_or(plan.tokens, |(after, _)| after);
        let mut sent = 0;
        while sent < fault_at.min(plan.tokens) {
            let last = sent + 1 == plan.tokens;
            if last && plan.eos_token {
                speech.flush(&mut self.content);
                self.ids.push(EOS.into());
            } else {
                let stop = speech.say(&mut self.content, sent, last);
                self.ids.push(speech.id(sent));
                if let Some(word) = stop {
                    self.ending = Ending::Stop(word);
                }
            }
            self.ends.push(self.content.len());
            sent += 1;
            if matches!(self.ending, Ending::Stop(_)) {
                break;
            }
        }
        let decode = plan.pace.decode * sent;
        if !decode.is_zero() {
            watch.pause(wire, self.clock.decode_start + decode).await?;
        }
        self.clock.sent = sent;
        self.end = Instant::now();
        Ok(())
    }
}

/// Records in the slot and the counters that `task` has begun.
pub(crate) fn occupy(engine: &Engine, task: &Task, held: &Held<'_>, plan: Plan) {
    held.slot.prompt_tokens.store(task.prompt_tokens, Relaxed);
    held.slot.decoded.store(0, Relaxed);
    held.slot.tokens_max.store(plan.tokens, Relaxed);
    engine.stats.prompt_tokens.fetch_add(task.prompt_tokens.into(), Relaxed);
}

/// What a waiting generation listens to.
pub(crate) struct Watch<'a> {
    /// Whether a peer that goes is noticed while nothing is written.
    pub(crate) watches: bool,
    pub(crate) interrupt: Option<&'a Interrupt>,
}

impl Watch<'_> {
    pub(crate) async fn wait<T>(
        &self,
        wire: &mut Wire,
        ready: impl Future<Output = T>,
    ) -> Result<T, Broken> {
        let done =
            async { if self.watches { wire.while_present(ready).await } else { Ok(ready.await) } };
        match self.interrupt {
            None => Ok(done.await?),
            Some(interrupt) => tokio::select! {
                biased;
                reason = interrupt.raised() => Err(Broken::Cut(reason)),
                done = done => Ok(done?),
            },
        }
    }

    pub(crate) async fn pause(&self, wire: &mut Wire, deadline: Instant) -> Result<(), Broken> {
        let done = async {
            if self.watches {
                wire.pause_until(deadline).await
            } else {
                wire.sleep_until(deadline).await;
                Ok(())
            }
        };
        match self.interrupt {
            None => Ok(done.await?),
            Some(interrupt) => tokio::select! {
                biased;
                reason = interrupt.raised() => Err(Broken::Cut(reason)),
                done = done => Ok(done?),
            },
        }
    }
}

async fn fail_whole(
    wire: &mut Wire,
    fault: Fault,
    watches: bool,
) -> Result<Outcome<'static>, Gone> {
    match fault {
        Fault::Die => std::process::abort(),
        Fault::Hang if watches => wire.while_present(pending()).await,
        Fault::Hang => pending().await,
        Fault::Reset => {
            wire.reset_on_drop();
            Ok(Outcome::Silent(Then::Close))
        }
        Fault::Eof | Fault::HalfClose => Ok(Outcome::Silent(Then::Close)),
        Fault::Error => Ok(Outcome::Failed),
    }
}
