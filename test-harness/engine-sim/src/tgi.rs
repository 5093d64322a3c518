//! The dialect of text-generation-inference 3.3.6: routes, bodies and framing as they were recorded.
//!
//! Not reproduced: the OpenAI routes, several answers per request, log probabilities and the tokens
//! of the prompt.

mod answers;
mod encoder;
mod generate;
mod metrics;
mod request;

use std::future::pending;
use std::sync::atomic::Ordering::Relaxed;

use crate::engine::Engine;
use crate::http::{self, Ask};
use crate::wire::{Gone, Then, Wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Health,
    Info,
    Models,
    Metrics,
    Generate,
    GenerateStream,
    Tokenize,
    ChatTokenize,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/health" | "/ping" => Self::Health,
            "/info" => Self::Info,
            "/v1/models" => Self::Models,
            "/metrics" => Self::Metrics,
            "/generate" => Self::Generate,
            "/generate_stream" => Self::GenerateStream,
            "/tokenize" => Self::Tokenize,
            "/chat_tokenize" => Self::ChatTokenize,
            _ => return None,
        })
    }

    fn method(self) -> &'static str {
        match self {
            Self::Health | Self::Info | Self::Models | Self::Metrics => "GET",
            Self::Generate | Self::GenerateStream | Self::Tokenize | Self::ChatTokenize => "POST",
        }
    }
}

/// Answers one request.
pub(crate) async fn answer(engine: &Engine, wire: &mut Wire, ask: Ask) -> Result<Then, Gone> {
    if let Some(then) = http::answer_first(engine, wire, &ask).await? {
        return Ok(then);
    }
    let Some(route) = Route::of(&ask.path) else {
        return answers::empty(wire, 404).await;
    };
    if ask.method != route.method() {
        return answers::method_not_allowed(wire, route.method()).await;
    }
    // Recorded: the key guards what is posted and nothing else.
    if route.method() == "POST" && !ask.is_authorized(engine) {
        return answers::empty(wire, 401).await;
    }
    match route {
        Route::Health if engine.faults.health_hangs.load(Relaxed) => {
            wire.while_present(pending()).await
        }
        Route::Health => answers::health(engine, wire).await,
        Route::Info => answers::info(engine, wire).await,
        Route::Models => answers::models(engine, wire).await,
        Route::Metrics => metrics::answer(engine, wire).await,
        Route::Generate => generate::answer(engine, wire, &ask, false).await,
        Route::GenerateStream => generate::answer(engine, wire, &ask, true).await,
        Route::Tokenize => answers::tokenize(wire, &ask).await,
        Route::ChatTokenize => answers::chat_tokenize(wire, &ask).await,
    }
}
