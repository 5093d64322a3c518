//! `POST /v1/completions` and `/v1/chat/completions`: admission, and the answer that is not a stream.

use std::sync::atomic::Ordering::Relaxed;

use super::answers::{self, DEAD};
use super::encoder::{self, Encoder, FINGERPRINT, write};
use super::request::{Job, Kind};
use crate::engine::Engine;
use crate::generation::{Generation, Outcome, Whole};
use crate::http::Ask;
use crate::slots::Place;
use crate::wire::{Gone, Then, Wire};

pub(super) async fn answer(
    engine: &Engine,
    wire: &mut Wire,
    ask: &Ask,
    kind: Kind,
) -> Result<Then, Gone> {
    let job = match Job::parse(engine, ask, wire.request_bytes(ask.body.clone()), kind) {
        Ok(job) => job,
        Err(refusal) => return answers::refuse(wire, &refusal).await,
    };
    if engine.is_dead() {
        return answers::dead(wire).await;
    }
    if engine.is_unready() {
        return answers::failed(wire, 503, "The engine is not ready.").await;
    }
    if let Some(status) = job.task.directives.status {
        return answers::failed(wire, status, "failure on demand").await;
    }
    let registered = engine.live.register(job.engine_id.clone());
    // Recorded: while the engine sleeps, nothing counts as waiting.
    let place = if engine.is_asleep() {
        Some(Place::Later)
    } else {
        engine.slots.enter(None, engine.args.queue_max)
    };
    let Some(place) = place else {
        engine.stats.rejected.fetch_add(1, Relaxed);
        return answers::busy(wire).await;
    };
    let interrupt = Some(registered.interrupt.as_ref());
    let generation = Generation { engine, task: &job.task, place, interrupt };
    if job.stream {
        return generation.stream(wire, Encoder::new(engine, &job)).await;
    }
    match generation.whole(wire, true).await? {
        Outcome::Whole(whole) => tell(engine, wire, &job, &whole).await,
        Outcome::Failed => answers::failed(wire, 500, DEAD).await,
        Outcome::Silent(then) => Ok(then),
    }
}

async fn tell(
    engine: &Engine,
    wire: &mut Wire,
    job: &Job,
    whole: &Whole<'_>,
) -> Result<Then, Gone> {
    let mut body = Vec::with_capacity(1024 + whole.content.len());
    encoder::push_start(&mut body, engine, job, false);
    let opening: &[u8] = match job.kind {
        Kind::Text => br#"{"index":0,"text":""#,
        Kind::Chat => br#"{"index":0,"message":{"role":"assistant","content":""#,
    };
    body.extend_from_slice(opening);
    body.extend_from_slice(&whole.content);
    body.push(b'"');
    if job.kind == Kind::Chat {
        body.extend_from_slice(br#","refusal":null,"tool_calls":[]}"#);
    }
    body.extend_from_slice(br#","logprobs":null,"finish_reason":"#);
    encoder::push_finish(&mut body, Some(whole.ending));
    body.extend_from_slice(br#","stop_reason":"#);
    encoder::push_stop(&mut body, Some(whole.ending));
    body.extend_from_slice(br#","token_ids":"#);
    match job.prompt_ids {
        Some(_) => encoder::push_ids(&mut body, whole.ids.iter().copied()),
        None => body.extend_from_slice(b"null"),
    }
    if job.kind == Kind::Text {
        body.extend_from_slice(br#","prompt_logprobs":null,"prompt_token_ids":"#);
        match &job.prompt_ids {
            Some(ids) => encoder::push_ids(&mut body, ids.iter().copied()),
            None => body.extend_from_slice(b"null"),
        }
        body.extend_from_slice(br#","routed_experts":null"#);
    }
    let (prompt, sent) = (job.task.prompt_tokens, whole.clock.sent);
    let total = prompt.saturating_add(sent);
    let details = if engine.args.vllm.prompt_tokens_details {
        r#"{"cached_tokens":0,"created_cache_tokens":null,"multimodal_tokens":null}"#
    } else {
        "null"
    };
    write(
        &mut body,
        format_args!(
            r#"}}],"service_tier":null,"system_fingerprint":"{FINGERPRINT}","usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{sent},"prompt_tokens_details":{details},"completion_tokens_details":null}},"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}}"#
        ),
    );
    let body = String::from_utf8(body).expect("it was made of strings");
    answers::json(wire, &body).await
}
