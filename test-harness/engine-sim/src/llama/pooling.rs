//! `/embedding`, `/v1/embeddings` and `/rerank`, which a flag opens.

use std::ops::Range;

use serde_json::{Value, json};

use super::answers;
use super::request::Refused;
use crate::engine::Engine;
use crate::generation::{Generation, Outcome};
use crate::pooling::{self, Input, Ranking};
use crate::wire::{Gone, Then, Wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// `/embedding`, with an array in an array.
    Embedding,
    /// `/v1/embeddings`.
    Embeddings,
    Rerank,
}

pub(super) async fn answer(
    engine: &Engine,
    wire: &mut Wire,
    body: Range<usize>,
    route: Route,
) -> Result<Then, Gone> {
    let own = &engine.args.llama;
    let off = match route {
        Route::Embedding | Route::Embeddings if !own.embeddings => Some("embeddings"),
        Route::Rerank if !own.reranking => Some("reranking"),
        Route::Embedding | Route::Embeddings | Route::Rerank => None,
    };
    if let Some(name) = off {
        let message = format!("This server does not support {name}. Start it with `--{name}`");
        return answers::refuse(wire, 501, &message).await;
    }
    let (inputs, told) = match read(engine, wire.request_bytes(body), route) {
        Ok(read) => read,
        Err(Refused { status, message }) => return answers::refuse(wire, status, &message).await,
    };
    let task = match pooling::task(&engine.args, &inputs) {
        Ok(task) => task,
        Err(message) => return answers::bad_request(wire, &message).await,
    };
    if let Some(status) = task.directives.status {
        return answers::refuse(wire, status, "failure on demand").await;
    }
    let place = engine.slots.enter(None, None).expect("the queue has no bound");
    match (Generation { engine, task: &task, place, interrupt: None }).whole(wire, true).await? {
        Outcome::Whole(_) => answers::json(wire, told.to_string().as_bytes()).await,
        Outcome::Failed => answers::refuse(wire, 500, "failure on demand").await,
        Outcome::Silent(then) => Ok(then),
    }
}

/// The inputs of a request and what it will be answered.
fn read(engine: &Engine, body: &[u8], route: Route) -> Result<(Vec<Input>, Value), Refused> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| super::request::explain(body, &error))?;
    let refuse = |message: &str| Refused { status: 400, message: message.to_owned() };
    let (inputs, told) = match route {
        Route::Embedding | Route::Embeddings => {
            let given = body.get("input").or_else(|| body.get("content"));
            let inputs = given.and_then(pooling::inputs);
            let inputs =
                inputs.ok_or_else(|| refuse("\"input\" or \"content\" must be provided"))?;
            let told = embeddings(engine, &inputs, route);
            (inputs, told)
        }
        Route::Rerank => rerank(engine, &body)
            .ok_or_else(|| refuse("\"query\" and \"documents\" must be provided"))?,
    };
    let batch = engine.args.llama.progress_tokens;
    match inputs.iter().find(|input| input.tokens > batch) {
        None => Ok((inputs, told)),
        Some(Input { tokens, .. }) => Err(Refused {
            status: 500,
            message: format!(
                "input ({tokens} tokens) is too large to process. increase the physical batch size (current batch size: {batch})"
            ),
        }),
    }
}

fn embeddings(engine: &Engine, inputs: &[Input], route: Route) -> Value {
    if route == Route::Embedding {
        let object = |(index, input): (usize, &Input)| json!({ "index": index, "embedding": [input.embedding()] });
        return inputs.iter().enumerate().map(object).collect();
    }
    let tokens = pooling::tokens_of(inputs);
    json!({
        "model": engine.args.alias, "object": "list",
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        "data": pooling::embedding_objects(inputs),
    })
}

/// With `texts` instead of `documents` the answer is that of text-embeddings-inference.
fn rerank(engine: &Engine, body: &Value) -> Option<(Vec<Input>, Value)> {
    let is_tei = body.get("texts").is_some();
    let ranking = Ranking::of(body, if is_tei { "texts" } else { "documents" })?;
    let inputs = ranking.inputs();
    let key = if is_tei { "score" } else { "relevance_score" };
    let ranked = ranking.ranked().into_iter();
    let results: Value = ranked.map(|it| json!({ "index": it.index, key: it.score })).collect();
    if is_tei {
        return Some((inputs, results));
    }
    let tokens = pooling::tokens_of(&inputs);
    let told = json!({
        "model": engine.args.alias, "object": "list",
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        "results": results,
    });
    Some((inputs, told))
}
