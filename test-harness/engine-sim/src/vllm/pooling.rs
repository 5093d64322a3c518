//! The routes that only a pooling model has: embeddings, scores, ranks.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use super::answers::{self, DEAD, Refusal};
use crate::engine::{self, Engine};
use crate::generation::{Generation, Outcome};
use crate::http::Ask;
use crate::pooling::{self, Input, Ranking};
use crate::slots::Place;
use crate::wire::{Gone, Then, Wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Embeddings,
    Rerank,
    Score,
}

pub(super) fn route_of(path: &str) -> Option<Route> {
    Some(match path {
        "/v1/embeddings" => Route::Embeddings,
        "/rerank" | "/v1/rerank" | "/v2/rerank" => Route::Rerank,
        "/score" | "/v1/score" => Route::Score,
        _ => return None,
    })
}

pub(super) async fn answer(
    engine: &Engine,
    wire: &mut Wire,
    ask: &Ask,
    route: Route,
) -> Result<Then, Gone> {
    let read = read(engine, ask, wire.request_bytes(ask.body.clone()), route);
    let (inputs, body) = match read {
        Ok(read) => read,
        Err(refusal) => return answers::refuse(wire, &refusal).await,
    };
    if engine.is_dead() {
        return answers::failed(wire, 500, DEAD).await;
    }
    let task = match pooling::task(&engine.args, &inputs) {
        Ok(task) => task,
        Err(message) => return answers::refuse(wire, &Refusal::bad_request(message)).await,
    };
    if let Some(status) = task.directives.status {
        return answers::failed(wire, status, "failure on demand").await;
    }
    let place = if engine.is_asleep() {
        Some(Place::Later)
    } else {
        engine.slots.enter(None, engine.args.queue_max)
    };
    let Some(place) = place else {
        engine.stats.rejected.fetch_add(1, Relaxed);
        return answers::busy(wire).await;
    };
    let registered = engine.live.register(String::new());
    let interrupt = Some(registered.interrupt.as_ref());
    match (Generation { engine, task: &task, place, interrupt }).whole(wire, true).await? {
        Outcome::Whole(_) => answers::json(wire, &body.to_string()).await,
        Outcome::Failed => answers::failed(wire, 500, DEAD).await,
        Outcome::Silent(then) => Ok(then),
    }
}

/// The inputs of a request and what it will be answered.
fn read(
    engine: &Engine,
    ask: &Ask,
    body: &[u8],
    route: Route,
) -> Result<(Vec<Input>, Value), Refusal> {
    if !ask.is_json {
        let what = "Unsupported Media Type: Only 'application/json' is allowed";
        return Err(Refusal::validation(None, what));
    }
    let fields = super::request::Fields::parse(body)?;
    fields.check_model(&engine.args.alias)?;
    let (inputs, mut told) = match route {
        Route::Embeddings => embeddings(fields.value("input"))?,
        Route::Rerank => rerank(&fields.into_value())?,
        Route::Score => score(&fields.into_value())?,
    };
    let context = engine.args.slot_context;
    inputs.iter().try_for_each(|input| super::request::check_length(input.tokens, context))?;
    let tokens = pooling::tokens_of(&inputs);
    told["model"] = Value::from(engine.args.alias.as_str());
    told["usage"] = match route {
        Route::Rerank => json!({ "prompt_tokens": tokens, "total_tokens": tokens }),
        Route::Embeddings | Route::Score => json!({
            "prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0,
            "prompt_tokens_details": null,
        }),
    };
    Ok((inputs, told))
}

fn embeddings(input: &Value) -> Result<(Vec<Input>, Value), Refusal> {
    let inputs = pooling::inputs(input).ok_or_else(|| missing("input"))?;
    let told = json!({
        "id": "embd-0", "object": "list", "created": engine::unix_s(),
        "data": pooling::embedding_objects(&inputs),
    });
    Ok((inputs, told))
}

fn rerank(body: &Value) -> Result<(Vec<Input>, Value), Refusal> {
    let ranking = Ranking::of(body, "documents").ok_or_else(|| missing("documents"))?;
    let results: Value = ranking
        .ranked()
        .into_iter()
        .map(|it| {
            json!({
                "index": it.index, "document": { "text": it.document },
                "relevance_score": it.score,
            })
        })
        .collect();
    Ok((ranking.inputs(), json!({ "id": "rerank-0", "results": results })))
}

fn score(body: &Value) -> Result<(Vec<Input>, Value), Refusal> {
    let (Some(query), Some(second)) = (body["text_1"].as_str(), body.get("text_2")) else {
        return Err(missing("text_1"));
    };
    let documents = match second {
        Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
        other => other.as_str().map(|text| vec![text]),
    };
    let documents = documents.ok_or_else(|| missing("text_2"))?;
    let inputs = documents.iter().map(|text| Input::of_text(&format!("{query}{text}"))).collect();
    let data: Value = documents
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({ "index": index, "object": "score", "score": pooling::relevance(query, text) })
        })
        .collect();
    let told = json!({
        "id": "score-0", "object": "list", "created": engine::unix_s(), "data": data,
    });
    Ok((inputs, told))
}

fn missing(name: &str) -> Refusal {
    let what = format!("{{'type': 'missing', 'loc': 'body.{name}', 'msg': 'Field required'}}");
    Refusal::validation(Some(&format!("body.{name}")), &what)
}
