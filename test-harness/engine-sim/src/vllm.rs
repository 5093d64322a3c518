//! The dialect of vLLM 0.32.0's OpenAI server: routes, bodies and framing as they were recorded.
//!
//! Not reproduced: several prompts or choices per request, log probabilities, tools, LoRA, and the
//! counters that nobody places by.

mod answers;
mod completion;
mod dev;
mod encoder;
mod metrics;
mod pooling;
mod request;
mod tokens;

use crate::args::VllmArgs;
use crate::engine::Engine;
use crate::http::{self, Ask};
use crate::wire::{Gone, Then, Wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Health,
    Version,
    Models,
    Metrics,
    Load,
    Completions,
    Chat,
    Tokenize,
    Detokenize,
    Pooling(pooling::Route),
    Dev(dev::Route),
}

/// The route and the method it wants.
fn route_of(engine: &Engine, path: &str) -> Option<(Route, &'static [&'static str])> {
    let own = &engine.args.vllm;
    let found: (Route, &'static [&'static str]) = match path {
        "/health" => (Route::Health, &["GET"]),
        "/ping" => (Route::Health, &["GET", "POST"]),
        "/version" => (Route::Version, &["GET"]),
        "/v1/models" => (Route::Models, &["GET"]),
        "/metrics" => (Route::Metrics, &["GET"]),
        "/load" => (Route::Load, &["GET"]),
        "/tokenize" => (Route::Tokenize, &["POST"]),
        "/detokenize" => (Route::Detokenize, &["POST"]),
        "/v1/completions" if !own.pooling => (Route::Completions, &["POST"]),
        "/v1/chat/completions" if !own.pooling => (Route::Chat, &["POST"]),
        _ => return route_by_mode(own, path),
    };
    Some(found)
}

/// The routes that only some servers have.
fn route_by_mode(own: &VllmArgs, path: &str) -> Option<(Route, &'static [&'static str])> {
    if own.pooling
        && let Some(route) = pooling::route_of(path)
    {
        return Some((Route::Pooling(route), &["POST"]));
    }
    if !own.dev_mode {
        return None;
    }
    let (route, method) = dev::route_of(path)?;
    Some((Route::Dev(route), method))
}

/// Answers one request.
pub(crate) async fn answer(engine: &Engine, wire: &mut Wire, ask: Ask) -> Result<Then, Gone> {
    if let Some(then) = http::answer_first(engine, wire, &ask).await? {
        return Ok(then);
    }
    let guarded = ["/v1", "/v2", "/inference", "/cohere"];
    if guarded.iter().any(|prefix| ask.path.starts_with(prefix)) && !ask.is_authorized(engine) {
        return answers::unauthorized(wire).await;
    }
    let Some((route, methods)) = route_of(engine, &ask.path) else {
        return answers::detail(wire, 404, "Not Found").await;
    };
    if !methods.contains(&ask.method.as_str()) {
        return answers::method_not_allowed(wire, methods[0]).await;
    }
    match route {
        Route::Health => answers::health(engine, wire).await,
        Route::Version => answers::json(wire, r#"{"version":"0.32.0"}"#).await,
        Route::Models => answers::models(engine, wire).await,
        Route::Metrics => metrics::answer(engine, wire).await,
        Route::Load => answers::json(wire, r#"{"server_load":0}"#).await,
        Route::Completions => completion::answer(engine, wire, &ask, request::Kind::Text).await,
        Route::Chat => completion::answer(engine, wire, &ask, request::Kind::Chat).await,
        Route::Tokenize => tokens::tokenize(engine, wire, &ask).await,
        Route::Detokenize => tokens::detokenize(wire, &ask).await,
        Route::Pooling(route) => pooling::answer(engine, wire, &ask, route).await,
        Route::Dev(route) => dev::answer(engine, wire, &ask, route).await,
    }
}
