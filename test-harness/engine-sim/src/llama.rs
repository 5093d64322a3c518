//! The dialect of llama.cpp's `llama-server` 0.5.0: routes, bodies and framing as they were recorded.
//!
//! Not reproduced: OpenAI-style routes of generation, LoRA, saved slots, sleep, and the defect by which
//! a request without output outlives its client; here a client that goes is noticed at once.

mod answers;
mod completion;
mod encoder;
mod frames;
mod pooling;
mod request;

use std::future::pending;
use std::ops::Range;

use crate::admin;
use crate::engine::Engine;
use crate::wire::{Gone, Then, Wire};

/// What a request's head says, as far as anything here depends on it.
pub(crate) struct Head {
    route: Route,
    authorized: bool,
    /// `/slots?fail_on_no_slot=1`
    fail_on_no_slot: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Health,
    Props,
    Slots,
    Models,
    Metrics,
    Completion,
    Tokenize,
    Detokenize,
    ApplyTemplate,
    Pooling(pooling::Route),
    SimFault,
    SimStats,
    Unknown,
}

impl Route {
    fn of(method: &str, path: &str) -> Self {
        match (method, path) {
            ("GET", "/health" | "/v1/health") => Self::Health,
            ("GET", "/props") => Self::Props,
            ("GET", "/slots") => Self::Slots,
            ("GET", "/v1/models" | "/models") => Self::Models,
            ("GET", "/metrics") => Self::Metrics,
            ("POST", "/completion" | "/completions") => Self::Completion,
            ("POST", "/tokenize") => Self::Tokenize,
            ("POST", "/detokenize") => Self::Detokenize,
            ("POST", "/apply-template") => Self::ApplyTemplate,
            ("POST", "/embedding" | "/embeddings") => Self::Pooling(pooling::Route::Embedding),
            ("POST", "/v1/embeddings") => Self::Pooling(pooling::Route::Embeddings),
            ("POST", "/rerank" | "/reranking" | "/v1/rerank" | "/v1/reranking") => {
                Self::Pooling(pooling::Route::Rerank)
            }
            ("POST", "/sim/fault") => Self::SimFault,
            ("GET", "/sim/stats") => Self::SimStats,
            // Recorded: a known path with the wrong method is as unknown as any other.
            _ => Self::Unknown,
        }
    }

    /// The routes of the simulator itself, which neither keys nor faults touch.
    fn is_admin(self) -> bool {
        matches!(self, Self::SimFault | Self::SimStats)
    }
}

pub(crate) fn classify(engine: &Engine, head: &httparse::Request<'_, '_>) -> Head {
    let target = head.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let keys = &engine.args.keys;
    let authorized = keys.is_empty()
        || head.headers.iter().filter_map(key_of).any(|key| keys.iter().any(|it| it == key));
    Head {
        route: Route::of(head.method.unwrap_or(""), path),
        authorized,
        fail_on_no_slot: query.split('&').any(|pair| pair == "fail_on_no_slot=1"),
    }
}

fn key_of<'a>(header: &httparse::Header<'a>) -> Option<&'a str> {
    let value = std::str::from_utf8(header.value).ok()?;
    if header.name.eq_ignore_ascii_case("authorization") {
        value.strip_prefix("Bearer ")
    } else if header.name.eq_ignore_ascii_case("x-api-key") {
        Some(value)
    } else {
        None
    }
}

/// Answers one request.
pub(crate) async fn answer(
    engine: &Engine,
    wire: &mut Wire,
    head: Head,
    body: Range<usize>,
) -> Result<Then, Gone> {
    if !head.route.is_admin() {
        if engine.is_hung() {
            return wire.while_present(pending()).await;
        }
        if engine.is_loading() {
            return answers::loading(wire).await;
        }
        if !head.authorized && head.route != Route::Health {
            return answers::unauthorized(wire).await;
        }
    }
    match head.route {
        Route::Completion => completion::answer(engine, wire, body).await,
        Route::Health => answers::json(wire, br#"{"status":"ok"}"#).await,
        Route::Props => answers::props(engine, wire).await,
        Route::Slots => answers::slots(engine, wire, head.fail_on_no_slot).await,
        Route::Models => answers::models(engine, wire).await,
        Route::Metrics => answers::metrics(engine, wire).await,
        Route::Tokenize => answers::tokenize(wire, body).await,
        Route::Detokenize => answers::detokenize(wire, body).await,
        Route::ApplyTemplate => answers::apply_template(wire, body).await,
        Route::Pooling(route) => pooling::answer(engine, wire, body, route).await,
        Route::SimFault => match admin::fault(engine, wire.request_bytes(body)) {
            Ok(()) => answers::json(wire, b"{}").await,
            Err(message) => answers::bad_request(wire, &message).await,
        },
        Route::SimStats => answers::json(wire, admin::stats(engine).as_bytes()).await,
        Route::Unknown => answers::not_found(wire).await,
    }
}
