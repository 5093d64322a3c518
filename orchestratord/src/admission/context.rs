//! The part of admission that asks the fleet: which model, and whether the task fits it.

use std::time::Duration;

use adapter_api::{Adapter, ChatMessage, Constraint, EngineError, Prompt, Sampling};
use api_types::{
    Detail, ErrorCode, OnDisconnect, Output, OutputFormat, Placement, PlacementMode, PromptInput,
    SAMPLER_PROFILE, TaskRequest,
};
use config_schema::SamplerProfile;
use orchestrator_core::{ModelId, PoolChoice, PoolId};

use super::features::restrict;
use super::{Refusal, Valid};
use crate::fleet::{Fleet, Model, NotResolved, engine_id};
use crate::task::{Input, Job};

/// `max_tokens` of a request that names none, if the context has room for it.
const MAX_TOKENS_DEFAULT: u32 = 512;
/// What a template may add around one message, beyond its role and content.
const TEMPLATE_BYTES: usize = 32;
/// Begin and end of text.
const SPECIAL_TOKENS: usize = 4;
const GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// Resolves the model, counts the prompt if it might not fit, and makes the job.
pub(crate) async fn prepare(
    valid: Valid,
    fleet: &Fleet,
    profiles: &[SamplerProfile],
) -> Result<Job, Refusal> {
    let request = valid.request;
    let profile = profile(&request, profiles)?;
    let model = resolve(fleet, request.model_ref.as_deref())?;
    let input = input(&request);
    let mut pools = pools(fleet, model, request.placement.as_ref())?;
    restrict(&mut pools, (&request, valid.seed_named), fleet, model)?;
    let (prompt_tokens, max_tokens) = budget(model, &input, request.max_tokens).await?;
    let default = if valid.streams { OnDisconnect::Cancel } else { OnDisconnect::Detach };
    Ok(job(Parts {
        model: model.core_id,
        model_name: model.name.clone(),
        prompt_tokens,
        max_tokens,
        sampling: sampling(request.sampling.as_ref(), profile),
        cancel_on_disconnect: request.on_disconnect.unwrap_or(default) == OnDisconnect::Cancel,
        pools,
        request,
    }))
}

/// A request, and what was found out about it when it came.
pub(crate) struct Parts {
    /// With its defaults.
    pub(crate) request: TaskRequest,
    pub(crate) model: ModelId,
    pub(crate) model_name: String,
    pub(crate) prompt_tokens: u32,
    pub(crate) max_tokens: u32,
    pub(crate) sampling: Sampling,
    pub(crate) cancel_on_disconnect: bool,
    pub(crate) pools: Option<Box<PoolChoice>>,
}

/// Puts together what can be derived, also for a task of an earlier life of the daemon.
pub(crate) fn job(parts: Parts) -> Job {
    let request = parts.request;
    Job {
        model: parts.model,
        model_name: parts.model_name,
        engine: request.engine.as_deref().map(engine_id),
        input: input(&request),
        prompt_tokens: parts.prompt_tokens,
        max_tokens: parts.max_tokens,
        seed: request.seed.unwrap_or_default(),
        sampling: parts.sampling,
        constraint: constraint(request.output.as_ref()),
        cancel_on_disconnect: parts.cancel_on_disconnect,
        disconnect_grace: request.disconnect_grace_ms.map_or(GRACE_DEFAULT, Duration::from_millis),
        deadline: request.deadline_ms.map(Duration::from_millis),
        ttl: request.ttl_ms.map(Duration::from_millis),
        pools: parts.pools,
        canonical: request,
    }
}

