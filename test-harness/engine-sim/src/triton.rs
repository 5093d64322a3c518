//! The dialect of Triton Inference Server 2.51 with its generate extension, and one model in it.
//!
//! What the server does was recorded; what its vLLM and TensorRT-LLM backends put into a response was
//! read in their sources. Not reproduced: gRPC, the tensor protocol, batches, several models.

mod answers;
mod encoder;
mod generate;
pub(crate) mod metrics;
mod models;
mod request;

use std::sync::atomic::Ordering::Relaxed;

use crate::engine::Engine;
use crate::http::{self, Ask};
use crate::wire::{Gone, Then, Wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Live,
    Ready,
    Server,
    Index,
    Load(&'a str),
    Unload(&'a str),
    Model(&'a str),
    Config(&'a str),
    ModelReady(&'a str),
    Generate(&'a str),
    GenerateStream(&'a str),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        // The version may be named; there is only one.
        let parts = match parts.as_slice() {
            ["v2", "models", model, "versions", _, rest @ ..] => {
                [&["v2", "models", model], rest].concat()
            }
            _ => parts,
        };
        Some(match parts.as_slice() {
            ["v2"] => Self::Server,
            ["v2", "health", "live"] => Self::Live,
            ["v2", "health", "ready"] => Self::Ready,
            ["v2", "repository", "index"] => Self::Index,
            ["v2", "repository", "models", model, "load"] => Self::Load(model),
            ["v2", "repository", "models", model, "unload"] => Self::Unload(model),
            ["v2", "models", model] => Self::Model(model),
            ["v2", "models", model, "config"] => Self::Config(model),
            ["v2", "models", model, "ready"] => Self::ModelReady(model),
            ["v2", "models", model, "generate"] => Self::Generate(model),
            ["v2", "models", model, "generate_stream"] => Self::GenerateStream(model),
            _ => return None,
        })
    }

    fn method(self) -> &'static str {
        match self {
            Self::Live | Self::Ready | Self::Server => "GET",
            Self::Model(_) | Self::Config(_) | Self::ModelReady(_) => "GET",
            Self::Index | Self::Load(_) | Self::Unload(_) => "POST",
            Self::Generate(_) | Self::GenerateStream(_) => "POST",
        }
    }
}

/// Answers one request.
pub(crate) async fn answer(engine: &Engine, wire: &mut Wire, ask: Ask) -> Result<Then, Gone> {
    if let Some(then) = http::answer_first(engine, wire, &ask).await? {
        return Ok(then);
    }
    let Some(route) = Route::of(&ask.path) else {
        return answers::error(wire, 404, "Not Found").await;
    };
    if ask.method != route.method() {
        return answers::error(wire, 405, "Method Not Allowed").await;
    }
    match route {
        Route::Live => answers::empty(wire, 200).await,
        Route::Ready => answers::empty(wire, ready_status(is_ready(engine))).await,
        Route::Server => models::server(wire).await,
        Route::Index => models::index(engine, wire).await,
        Route::Load(model) => models::load(engine, wire, model).await,
        Route::Unload(model) => models::unload(engine, wire, model).await,
        Route::Model(model) => models::metadata(engine, wire, model).await,
        Route::Config(model) => models::config(engine, wire, model).await,
        Route::ModelReady(model) => {
            let ready = model == engine.args.alias && is_ready(engine);
            answers::empty(wire, ready_status(ready)).await
        }
        Route::Generate(model) => generate::answer(engine, wire, &ask, model, false).await,
        Route::GenerateStream(model) => generate::answer(engine, wire, &ask, model, true).await,
    }
}

/// Whether the model can be asked.
fn is_ready(engine: &Engine) -> bool {
    engine.model_loaded.load(Relaxed) && !engine.is_unready()
}

fn ready_status(ready: bool) -> u16 {
    if ready { 200 } else { 400 }
}

/// The model's only version.
const MODEL_VERSION: &str = "1";
