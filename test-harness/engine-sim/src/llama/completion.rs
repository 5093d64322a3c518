//! `POST /completion`: admission to a slot, and the answer that is not a stream.

use std::ops::Range;

use super::answers;
use super::encoder::{Encoder, stop_fields};
use super::frames::{self, Final, Timings};
use super::request::Job;
use crate::engine::Engine;
use crate::generation::{Ending, Generation, Outcome, Whole};
use crate::wire::{Gone, Then, Wire};

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
    let task = &job.task;
    if let Some(status) = task.directives.status {
        return answers::refuse(wire, status, "failure on demand").await;
    }
    if task.prompt_tokens >= engine.args.slot_context {
        return answers::overflow(wire, task.prompt_tokens, engine.args.slot_context).await;
    }
    let place = engine.slots.enter(task.slot, None).expect("the queue has no bound");
    let generation = Generation { engine, task, place, interrupt: None };
    if job.stream {
        return generation.stream(wire, Encoder::new(engine, &job)).await;
    }
    match generation.whole(wire, true).await? {
        Outcome::Whole(whole) => tell(engine, wire, &job, &whole).await,
        Outcome::Failed => answers::refuse(wire, 500, "Context size has been exceeded.").await,
        Outcome::Silent(then) => Ok(then),
    }
}

async fn tell(
    engine: &Engine,
    wire: &mut Wire,
    job: &Job,
    whole: &Whole<'_>,
) -> Result<Then, Gone> {
    let evaluated = job.task.prompt_tokens;
    let prompt = job.prompt_echo.clone().map(|at| wire.request_bytes(at)).unwrap_or_default();
    let (stop_type, stopping_word) = stop_fields(whole.ending);
    let mut body = Vec::with_capacity(2048 + whole.content.len() + prompt.len());
    frames::push_final(
        &mut body,
        &Final {
            content: &whole.content,
            tokens: if job.return_tokens { &whole.ids } else { &[] },
            slot: whole.slot,
            model: &engine.args.alias,
            predicted: whole.clock.sent,
            evaluated,
            settings: &job.settings,
            prompt,
            truncated: whole.ending == Ending::ContextFull,
            stop_type,
            stopping_word,
            timings: Timings::of(evaluated, &whole.clock, whole.end),
        },
    );
    answers::json(wire, &body).await
}
