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
                    (Some(theirs), Setting::Must(value) | Setting::May(value)) => {
                        body.insert(theirs.clone(), value);
                    }
                    (None, Setting::Must(_)) => {
                        return Err(unsupported(&format!("input for {ours}")));
                    }
                    (None, Setting::May(_)) | (_, Setting::Off) => {}
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

/// A setting, and whether a model without an input for it can do without.
enum Setting {
    Must(Value),
    May(Value),
    Off,
}

/// By our names. Stop sequences are found by us.
fn as_inputs(request: &Generate) -> [(&'static str, Setting); 9] {
    let sampling = &request.sampling;
    let samples = sampling.temperature != 0.0;
    let on = |value: f32, off: f32| {
        let differs = (value - off).abs() > f32::EPSILON;
        if differs { Setting::Must(json!(value)) } else { Setting::Off }
    };
    let top_k = match (samples, sampling.top_k) {
        (true, 0) => Setting::Off,
        (true, top_k) => Setting::Must(top_k.into()),
        // Where there is a word for it, this is greedy.
        (false, _) => Setting::May(1.into()),
    };
    [
        ("max_tokens", Setting::Must(request.max_tokens.max(1).into())),
        // Every request has one; whether it matters, the features tell.
        ("seed", Setting::May(request.seed.into())),
        ("temperature", on(sampling.temperature, 0.0)),
        ("top_p", if samples { on(sampling.top_p, 1.0) } else { Setting::Off }),
        ("top_k", top_k),
        ("min_p", on(sampling.min_p, 0.0)),
        ("repeat_penalty", on(sampling.repeat_penalty, 1.0)),
        ("presence_penalty", on(sampling.presence_penalty, 0.0)),
        ("frequency_penalty", on(sampling.frequency_penalty, 0.0)),
    ]
}
