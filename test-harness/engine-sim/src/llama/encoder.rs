//! The events of a streamed completion.

use super::frames::{self, Common, Final, Timings};
use super::request::Job;
use crate::engine::Engine;
use crate::generation::{Clock, Ending, ms_between};
use crate::stream::{self, HeadAt, Last, Token};
use tokio::time::Instant;

pub(super) struct Encoder<'a> {
    engine: &'a Engine,
    job: &'a Job,
    common: Common,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(engine: &'a Engine, job: &'a Job) -> Self {
        let common = Common { id_slot: job.id_slot, evaluated: job.task.prompt_tokens };
        Self { engine, job, common }
    }

    fn timings(&self, clock: &Clock) -> Timings {
        Timings::of(self.job.task.prompt_tokens, clock, Instant::now())
    }
}

impl stream::Encoder for Encoder<'_> {
    const HEAD_AT: HeadAt = HeadAt::PromptStart;
    const MALFORMED: &'static [u8] = b"data: {\"index\":0,\"content\":\n\n";
    const TORN: &'static [u8] = b"75\r\ndata: {\"index\":0,\"content\":\"";

    fn head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(frames::STREAM_HEAD);
    }

    fn progress_step(&self) -> Option<u32> {
        Some(self.engine.args.llama.progress_tokens)
    }

    fn progress(&mut self, event: &mut Vec<u8>, clock: &Clock, processed: u32) {
        if !self.job.progress {
            return;
        }
        let now = Instant::now();
        let ms = u64::try_from(now.duration_since(clock.prompt_start).as_millis());
        let timings = self.job.timings_per_token.then(|| Timings {
            prompt_tokens: processed,
            prompt_ms: ms_between(clock.prompt_start, now),
            ..Timings::default()
        });
        let ms = ms.unwrap_or(u64::MAX);
        frames::push_progress(event, self.common, timings.as_ref(), processed, ms);
        event.extend_from_slice(b"}\n\n");
    }

    fn token(&mut self, event: &mut Vec<u8>, clock: &Clock, token: &Token<'_>) {
        frames::push_token(event, self.common, token.text, token.id, clock.sent);
        if self.job.timings_per_token {
            frames::push_timings(event, &self.timings(clock));
        }
        event.extend_from_slice(b"}\n\n");
    }

    fn last(&mut self, event: &mut Vec<u8>, last: &Last<'_>) {
        event.extend_from_slice(b"data: ");
        let echo = self.job.prompt_echo.clone().unwrap_or_default();
        let (stop_type, stopping_word) = stop_fields(last.ending);
        frames::push_final(
            event,
            &Final {
                content: b"",
                tokens: &[],
                slot: last.slot,
                model: &self.engine.args.alias,
                predicted: last.clock.sent,
                evaluated: self.job.task.prompt_tokens,
                settings: &self.job.settings,
                prompt: &last.request[echo],
                truncated: last.ending == Ending::ContextFull,
                stop_type,
                stopping_word,
                timings: self.timings(last.clock),
            },
        );
        event.extend_from_slice(b"\n\n");
    }

    fn error(&self, event: &mut Vec<u8>) {
        event.extend_from_slice(frames::MID_STREAM_ERROR);
    }
}

/// What `stop_type` and `stopping_word` say.
pub(super) fn stop_fields(ending: Ending<'_>) -> (&'static str, &str) {
    match ending {
        Ending::Eos => ("eos", ""),
        Ending::Stop(word) => ("word", word),
        Ending::Length | Ending::ContextFull => ("limit", ""),
        Ending::Abort => ("none", ""),
    }
}
