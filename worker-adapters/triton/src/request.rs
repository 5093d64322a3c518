//! The body of `POST /v2/models/M/generate_stream`.

use adapter_api::{EngineError, Generate, Prompt, Sampling};
use serde_json::{Map, Value, json};

use crate::fields::{Fields, Settings};
use crate::unsupported;

/// # Errors
/// `Unsupported` for what the model has no input for: the server ignores names that it does not know.
pub(crate) fn body(request: &Generate, fields: &Fields) -> Result<Vec<u8>, EngineError> {
    let Prompt::Text(prompt) = &request.prompt else {
        return Err(unsupported("prompts of token ids"));
    };
    if request.constraint.is_some() {
        return Err(unsupported("structured output"));
    }
    let mut body = Map::new();
    body.insert(fields.prompt.clone(), prompt.as_str().into());
    if let Some(stream) = &fields.stream {
        body.insert(stream.clone(), true.into());
    }
    for (name, value) in &fields.constant {
        body.insert(name.clone(), (*value).into());
    }
    match &fields.settings {
        Settings::Json(input) => {
            body.insert(input.clone(), as_json(request).to_string().into());
        }
        Settings::Inputs(names) => {
            for (ours, value) in as_inputs(request) {
                match (names.get(ours), value) {
                    (Some(theirs), Some(value)) => drop(body.insert(theirs.clone(), value)),
                    // Every request has a seed; whether it matters, the features tell.
                    (Some(_) | None, None) | (None, Some(_)) if ours == "seed" => {}
                    (None, Some(_)) => return Err(unsupported(&format!("input for {ours}"))),
                    (Some(_) | None, None) => {}
                }
            }
        }
    }
    Ok(Value::Object(body).to_string().into_bytes())
}

/// The names are vLLM's. The engine ends at stop sequences by itself; which one counts is ours to say,
/// because it takes the first in the list and we the first in the text.
fn as_json(request: &Generate) -> Value {
    let Sampling { temperature, top_p, top_k, min_p, .. } = request.sampling;
    let mut settings = json!({
        "max_tokens": request.max_tokens.max(1),
        "seed": request.seed,
        "temperature": temperature,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": request.sampling.repeat_penalty,
        "presence_penalty": request.sampling.presence_penalty,
        "frequency_penalty": request.sampling.frequency_penalty,
    });
    if top_k != 0 {
        // What turns it off changed between versions; left out it is off in all.
        settings["top_k"] = top_k.into();
    }
    if !request.stop.is_empty() {
        settings["stop"] = request.stop.as_slice().into();
        settings["include_stop_str_in_output"] = true.into();
    }
    settings
}

/// Ours, with a value unless it is off and can be left out. Stop sequences are found by us.
fn as_inputs(request: &Generate) -> [(&'static str, Option<Value>); 9] {
    let sampling = &request.sampling;
    let samples = sampling.temperature != 0.0;
    let on = |value: f32, off: f32| {
        let differs = (value - off).abs() > f32::EPSILON;
        differs.then(|| json!(value))
    };
    [
        ("max_tokens", Some(request.max_tokens.max(1).into())),
        // Greedy is the only seed that needs none, and a model without the input cannot do better.
        ("seed", samples.then(|| request.seed.into())),
        ("temperature", samples.then(|| json!(sampling.temperature))),
        ("top_p", on(sampling.top_p, 1.0).filter(|_| samples)),
        (
            "top_k",
            match (samples, sampling.top_k) {
                (true, 0) => None,
                (true, top_k) => Some(top_k.into()),
                // Where there is no other word for greedy, this is it.
                (false, _) => Some(1.into()),
            },
        ),
        ("min_p", on(sampling.min_p, 0.0)),
        ("repeat_penalty", on(sampling.repeat_penalty, 1.0)),
        ("presence_penalty", on(sampling.presence_penalty, 0.0)),
        ("frequency_penalty", on(sampling.frequency_penalty, 0.0)),
    ]
}