/// The named pools as the core knows them. One that does not serve the model is a mistake.
fn pools(
    fleet: &Fleet,
    model: &Model,
    placement: Option<&Placement>,
) -> Result<Option<Box<PoolChoice>>, Refusal> {
    let Some(placement) = placement else { return Ok(None) };
    let serving = || fleet.pools.iter().filter(|it| it.serves(model));
    let mut unknown = Vec::new();
    let mut named = |list: &str, pools: &[String]| -> Vec<PoolId> {
        let known = |(index, name): (usize, &String)| {
            let found = serving().find(|it| it.pool.pool_id == *name);
            if found.is_none() {
                let all: Vec<&str> = serving().map(|it| it.pool.pool_id.as_str()).collect();
                unknown.push(Detail {
                    pointer: format!("/placement/{list}/{index}"),
                    found: name.clone(),
                    expected: format!("a pool of {}: {}", model.name, all.join(", ")),
                });
            }
            found.map(|it| it.core_id)
        };
        pools.iter().enumerate().filter_map(known).collect()
    };
    let wanted = named("pool_ids", &placement.pool_ids);
    let avoid = named("avoid_pool_ids", &placement.avoid_pool_ids);
    if !unknown.is_empty() {
        return Err(Refusal::invalid(unknown));
    }
    let bound = placement.mode == PlacementMode::Pin && !placement.allow_fallback;
    let (pin, prefer) = if bound { (wanted, Vec::new()) } else { (Vec::new(), wanted) };
    Ok(Some(Box::new(PoolChoice { pin, prefer, avoid })))
}

fn resolve<'a>(fleet: &'a Fleet, model_ref: Option<&str>) -> Result<&'a Model, Refusal> {
    fleet.resolve(model_ref).map_err(|error| match error {
        NotResolved::Unknown => {
            let known = fleet.models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let found = model_ref.unwrap_or_default();
            let message = format!("no model is called `{found}`; there is {known}");
            Refusal::new(ErrorCode::ModelNotFound, message)
        }
        NotResolved::Ambiguous { models } => Refusal::invalid(vec![Detail {
            pointer: "/model_ref".into(),
            found: "nothing".into(),
            expected: format!("one of {}", models.join(", ")),
        }]),
        NotResolved::NothingKnown => {
            Refusal::new(ErrorCode::PoolUnavailable, "no pool manager has been heard of yet")
        }
    })
}

fn input(request: &TaskRequest) -> Input {
    if let Some(texts) = &request.inputs {
        return Input::Texts(texts.clone());
    }
    if let (Some(query), Some(documents)) = (&request.query, &request.documents) {
        return Input::Documents { query: query.clone(), documents: documents.clone() };
    }
    match (&request.prompt, &request.messages) {
        (Some(PromptInput::Text(text)), _) => Input::Prompt(Prompt::Text(text.clone())),
        (Some(PromptInput::TokenIds(ids)), _) => Input::Prompt(Prompt::TokenIds(ids.clone())),
        (None, messages) => {
            let messages = messages.iter().flatten();
            let message = |it: &api_types::ChatMessage| ChatMessage {
                role: it.role.clone(),
                content: it.content.clone(),
            };
            Input::Messages(messages.map(message).collect())
        }
    }
}

/// Prompt tokens (exact or an upper bound) and `max_tokens` that fit the model's context.
///
/// A byte-level vocabulary has no token shorter than a byte, so the byte count bounds the token count
/// and most requests need no tokenizer. Where it does not settle the question a Ready replica counts;
/// where none is Ready the engine checks at dispatch.
async fn budget(model: &Model, input: &Input, asked: Option<u32>) -> Result<(u32, u32), Refusal> {
    let generates = matches!(input, Input::Prompt(_) | Input::Messages(_));
    // A vector or a score takes no room in the context.
    let wanted = if generates { asked.unwrap_or(MAX_TOKENS_DEFAULT) } else { 1 };
    let bound = small(upper_bound(input));
    let context = model.context_tokens;
    let fits =
        |prompt: u32, answer: u32| u64::from(prompt) + u64::from(answer) <= u64::from(context);
    if context == 0 || fits(bound, wanted) {
        return Ok((bound, wanted));
    }
    let prompt = match (&model.adapter, input) {
        (_, Input::Prompt(Prompt::TokenIds(ids))) => small(ids.len()),
        (Some(adapter), _) => match count(adapter.as_ref(), input).await {
            Ok(count) => count,
            // The replica went away meanwhile; dispatch will tell.
            Err(_) => return Ok((bound.min(context.saturating_sub(wanted)), wanted)),
        },
        (None, _) => return Ok((bound.min(context.saturating_sub(wanted)), wanted)),
    };
    let room = context.saturating_sub(prompt);
    let answer = asked.unwrap_or(wanted.min(room));
    if room == 0 || !fits(prompt, answer) {
        let message = format!(
            "prompt of {prompt} tokens and max_tokens of {} exceed the context of {context}",
            asked.map_or("at least 1".into(), |it| it.to_string())
        );
        return Err(Refusal::new(ErrorCode::ContextOverflow, message));
    }
    Ok((prompt, answer))
}

