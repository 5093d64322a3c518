//! The body of `POST /generate_stream`.

use adapter_api::{Constraint, EngineError, Generate, Prompt};
use serde::Serialize;
use serde_json::Value;

/// More than the router takes by default; those beyond are found by us alone.
const STOP_MAX: usize = 4;

#[derive(Serialize)]
struct Body<'a> {
    inputs: &'a str,
    parameters: Parameters<'a>,
}

/// A setting that is off is left out: the router refuses `temperature` 0, `top_k` 0 and `top_p` 1.
#[derive(Serialize)]
struct Parameters<'a> {
    max_new_tokens: u32,
    do_sample: bool,
    details: bool,
    return_full_text: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f32>,
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    grammar: Option<Grammar<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
enum Grammar<'a> {
    Json(Value),
    Regex(&'a str),
}

/// # Errors
/// `Unsupported` for what the router would ignore, `BadRequest` for a schema that is no JSON.
pub(crate) fn body(request: &Generate) -> Result<Vec<u8>, EngineError> {
    let unsupported =
        |what: &str| Err(EngineError::Unsupported { message: format!("TGI takes no {what}") });
    let sampling = &request.sampling;
    let inputs = match &request.prompt {
        Prompt::Text(text) => text,
        Prompt::TokenIds(_) => return unsupported("prompts of token ids"),
    };
    if sampling.min_p != 0.0 {
        return unsupported("min_p");
    }
    if sampling.presence_penalty != 0.0 {
        return unsupported("presence_penalty");
    }
    let grammar = match &request.constraint {
        None => None,
        Some(Constraint::Json) => return unsupported("JSON without a schema"),
        Some(Constraint::JsonSchema(schema)) => {
            Some(Grammar::Json(serde_json::from_str(schema).map_err(|it| {
                EngineError::BadRequest { message: format!("the JSON schema is no JSON: {it}") }
            })?))
        }
        Some(Constraint::Grammar(regex)) => Some(Grammar::Regex(regex)),
    };
    let samples = 0.0 < sampling.temperature;
    let parameters = Parameters {
        max_new_tokens: request.max_tokens.max(1),
        do_sample: samples,
        details: true,
        return_full_text: false,
        seed: samples.then_some(request.seed),
        temperature: samples.then_some(sampling.temperature),
        top_p: (samples && 0.0 < sampling.top_p && sampling.top_p < 1.0).then_some(sampling.top_p),
        top_k: (samples && sampling.top_k != 0).then_some(sampling.top_k),
        repetition_penalty: is_on(sampling.repeat_penalty, 1.0),
        frequency_penalty: is_on(sampling.frequency_penalty, 0.0),
        stop: &request.stop[..request.stop.len().min(STOP_MAX)],
        grammar,
    };
    let body = Body { inputs, parameters };
    Ok(serde_json::to_vec(&body).expect("numbers and strings always serialise"))
}

#[expect(clippy::float_cmp, reason = "the neutral values are exact")]
fn is_on(value: f32, off: f32) -> Option<f32> {
    (value != off).then_some(value)
}
