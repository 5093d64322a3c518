//! The body of `POST /completion`.

use adapter_api::{Constraint, EngineError, Generate, Prompt};
use serde::Serialize;
use serde_json::value::RawValue;

/// About what the body takes beside its prompt.
const SETTINGS_BYTES: usize = 512;

/// Every sampling field is sent: the server's defaults are not ours, and it clamps or ignores what it
/// does not like without a word.
#[derive(Serialize)]
struct Completion<'a> {
    prompt: PromptField<'a>,
    n_predict: u32,
    seed: u32,
    stream: bool,
    cache_prompt: bool,
    /// A long prefill then writes now and then, which is how the server notices a dead peer.
    return_progress: bool,
    return_tokens: bool,
    temperature: f32,
    top_p: f32,
    top_k: u32,
    min_p: f32,
    typical_p: f32,
    top_n_sigma: f32,
    dynatemp_range: f32,
    xtc_probability: f32,
    repeat_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    dry_multiplier: f32,
    mirostat: u8,
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grammar: Option<&'a str>,
}

/// What llama.cpp's converter takes for any object.
const ANY_OBJECT: &str = r#"{"type":"object"}"#;

#[derive(Serialize)]
#[serde(untagged)]
enum PromptField<'a> {
    Text(&'a str),
    TokenIds(&'a [u32]),
}

/// # Errors
/// `BadRequest`: the schema is no JSON.
pub(crate) fn body(request: &Generate) -> Result<Vec<u8>, EngineError> {
    let sampling = &request.sampling;
    let (schema, grammar) = match &request.constraint {
        None => (None, None),
        Some(Constraint::Json) => (Some(ANY_OBJECT), None),
        Some(Constraint::JsonSchema(schema)) => (Some(schema.as_str()), None),
        Some(Constraint::Grammar(grammar)) => (None, Some(grammar.as_str())),
    };
    let json_schema = schema.map(serde_json::from_str).transpose().map_err(|it| {
        EngineError::BadRequest { message: format!("the JSON schema is no JSON: {it}") }
    })?;
    let completion = Completion {
        prompt: match &request.prompt {
            Prompt::Text(text) => PromptField::Text(text),
            Prompt::TokenIds(ids) => PromptField::TokenIds(ids),
        },
        n_predict: request.max_tokens.max(1),
        seed: request.seed,
        stream: true,
        cache_prompt: request.reuse_prefix,
        return_progress: true,
        return_tokens: request.answer_ids,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        typical_p: 1.0,
        top_n_sigma: -1.0,
        dynatemp_range: 0.0,
        xtc_probability: 0.0,
        repeat_penalty: sampling.repeat_penalty,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        dry_multiplier: 0.0,
        mirostat: 0,
        stop: &request.stop,
        json_schema,
        grammar,
    };
    let prompt_bytes = match &request.prompt {
        Prompt::Text(text) => text.len(),
        Prompt::TokenIds(ids) => ids.len() * 6,
    };
    let mut body = Vec::with_capacity(SETTINGS_BYTES + prompt_bytes);
    serde_json::to_writer(&mut body, &completion).expect("numbers and strings always serialise");
    Ok(body)
}
