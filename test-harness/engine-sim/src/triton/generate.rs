//! `generate` and `generate_stream`: what stops a request before the model, and a model that answers
//! once.

use std::sync::atomic::Ordering::Relaxed;

use super::encoder::{self, Encoder, Response, push_error, push_stream_head};
use super::request::{Fields, Job};
use super::{answers, models};
use crate::engine::Engine;
use crate::generation::{Generation, Outcome, Whole};
use crate::http::Ask;
use crate::live::Reason;
use crate::stream;
use crate::wire::{Gone, Then, Wire};

const NOT_ONE_RESPONSE: &str = "generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses";

pub(super) async fn answer(
    engine: &Engine,
    wire: &mut Wire,
    ask: &Ask,
    model: &str,
    streamed: bool,
) -> Result<Then, Gone> {
    if let Some(message) = models::absence(engine, model) {
        return answers::error(wire, 404, &message).await;
    }
    let fields = Fields::parse(&engine.args, wire.request_bytes(ask.body.clone()));
    let job = match fields.and_then(|fields| fields.into_job(&engine.args)) {
        Ok(job) => job,
        Err(refusal) => return answers::error(wire, refusal.status, &refusal.message).await,
    };
    if let Some(status) = job.task.directives.status {
        return answers::error(wire, status, "failure on demand").await;
    }
    if job.cancels {
        return cancel(engine, wire, &job, streamed).await;
    }
    if let Some(message) = &job.failure {
        return fail(wire, message, streamed).await;
    }
    let Some(place) = engine.slots.enter(None, engine.args.queue_max) else {
        engine.stats.rejected.fetch_add(1, Relaxed);
        let message = "[request id: <id_unknown>] Exceeds maximum queue size";
        return answers::error(wire, 503, message).await;
    };
    let registered = engine.live.register(job.id.clone().unwrap_or_default());
    let interrupt = Some(registered.interrupt.as_ref());
    let generation = Generation { engine, task: &job.task, place, interrupt };
    if streamed && job.stream {
        return generation.stream(wire, Encoder::new(engine, &job)).await;
    }
    match generation.whole(wire, false).await? {
        Outcome::Whole(whole) if streamed || !job.stream || whole.clock.sent == 1 => {
            tell(engine, wire, &job, &whole, streamed).await
        }
        // Recorded: the status is 200.
        Outcome::Whole(_) => answers::json(wire, &answers::error_body(NOT_ONE_RESPONSE)).await,
        Outcome::Failed => fail(wire, "Error generating stream: failure on demand", streamed).await,
        Outcome::Silent(then) => Ok(then),
    }
}

/// The only response of a model that was not asked for a stream.
async fn tell(
    engine: &Engine,
    wire: &mut Wire,
    job: &Job,
    whole: &Whole<'_>,
    streamed: bool,
) -> Result<Then, Gone> {
    let text = [job.text_start.as_slice(), &whole.content].concat();
    let response = Response { text: &text, ending: Some(whole.ending), tokens: whole.clock.sent };
    let mut body = Vec::with_capacity(256 + text.len());
    if streamed {
        body.extend_from_slice(b"data: ");
        encoder::push_response(&mut body, engine, job, &response);
        body.extend_from_slice(b"\n\n");
        return tell_event(wire, 200, &body).await;
    }
    encoder::push_response(&mut body, engine, job, &response);
    let body = String::from_utf8(body).expect("it was made of strings");
    answers::json(wire, &body).await
}

/// The model's first response is an error.
async fn fail(wire: &mut Wire, message: &str, streamed: bool) -> Result<Then, Gone> {
    if !streamed {
        return answers::error(wire, 400, message).await;
    }
    let mut event = Vec::new();
    push_error(&mut event, message);
    tell_event(wire, 400, &event).await
}

/// Ends the request with the same id; this one has no response of its own.
async fn cancel(engine: &Engine, wire: &mut Wire, job: &Job, streamed: bool) -> Result<Then, Gone> {
    engine.live.interrupt(Reason::Abort, |id| Some(id) == job.id.as_deref());
    if !streamed {
        return answers::json(wire, &answers::error_body(NOT_ONE_RESPONSE)).await;
    }
    tell_event(wire, 200, b"").await
}

/// A stream of at most one event.
async fn tell_event(wire: &mut Wire, status: u16, event: &[u8]) -> Result<Then, Gone> {
    push_stream_head(&mut wire.out, status);
    if !event.is_empty() {
        stream::push_chunk::<Encoder<'_>>(&mut wire.out, event);
    }
    wire.out.extend_from_slice(stream::END);
    wire.flush().await?;
    Ok(Then::KeepOpen)
}
