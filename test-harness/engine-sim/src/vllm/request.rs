//! The body of a completion or chat request, checked as vLLM does and in its words.

use serde_json::{Map, Value};

use super::answers::Refusal;
use crate::directives::Directives;
use crate::engine::{self, Engine};
use crate::generation::Task;
use crate::http::Ask;
use crate::numbering::{self, FIRST_ANSWER_ID, VOCABULARY};
use crate::schema;
use crate::speech::{StopRule, Stops};
use crate::template::{self, Message};

/// Recorded: 3584 characters are the most that 256 tokens can have.
const TOKEN_CHARS_MAX: usize = 14;
/// Recorded: what a request gets that does not say.
const LIMIT_DEFAULT: u32 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Chat,
}

pub(super) struct Job {
    pub(super) task: Task,
    pub(super) kind: Kind,
    pub(super) stream: bool,
    pub(super) usage_at_end: bool,
    pub(super) usage_in_each: bool,
    /// The prompt's ids, if ids are to be returned.
    pub(super) prompt_ids: Option<Vec<u64>>,
    /// The id of the answer.
    pub(super) id: String,
    /// The id by which the engine knows the request.
    pub(super) engine_id: String,
    pub(super) created: u64,
}

impl Job {
    pub(super) fn parse(
        engine: &Engine,
        ask: &Ask,
        body: &[u8],
        kind: Kind,
    ) -> Result<Self, Refusal> {
        if !ask.is_json {
            let what = "Unsupported Media Type: Only 'application/json' is allowed";
            return Err(Refusal::validation(None, what));
        }
        let fields = Fields::parse(body)?;
        fields.check_model(&engine.args.alias)?;
        let limit = fields.limit(kind)?;
        fields.check_sampling()?;
        let context = engine.args.slot_context;
        let prompt = fields.prompt(kind, context)?;
        let options = fields.0.get("stream_options").unwrap_or(&Value::Null);
        let option = |name: &str| options.get(name).and_then(Value::as_bool).unwrap_or(false);
        let usage_at_end = option("include_usage");
        let (id, engine_id) = fields.ids(engine, ask, kind);
        let include_stop = fields.flag("include_stop_str_in_output")?;
        let task = Task {
            prompt_tokens: prompt.tokens,
            first_number: engine.args.first_number + prompt.first_number,
            stops: Stops {
                words: fields.stop_words()?,
                rule: if include_stop { StopRule::Include } else { StopRule::HoldLongest },
            },
            directives: prompt.directives,
            script: fields.script()?,
            limit,
            eos_is_token: true,
            ..Task::default()
        };
        Ok(Self {
            task,
            kind,
            stream: fields.flag("stream")?,
            usage_at_end,
            usage_in_each: usage_at_end && option("continuous_usage_stats"),
            prompt_ids: fields.flag("return_token_ids")?.then_some(prompt.ids),
            id,
            engine_id,
            created: engine::unix_s(),
        })
    }
}

struct Prompt {
    tokens: u32,
    first_number: u64,
    directives: Directives,
    ids: Vec<u64>,
}

impl Prompt {
    fn of_text(text: &str, special: bool, context: u32) -> Result<Self, Refusal> {
        let chars = text.chars().count();
        let most = TOKEN_CHARS_MAX * context as usize;
        if chars > most {
            return Err(Refusal::value(
                "input_text",
                &chars,
                &format!(
                    "This model's maximum context length is {context} tokens. However, your prompt contains {chars} characters (more than {most} characters, which is the upper bound for {context} input tokens). Please reduce the length of the input prompt."
                ),
            ));
        }
        let ids = numbering::prompt_ids(text, special);
        Ok(Self {
            tokens: fitting(ids.len(), context)?,
            first_number: numbering::first_number(text),
            directives: Directives::parse(text).map_err(Refusal::bad_request)?,
            ids,
        })
    }

    fn of_ids(list: &[Value], context: u32) -> Result<Self, Refusal> {
        let mut ids = Vec::with_capacity(list.len());
        for value in list {
            let id = value.as_u64().filter(|&id| id < VOCABULARY).ok_or_else(|| {
                Refusal::bad_request(format!("Token id {value} is out of vocabulary"))
            })?;
            ids.push(id);
        }
        let last = ids.last().and_then(|id| id.checked_sub(FIRST_ANSWER_ID));
        Ok(Self {
            tokens: fitting(ids.len(), context)?,
            first_number: last.map_or(0, |last| last + 1),
            directives: Directives::default(),
            ids,
        })
    }
}

