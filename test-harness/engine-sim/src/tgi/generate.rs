//! `POST /generate` and `/generate_stream`: admission, and the answer that is not a stream.

use std::sync::atomic::Ordering::Relaxed;

use super::answers::{self, Refusal};
use super::encoder::{self, Encoder};
use super::request::{Body, Job};
use crate::engine::Engine;
use crate::generation::{Generation, Outcome, Whole, ms_between};
use crate::http::Ask;
use crate::numbering::EOS;
use crate::stream;
use crate::wire::{Gone, Then, Wire};

pub(super) async fn answer(
    engine: &Engine,
    wire: &mut Wire,
    ask: &Ask,
    streamed: bool,
) -> Result<Then, Gone> {
    let body = match Body::read(ask, wire.request_bytes(ask.body.clone())) {
        Ok(body) => body,
        Err(refused) => return answers::unread(wire, &refused).await,
    };
    let characters = body.inputs.chars().count();
    let directives = match body.directives() {
        Ok(directives) => directives,
        Err(refusal) => return answers::refuse(wire, &refusal).await,
    };
    if let Some(status) = directives.status {
        return answers::refuse(wire, &Refusal::on_demand(status)).await;
    }
    let admitted = match engine.slots.enter(None, engine.args.queue_max) {
        None => {
            engine.stats.rejected.fetch_add(1, Relaxed);
            Err(Refusal::overloaded())
        }
        Some(place) => match body.into_job(&engine.args, directives, streamed) {
            Ok(_) if engine.is_unready() || engine.is_dead() => Err(Refusal::generation()),
            Ok(job) => Ok((place, job)),
            Err(refusal) => {
                engine.stats.refused.fetch_add(1, Relaxed);
                Err(refusal)
            }
        },
    };
    let (place, job) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) if streamed => return stream_refusal(wire, &refusal, characters).await,
        Err(refusal) => return answers::refuse(wire, &refusal).await,
    };
    let generation = Generation { engine, task: &job.task, place, interrupt: None };
    if streamed {
        return generation.stream(wire, Encoder::new(&job, characters)).await;
    }
    match generation.whole(wire, true).await? {
        Outcome::Whole(whole) => tell(wire, &job, &whole, characters).await,
        Outcome::Failed => answers::refuse(wire, &Refusal::generation()).await,
        Outcome::Silent(then) => Ok(then),
    }
}

/// Recorded: a stream is refused inside the stream, whose status is 200.
async fn stream_refusal(
    wire: &mut Wire,
    refusal: &Refusal,
    characters: usize,
) -> Result<Then, Gone> {
    answers::push_stream_head(&mut wire.out, characters);
    let event = format!("data: {}\n\n", refusal.body());
    stream::push_chunk::<Encoder<'_>>(&mut wire.out, event.as_bytes());
    wire.out.extend_from_slice(stream::END);
    wire.flush().await?;
    Ok(Then::KeepOpen)
}

async fn tell(
    wire: &mut Wire,
    job: &Job,
    whole: &Whole<'_>,
    characters: usize,
) -> Result<Then, Gone> {
    let mut body = b"{\"generated_text\":\"".to_vec();
    body.extend_from_slice(&job.full_text_start);
    body.extend_from_slice(&whole.content);
    body.push(b'"');
    if job.details {
        body.extend_from_slice(b",\"details\":");
        encoder::push_details(&mut body, job, whole.ending, whole.clock.sent);
        body.extend_from_slice(b",\"prefill\":[],\"tokens\":[");
        let mut start = 0;
        for (index, (&id, &end)) in whole.ids.iter().zip(&whole.ends).enumerate() {
            if index > 0 {
                body.push(b',');
            }
            encoder::push_token(&mut body, &whole.content[start..end], id, id == u64::from(EOS));
            start = end;
        }
        body.extend_from_slice(b"]}");
    }
    body.push(b'}');
    let total = ms_between(whole.clock.prompt_start, whole.end);
    let (prompt, sent) = (job.task.prompt_tokens, whole.clock.sent);
    let per_token = total / f64::from(sent.max(1));
    let lines = format!(
        "x-compute-type: gpu+optimized\r\nx-compute-time: {}\r\nx-compute-characters: {characters}\r\nx-total-time: {total:.0}\r\nx-validation-time: 0\r\nx-queue-time: 0\r\nx-inference-time: {total:.0}\r\nx-time-per-token: {per_token:.0}\r\nx-prompt-tokens: {prompt}\r\nx-generated-tokens: {sent}\r\n",
        total / 1e3,
    );
    let body = String::from_utf8(body).expect("it was made of strings");
    answers::json_with(wire, 200, &lines, &body).await
}
