//! The body of `POST /v1/completions`.

use adapter_api::{Constraint, EngineError, Generate, Prompt};
use serde::Serialize;
use serde_json::value::RawValue;

/// More than this the server refuses; those beyond are found by us alone.
const STOP_MAX: usize = 4;

/// About what the body takes beside its prompt.
const SETTINGS_BYTES: usize = 512;

/// Every sampling field is sent: the server's defaults are its model's.
#[derive(Serialize)]
struct Completion<'a> {
    model: &'a str,
    prompt: PromptField<'a>,
    max_tokens: u32,
    seed: u32,
    stream: bool,
    stream_options: StreamOptions,
    temperature: f32,
    top_p: f32,
    top_k: u32,
    min_p: f32,
    repetition_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    stop: &'a [String],
    /// The server then ends where it found one and holds nothing back; which one counts is ours to
    /// say, because it takes the first in the list and we the first in the text.
    include_stop_str_in_output: bool,
    return_token_ids: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_salt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_outputs: Option<StructuredOutputs<'a>>,
}

/// Chunks are not tokens: one may carry several, and the counts tell how many.
#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
    continuous_usage_stats: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PromptField<'a> {
    Text(&'a str),
    TokenIds(&'a [u32]),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum StructuredOutputs<'a> {
    Json(&'a RawValue),
    JsonObject(bool),
    Grammar(&'a str),
}

/// # Errors
/// `BadRequest`: the schema is no JSON.
pub(crate) fn body(request: &Generate, model: &str) -> Result<Vec<u8>, EngineError> {
    let sampling = &request.sampling;
    let (prompt, prompt_bytes) = match &request.prompt {
        Prompt::Text(text) => (PromptField::Text(text), text.len()),
        Prompt::TokenIds(ids) => (PromptField::TokenIds(ids), ids.len() * 6),
    };
    let structured_outputs = request.constraint.as_ref().map(structured).transpose()?;
    let completion = Completion {
        model,
        prompt,
        max_tokens: request.max_tokens.max(1),
        seed: request.seed,
        stream: true,
        stream_options: StreamOptions { include_usage: true, continuous_usage_stats: true },
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        repetition_penalty: sampling.repeat_penalty,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        stop: &request.stop[..request.stop.len().min(STOP_MAX)],
        include_stop_str_in_output: !request.stop.is_empty(),
        return_token_ids: request.answer_ids,
        // Blocks of the prefix cache are found by their hash, which a salt of its own changes.
        cache_salt: (!request.reuse_prefix).then(salt),
        structured_outputs,
    };
    let mut body = Vec::with_capacity(SETTINGS_BYTES + prompt_bytes);
    serde_json::to_writer(&mut body, &completion).expect("numbers and strings always serialise");
    Ok(body)
}

fn structured(constraint: &Constraint) -> Result<StructuredOutputs<'_>, EngineError> {
    Ok(match constraint {
        Constraint::Json => StructuredOutputs::JsonObject(true),
        Constraint::JsonSchema(schema) => {
            StructuredOutputs::Json(serde_json::from_str(schema).map_err(|it| {
                EngineError::BadRequest { message: format!("the JSON schema is no JSON: {it}") }
            })?)
        }
        Constraint::Grammar(grammar) => StructuredOutputs::Grammar(grammar),
    })
}

fn salt() -> String {
    format!("{:016x}", getrandom::u64().unwrap_or_default())
}