/// The number of tokens, if they leave room for an answer.
fn fitting(tokens: usize, context: u32) -> Result<u32, Refusal> {
    let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
    // One token more than the prompt has to fit.
    check_length(tokens.saturating_add(1), context).map_err(|_| too_long(tokens, context))?;
    Ok(tokens)
}

/// Refuses an input of more tokens than the context has.
pub(super) fn check_length(tokens: u32, context: u32) -> Result<(), Refusal> {
    if tokens <= context { Ok(()) } else { Err(too_long(tokens, context)) }
}

fn too_long(tokens: u32, context: u32) -> Refusal {
    Refusal::value(
        "input_tokens",
        &tokens,
        &format!(
            "This model's maximum context length is {context} tokens. However, your prompt contains {tokens} input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt."
        ),
    )
}

pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Refusal::validation(
                Some("body"),
                "{'type': 'model_attributes_type', 'loc': 'body', 'msg': 'Input should be a valid dictionary or object to extract fields from'}",
            )),
            Err(error) => {
                let at = error.column();
                let what = format!(
                    "{{'type': 'json_invalid', 'loc': 'body.{at}', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {{'error': '{error}'}}}}"
                );
                Err(Refusal::validation(Some(&format!("body.{at}")), &what))
            }
        }
    }

    /// A field, null if it is not there.
    pub(super) fn value(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// A field that is there and not null.
    fn given(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.given(name) else { return Ok(None) };
        // Pydantic takes a number in a string as well.
        let parsed = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        let what = if value.is_string() {
            ("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
        } else {
            ("int_type", "Input should be a valid integer")
        };
        parsed.map(Some).ok_or_else(|| invalid(name, what, value))
    }

    fn float(&self, name: &str) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.given(name) else { return Ok(None) };
        let parsed = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        let what = ("float_type", "Input should be a valid number");
        parsed.map(Some).ok_or_else(|| invalid(name, what, value))
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        let Some(value) = self.given(name) else { return Ok(false) };
        let what = ("bool_type", "Input should be a valid boolean");
        value.as_bool().ok_or_else(|| invalid(name, what, value))
    }

    pub(super) fn check_model(&self, alias: &str) -> Result<(), Refusal> {
        match self.given("model").and_then(Value::as_str) {
            Some(model) if model != alias => Err(Refusal {
                status: 404,
                kind: "NotFoundError",
                param: Some("model".to_owned()),
                message: format!("The model `{model}` does not exist. Valid aliases: {alias}."),
            }),
            _ => Ok(()),
        }
    }

    fn limit(&self, kind: Kind) -> Result<u32, Refusal> {
        let name = match kind {
            Kind::Chat if self.given("max_completion_tokens").is_some() => "max_completion_tokens",
            Kind::Chat | Kind::Text => "max_tokens",
        };
        match self.integer(name)? {
            Some(limit) if limit < 1 => {
                let why = format!("max_tokens must be at least 1, got {limit}.");
                Err(Refusal::value("max_tokens", &limit, &why))
            }
            Some(limit) => Ok(u32::try_from(limit).unwrap_or(u32::MAX)),
            None if kind == Kind::Chat => Ok(u32::MAX),
            None => Ok(LIMIT_DEFAULT),
        }
    }

    fn check_sampling(&self) -> Result<(), Refusal> {
        if let Some(value) = self.float("temperature")?
            && value < 0.0
        {
            let why = format!("temperature must be non-negative, got {value:?}.");
            return Err(Refusal::value("temperature", &format!("{value:?}"), &why));
        }
        if let Some(value) = self.float("top_p")?
            && !(value > 0.0 && value <= 1.0)
        {
            let why = format!("top_p must be in (0, 1], got {value:?}.");
            return Err(Refusal::value("top_p", &format!("{value:?}"), &why));
        }
        if let Some(value) = self.integer("top_k")?
            && value < -1
        {
            let why = format!("top_k must be 0 (disable), or at least 1, got {value}.");
            return Err(Refusal::value("top_k", &value, &why));
        }
        self.float("min_p")?;
        self.integer("seed")?;
        if let Some(count) = self.integer("n")?
            && count != 1
        {
            return Err(Refusal::bad_request("engine-sim gives one answer per request".to_owned()));
        }
        Ok(())
    }

    fn prompt(&self, kind: Kind, context: u32) -> Result<Prompt, Refusal> {
        if kind == Kind::Chat {
            let messages = self.0.get("messages").cloned().unwrap_or_default();
            let messages: Vec<Message> = serde_json::from_value(messages).map_err(|error| {
                let what =
                    format!("{{'type': 'missing', 'loc': 'body.messages', 'msg': '{error}'}}");
                Refusal::validation(Some("body.messages"), &what)
            })?;
            return Prompt::of_text(&template::apply(&messages), true, context);
        }
        let special = self.0.get("add_special_tokens").and_then(Value::as_bool).unwrap_or(true);
        match self.given("prompt") {
            Some(Value::String(text)) => Prompt::of_text(text, special, context),
            Some(Value::Array(list)) => match list.as_slice() {
                [Value::String(text)] => Prompt::of_text(text, special, context),
                [Value::Array(ids)] => Prompt::of_ids(ids, context),
                [Value::Number(_), ..] => Prompt::of_ids(list, context),
                [] => Err(no_prompt()),
                _ => {
                    Err(Refusal::bad_request("engine-sim takes one prompt per request".to_owned()))
                }
            },
            _ => Err(no_prompt()),
        }
    }

    fn stop_words(&self) -> Result<Vec<String>, Refusal> {
        let Some(value) = self.given("stop") else { return Ok(Vec::new()) };
        if let Some(word) = value.as_str() {
            return Ok(vec![word.to_owned()]);
        }
        let words: Option<Vec<String>> = value
            .as_array()
            .and_then(|list| list.iter().map(|it| it.as_str().map(str::to_owned)).collect());
        let words = words
            .ok_or_else(|| invalid("stop", ("list_type", "Input should be a valid list"), value))?;
        if words.iter().any(String::is_empty) {
            return Err(Refusal::bad_request("stop cannot contain an empty string.".to_owned()));
        }
        Ok(words)
    }

    /// The answer that the request's constraint asks for, if it has one that this engine follows.
    fn script(&self) -> Result<Option<Vec<String>>, Refusal> {
        if let Some(outputs) = self.given("structured_outputs") {
            let given = |name: &str| outputs.get(name).filter(|value| !value.is_null());
            if given("grammar")
                .or(given("regex"))
                .is_some_and(|it| it.to_string().contains("[[bad]]"))
            {
                return Err(Refusal::bad_request("Grammar error: failure on demand".to_owned()));
            }
            if let Some(first) = given("choice").and_then(|list| list.get(0)?.as_str()) {
                return Ok(Some(schema::pieces(first)));
            }
            return given("json").map(script_of_json).transpose();
        }
        let Some(format) = self.given("response_format") else { return Ok(None) };
        match format.get("type").and_then(Value::as_str) {
            Some("json_object") => Ok(Some(schema::any_object())),
            Some("json_schema") => {
                let schema = format.pointer("/json_schema/schema").unwrap_or(&Value::Null);
                script_of_json(schema).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The id of the answer, and the engine's own.
    fn ids(&self, engine: &Engine, ask: &Ask, kind: Kind) -> (String, String) {
        let asked = ask.request_id.clone();
        let asked = asked.or_else(|| self.given("request_id")?.as_str().map(str::to_owned));
        let base = asked.unwrap_or_else(|| {
            let count = engine.stats.requests.load(std::sync::atomic::Ordering::Relaxed);
            format!("{:016x}", count.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        });
        match kind {
            Kind::Text => (format!("cmpl-{base}"), format!("cmpl-{base}-0")),
            Kind::Chat => (format!("chatcmpl-{base}"), format!("chatcmpl-{base}")),
        }
    }
}

/// A schema may come as JSON or as a string of JSON.
fn script_of_json(given: &Value) -> Result<Vec<String>, Refusal> {
    let parsed = given.as_str().map(serde_json::from_str::<Value>).transpose();
    let schema = parsed.ok().map(|parsed| parsed.unwrap_or_else(|| given.clone()));
    match schema {
        Some(schema) if schema.is_object() && schema::unknown_type(&schema).is_none() => {
            Ok(schema::script(&schema))
        }
        _ => Err(Refusal::bad_request("Grammar error: invalid JSON schema".to_owned())),
    }
}

fn no_prompt() -> Refusal {
    let what = "Either prompt or prompt_embeds must be provided and non-empty.";
    Refusal::bad_request(what.to_owned())
}

fn invalid(name: &str, (kind, message): (&str, &str), value: &Value) -> Refusal {
    let input = match value {
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    };
    let what =
        format!("{{'type': '{kind}', 'loc': 'body.{name}', 'msg': '{message}', 'input': {input}}}");
    Refusal::validation(Some(&format!("body.{name}")), &what)
}
