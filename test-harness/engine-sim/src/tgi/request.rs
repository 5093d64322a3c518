//! The body of a generation, checked as TGI does and in its words.

use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{self, Refusal, Unread};
use crate::args::Args;
use crate::directives::Directives;
use crate::generation::Task;
use crate::http::Ask;
use crate::numbering;
use crate::schema;
use crate::speech::{StopRule, Stops};

#[derive(Deserialize)]
pub(super) struct Body {
    pub(super) inputs: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Parameters {
    best_of: Option<usize>,
    temperature: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    top_k: Option<i32>,
    top_p: Option<f32>,
    typical_p: Option<f32>,
    do_sample: bool,
    max_new_tokens: Option<u32>,
    return_full_text: Option<bool>,
    stop: Vec<String>,
    truncate: Option<u32>,
    details: bool,
    decoder_input_details: bool,
    seed: Option<u64>,
    grammar: Option<Value>,
}

/// A generation to run, with what only TGI asks for.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) details: bool,
    /// Seen in the details, and only if tokens are drawn.
    pub(super) seed: Option<u64>,
    /// What the text starts with, if the prompt is to be repeated; escaped for JSON.
    pub(super) full_text_start: Vec<u8>,
}

impl Body {
    pub(super) fn read(ask: &Ask, body: &[u8]) -> Result<Self, Unread> {
        answers::read(ask, body, |error| match culprit(body) {
            Some(field) => format!("parameters.{field}: {error}"),
            None => error.to_string(),
        })
    }

    /// The directives of the prompt, which are looked at before anything is validated.
    pub(super) fn directives(&self) -> Result<Directives, Refusal> {
        Directives::parse(&self.inputs).map_err(|message| Refusal::validation(&message))
    }

    pub(super) fn into_job(
        self,
        args: &Args,
        directives: Directives,
        stream: bool,
    ) -> Result<Job, Refusal> {
        self.parameters.check(args, stream)?;
        if self.inputs.is_empty() {
            return Err(Refusal::validation("`inputs` cannot be empty"));
        }
        let Self { inputs, parameters } = self;
        let script = parameters.grammar.as_ref().map(script).transpose()?.flatten();
        let whole = 1 + numbering::count(&inputs);
        let tokens = parameters.truncate.map_or(whole, |most| whole.min(most));
        let (input_max, total_max) = (args.tgi.input_tokens_max, args.slot_context);
        if tokens > input_max {
            return Err(Refusal::validation(&format!(
                "`inputs` must have less than {input_max} tokens. Given: {tokens}"
            )));
        }
        let room = total_max.saturating_sub(tokens);
        let limit = parameters.max_new_tokens.unwrap_or(room);
        if limit > room {
            return Err(Refusal::validation(&format!(
                "`inputs` tokens + `max_new_tokens` must be <= {total_max}. Given: {tokens} `inputs` tokens and {limit} `max_new_tokens`"
            )));
        }
        let task = Task {
            prompt_tokens: tokens,
            first_number: args.first_number + numbering::first_number(&inputs),
            stops: Stops { words: parameters.stop, rule: StopRule::TokenEnd },
            directives,
            script,
            limit,
            ping: args.ping,
            eos_is_token: true,
            ..Task::default()
        };
        let full_text_start = if parameters.return_full_text == Some(true) {
            let quoted = Value::from(inputs).to_string();
            quoted.as_bytes()[1..quoted.len() - 1].to_vec()
        } else {
            Vec::new()
        };
        let seed = parameters.seed.filter(|_| parameters.do_sample);
        Ok(Job { task, details: parameters.details, seed, full_text_start })
    }
}

impl Parameters {
    fn check(&self, args: &Args, stream: bool) -> Result<(), Refusal> {
        let positive = |value: Option<f32>| value.is_none_or(|value| value > 0.0);
        let inside = |value: Option<f32>| value.is_none_or(|value| value > 0.0 && value < 1.0);
        let most = args.tgi.stop_sequences_max;
        let given = self.stop.len();
        let complaint = if self.best_of == Some(0) {
            "`best_of` must be strictly positive"
        } else if self.best_of.is_some_and(|count| count > 1) {
            "engine-sim gives one answer per request"
        } else if !positive(self.temperature) {
            "`temperature` must be strictly positive"
        } else if !positive(self.repetition_penalty) {
            "`repetition_penalty` must be strictly positive"
        } else if self.frequency_penalty.is_some_and(|value| !(-2.0..=2.0).contains(&value)) {
            "`frequency_penalty` must be >= -2.0 and <= 2.0"
        } else if self.top_k.is_some_and(|value| value <= 0) {
            "`top_k` must be strictly positive"
        } else if !inside(self.top_p) {
            "`top_p` must be > 0.0 and < 1.0"
        } else if !inside(self.typical_p) {
            "`typical_p` must be > 0.0 and < 1.0"
        } else if given > most {
            &format!("`stop` supports up to {most} stop sequences. Given: {given}")
        } else if self.max_new_tokens == Some(0) {
            "`max_new_tokens` must be strictly positive"
        } else if self.decoder_input_details && stream {
            "`decoder_input_details` == true is not supported when streaming tokens"
        } else if self.truncate == Some(0) {
            "`truncate` must be strictly positive"
        } else {
            return Ok(());
        };
        Err(Refusal::validation(complaint))
    }
}

/// The answer that a grammar asks for; none for a regular expression, which is not followed.
fn script(grammar: &Value) -> Result<Option<Vec<String>>, Refusal> {
    let invalid = |why: &str| Refusal::validation(&format!("grammar is not valid: {why}"));
    let value = grammar.get("value").unwrap_or(&Value::Null);
    let schema = match grammar.get("type").and_then(Value::as_str) {
        Some("json") => value,
        Some("json_schema") => value.get("schema").unwrap_or(&Value::Null),
        _ if value.to_string().contains("[[bad]]") => return Err(invalid("failure on demand")),
        _ => return Ok(None),
    };
    let parsed = schema.as_str().map(serde_json::from_str::<Value>);
    let schema = match parsed {
        None => schema.clone(),
        Some(parsed) => parsed.map_err(|error| invalid(&error.to_string()))?,
    };
    if schema.get("properties").is_none() {
        return Err(invalid("Grammar must have a 'properties' field"));
    }
    Ok(Some(schema::script(&schema)))
}

/// The parameter whose value has the wrong type.
fn culprit(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let parameters = body.get("parameters")?.as_object()?;
    let fails = |(key, value): &(&String, &Value)| {
        serde_json::from_value::<Parameters>(json!({ (*key): value })).is_err()
    };
    parameters.iter().find(fails).map(|(key, _)| key.clone())
}