fn upper_bound(input: &Input) -> usize {
    let content = match input {
        Input::Prompt(Prompt::Text(text)) => text.len(),
        Input::Prompt(Prompt::TokenIds(ids)) => return ids.len(),
        Input::Messages(messages) => {
            let size = |it: &ChatMessage| it.role.len() + it.content.len() + TEMPLATE_BYTES;
            messages.iter().map(size).sum::<usize>() + TEMPLATE_BYTES
        }
        // Each by itself.
        Input::Texts(texts) => texts.iter().map(String::len).max().unwrap_or(0),
        Input::Documents { query, documents } => {
            query.len() + documents.iter().map(String::len).max().unwrap_or(0)
        }
    };
    content + SPECIAL_TOKENS
}

async fn count(adapter: &dyn Adapter, input: &Input) -> Result<u32, EngineError> {
    let tokens = match input {
        Input::Prompt(Prompt::Text(text)) => adapter.tokenize(text).await?.len(),
        Input::Prompt(Prompt::TokenIds(ids)) => ids.len(),
        Input::Messages(messages) => match adapter.apply_template(messages, "").await? {
            Prompt::Text(text) => adapter.tokenize(&text).await?.len(),
            Prompt::TokenIds(ids) => ids.len(),
        },
        Input::Texts(texts) => longest(adapter, texts).await?,
        Input::Documents { query, documents } => {
            adapter.tokenize(query).await?.len() + longest(adapter, documents).await?
        }
    };
    Ok(small(tokens))
}

/// Tokens of the text with the most bytes.
async fn longest(adapter: &dyn Adapter, texts: &[String]) -> Result<usize, EngineError> {
    let longest = texts.iter().max_by_key(|it| it.len()).map_or("", String::as_str);
    Ok(adapter.tokenize(longest).await?.len())
}

fn constraint(output: Option<&Output>) -> Option<Constraint> {
    let output = output?;
    match (output.format, &output.json_schema, &output.grammar) {
        (OutputFormat::Json, Some(schema), _) => Some(Constraint::JsonSchema(schema.to_string())),
        (OutputFormat::Json, None, _) => Some(Constraint::Json),
        (OutputFormat::Text, _, Some(grammar)) => Some(Constraint::Grammar(grammar.clone())),
        (OutputFormat::Text, _, None) => None,
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn profile<'a>(
    request: &TaskRequest,
    profiles: &'a [SamplerProfile],
) -> Result<&'a SamplerProfile, Refusal> {
    let name = request.sampler_profile_version.as_deref().unwrap_or(SAMPLER_PROFILE);
    profiles.iter().find(|it| it.id == name).ok_or_else(|| {
        let known: Vec<&str> = profiles.iter().map(|it| it.id.as_str()).collect();
        Refusal::invalid(vec![Detail {
            pointer: "/sampler_profile_version".into(),
            found: name.into(),
            expected: known.join(", "),
        }])
    })
}

/// The profile, with what the request sets.
fn sampling(asked: Option<&api_types::Sampling>, profile: &SamplerProfile) -> Sampling {
    let asked = asked.cloned().unwrap_or_default();
    Sampling {
        temperature: asked.temperature.unwrap_or(profile.temperature),
        top_p: asked.top_p.unwrap_or(profile.top_p),
        top_k: asked.top_k.unwrap_or(profile.top_k),
        min_p: asked.min_p.unwrap_or(profile.min_p),
        repeat_penalty: asked.repeat_penalty.unwrap_or(profile.repeat_penalty),
        presence_penalty: asked.presence_penalty.unwrap_or(profile.presence_penalty),
        frequency_penalty: asked.frequency_penalty.unwrap_or(profile.frequency_penalty),
    }
}
