//! What a request asks for that not every engine can do: it runs where it can, or is refused with what
//! is missing. Nothing that somebody asked for is ever left out silently.

use adapter_api::Sampling;
use api_types::{Detail, Determinism, ErrorCode, OutputFormat, PromptInput, TaskRequest};
use orchestrator_core::PoolChoice;

use super::Refusal;
use crate::fleet::{Fleet, Model, PoolView};

/// Keeps of the pools that may run the task those that can do what it asks for. `seed_named`: the
/// request's seed is the caller's own.
///
/// # Errors
/// Where none can, or none has the engine that is asked for: each thing that the first of them cannot do.
pub(super) fn restrict(
    choice: &mut Option<Box<PoolChoice>>,
    (request, seed_named): (&TaskRequest, bool),
    fleet: &Fleet,
    model: &Model,
) -> Result<(), Refusal> {
    if let Some(engine) = &request.engine
        && !model.engines.contains(engine)
    {
        return Err(Refusal::invalid(vec![Detail {
            pointer: "/engine".into(),
            found: engine.clone(),
            expected: format!("an engine of {}: {}", model.name, model.engines.join(", ")),
        }]));
    }
    let named = |view: &&PoolView| {
        let engine = request.engine.as_deref().is_none_or(|it| it == view.pool.engine.name());
        let placed = choice.as_ref().is_none_or(|it| {
            (it.pin.is_empty() || it.pin.contains(&view.core_id))
                && !it.avoid.contains(&view.core_id)
        });
        view.serves(model) && engine && placed
    };
    let candidates: Vec<&PoolView> = fleet.pools.iter().filter(named).collect();
    let candidates = if request.determinism == Determinism::Strict {
        let proved = proved(candidates)?;
        choice.get_or_insert_default().pin = proved.iter().map(|it| it.core_id).collect();
        proved
    } else {
        candidates
    };
    let (able, unable): (Vec<&PoolView>, Vec<&PoolView>) =
        candidates.into_iter().partition(|it| lacks(request, seed_named, it).is_empty());
    match (able.as_slice(), unable.as_slice()) {
        (_, []) => Ok(()),
        ([], [first, ..]) => Err(Refusal::invalid(lacks(request, seed_named, first))),
        _ => {
            choice.get_or_insert_default().pin = able.iter().map(|it| it.core_id).collect();
            Ok(())
        }
    }
}

/// Those whose settings the determinism suite has proved.
fn proved(candidates: Vec<&PoolView>) -> Result<Vec<&PoolView>, Refusal> {
    let reason = |it: &PoolView| match &it.pool.determinism {
        pool_api::Determinism::Proved { .. } => None,
        pool_api::Determinism::Unproved { reason } => {
            Some(format!("{}: {reason}", it.pool.pool_id))
        }
    };
    let reasons: Vec<String> = candidates.iter().filter_map(|it| reason(it)).collect();
    if !candidates.is_empty() && reasons.len() == candidates.len() {
        let message = format!("no pool can answer deterministically; {}", reasons.join("; "));
        return Err(Refusal::new(ErrorCode::DeterminismUnavailable, message));
    }
    Ok(candidates.into_iter().filter(|it| reason(it).is_none()).collect())
}

/// What the request asks for that the pool's engine has no word for.
fn lacks(request: &TaskRequest, seed_named: bool, view: &PoolView) -> Vec<Detail> {
    let (features, engine) = (&view.features, view.pool.engine.name());
    let mut lacks = Vec::new();
    if view.pool.workload.name() != request.workload.as_str() {
        return vec![Detail {
            pointer: "/workload".into(),
            found: request.workload.as_str().into(),
            expected: format!("{}, which the model is for", view.pool.workload.name()),
        }];
    }
    let mut lack = |pointer: String, found: &str, expected: &str| {
        let expected = format!("{expected}: {engine} has no word for it");
        lacks.push(Detail { pointer, found: found.into(), expected });
    };
    if !features.token_ids && matches!(request.prompt, Some(PromptInput::TokenIds(_))) {
        lack("/prompt".into(), "token ids", "a text");
    }
    if !features.answer_ids && request.return_token_ids {
        lack("/return_token_ids".into(), "true", "false");
    }
    if !features.messages && request.messages.is_some() {
        lack("/messages".into(), "a conversation", "`prompt`");
    }
    if let Some(output) = &request.output {
        let json = output.format == OutputFormat::Json;
        if output.json_schema.is_some() && !features.json_schema {
            lack("/output/json_schema".into(), "a schema", "nothing");
        } else if json && output.json_schema.is_none() && !features.json {
            lack("/output/format".into(), "json", "text, or a schema");
        }
        if output.grammar.is_some() && features.grammar.is_none() {
            lack("/output/grammar".into(), "a grammar", "nothing");
        }
    }
    if !features.takes("seed") && seed_named {
        lack("/seed".into(), "a number", "nothing");
    }
    for setting in explicit(request.sampling.as_ref()).beyond(features) {
        lack(format!("/sampling/{setting}"), "a value", "its neutral value or nothing");
    }
    lacks
}

/// What the caller has set, all else neutral.
fn explicit(asked: Option<&api_types::Sampling>) -> Sampling {
    let asked = asked.cloned().unwrap_or_default();
    Sampling {
        temperature: asked.temperature.unwrap_or(0.0),
        top_p: asked.top_p.unwrap_or(1.0),
        top_k: asked.top_k.unwrap_or(0),
        min_p: asked.min_p.unwrap_or(0.0),
        repeat_penalty: asked.repeat_penalty.unwrap_or(1.0),
        presence_penalty: asked.presence_penalty.unwrap_or(0.0),
        frequency_penalty: asked.frequency_penalty.unwrap_or(0.0),
    }
}
