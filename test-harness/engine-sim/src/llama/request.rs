//! The body of `POST /completion`, parsed into a job that borrows nothing.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::frames::Settings;
use crate::args::Args;
use crate::directives::Directives;
use crate::generation::Task;
use crate::numbering;
use crate::schema;
use crate::speech::{StopRule, Stops};

/// A generation to run, with what only llama-server asks for.
pub(super) struct Job {
    pub(super) task: Task,
    /// The prompt's text inside the request's bytes, still escaped; `None` for token ids.
    pub(super) prompt_echo: Option<Range<usize>>,
    pub(super) stream: bool,
    pub(super) progress: bool,
    pub(super) timings_per_token: bool,
    pub(super) return_tokens: bool,
    pub(super) id_slot: i64,
    pub(super) settings: Settings,
}

/// The status and message of a refused body.
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) message: String,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    stop: Option<&'a RawValue>,
    #[serde(borrow)]
    json_schema: Option<&'a RawValue>,
    grammar: Option<Cow<'a, str>>,
    #[serde(alias = "max_tokens", alias = "max_completion_tokens")]
    n_predict: Option<i64>,
    seed: Option<i64>,
    id_slot: Option<i64>,
    sse_ping_interval: Option<i64>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    return_progress: bool,
    #[serde(default)]
    timings_per_token: bool,
    #[serde(default)]
    return_tokens: bool,
}

const NUMBERS: &[&str] = &[
    "n_predict",
    "seed",
    "id_slot",
    "sse_ping_interval",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
];

struct PromptFacts {
    tokens: u32,
    first_number: u64,
    directives: Directives,
    text_len: Option<usize>,
}

impl Job {
    /// `body` starts at `offset` of the connection's input.
    pub(super) fn parse(args: &Args, body: &[u8], offset: usize) -> Result<Self, Refused> {
        let parsed: Body<'_> =
            serde_json::from_slice(body).map_err(|error| explain(body, &error))?;
        let Some(raw) = parsed.prompt else {
            return Err(invalid("[json.exception.out_of_range.403] key 'prompt' not found"));
        };
        let facts = PromptFacts::of(raw.get())?;
        let text_at = offset + (raw.get().as_ptr().addr() - body.as_ptr().addr()) + 1;
        let settings = parsed.settings()?;
        let id_slot = parsed.id_slot.unwrap_or(-1);
        let task = Task {
            prompt_tokens: facts.tokens,
            first_number: args.first_number + facts.first_number,
            stops: Stops { words: settings.stop.clone(), rule: StopRule::HoldSuspects },
            directives: facts.directives,
            script: parsed.script()?,
            // Recorded: a limit of 0 still gives one token; a negative one is no limit.
            limit: u32::try_from(settings.n_predict).map_or(u32::MAX, |limit| limit.max(1)),
            slot: u32::try_from(id_slot).ok(),
            ping: match parsed.sse_ping_interval {
                Some(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
                None => args.ping,
            },
            eos_is_token: false,
        };
        Ok(Self {
            task,
            prompt_echo: facts.text_len.map(|len| text_at..text_at + len),
            stream: parsed.stream,
            progress: parsed.return_progress,
            timings_per_token: parsed.timings_per_token,
            return_tokens: parsed.return_tokens,
            id_slot,
            settings,
        })
    }
}

impl Body<'_> {
    /// The answer that the request's constraint asks for. Recorded: a grammar wins over a schema; what
    /// it says is not followed.
    fn script(&self) -> Result<Option<Vec<String>>, Refused> {
        if let Some(grammar) = self.grammar.as_deref().filter(|grammar| !grammar.is_empty()) {
            if grammar.contains("[[bad]]") {
                return Err(invalid("Failed to initialize samplers: failed to parse grammar"));
            }
            return Ok(None);
        }
        let Some(raw) = self.json_schema.filter(|raw| raw.get() != "null") else {
            return Ok(None);
        };
        let refuse = |why: &str| {
            invalid(&format!(
                "Field 'json_schema': \"json_schema\": JSON schema conversion failed:\nJSON schema error at #: {why}"
            ))
        };
        let schema: Value =
            serde_json::from_str(raw.get()).map_err(|error| refuse(&error.to_string()))?;
        match schema::unknown_type(&schema) {
            Some(name) => Err(refuse(&format!("unrecognized type {name}"))),
            None => Ok(Some(schema::script(&schema))),
        }
    }

    /// Out-of-range values are clamped without a word, as recorded.
    fn settings(&self) -> Result<Settings, Refused> {
        let defaults = Settings::default();
        Ok(Settings {
            seed: self.seed.and_then(|seed| u32::try_from(seed).ok()).unwrap_or(u32::MAX),
            temperature: self.temperature.map_or(defaults.temperature, |it| it.max(0.0)),
            top_p: self.top_p.map_or(defaults.top_p, |it| it.clamp(0.0, 1.0)),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(defaults.repeat_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            n_predict: self.n_predict.unwrap_or(-1),
            stream: self.stream,
            timings_per_token: self.timings_per_token,
            stop: self.stop.map_or(Ok(Vec::new()), |raw| stop_strings(raw.get()))?,
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn stop_strings(raw: &str) -> Result<Vec<String>, Refused> {
    match serde_json::from_str(raw) {
        Ok(OneOrMany::One(word)) => Ok(vec![word]),
        Ok(OneOrMany::Many(words)) => Ok(words.into_iter().filter(|it| !it.is_empty()).collect()),
        Err(_) if raw == "null" => Ok(Vec::new()),
        Err(_) => Err(invalid("\"stop\" must be a string or an array of strings")),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PromptPart {
    Id(i64),
    Text(String),
}

impl PromptFacts {
    fn of(raw: &str) -> Result<Self, Refused> {
        if raw.starts_with('"') {
            // A borrowed string needs no copy; one with escapes does.
            let text = serde_json::from_str::<&str>(raw)
                .map(Cow::Borrowed)
                .or_else(|_| serde_json::from_str(raw).map(Cow::Owned))
                .map_err(|error| invalid(&error.to_string()))?;
            return Ok(Self {
                tokens: 1 + numbering::count(&text),
                first_number: numbering::first_number(&text),
                directives: Directives::parse(&text).map_err(|message| invalid(&message))?,
                text_len: Some(raw.len() - 2),
            });
        }
        let parts: Vec<PromptPart> = serde_json::from_str(raw).map_err(|_| {
            invalid("\"prompt\" must be a string, a list of tokens or a list of both")
        })?;
        Self::of_parts(&parts)
    }

    fn of_parts(parts: &[PromptPart]) -> Result<Self, Refused> {
        let mut facts =
            Self { tokens: 0, first_number: 0, directives: Directives::default(), text_len: None };
        for (index, part) in parts.iter().enumerate() {
            match part {
                PromptPart::Id(id) => {
                    let id = u64::try_from(*id)
                        .ok()
                        .filter(|&id| id < numbering::VOCABULARY)
                        .ok_or_else(|| invalid("Prompt contains invalid tokens"))?;
                    facts.tokens = facts.tokens.saturating_add(1);
                    facts.first_number =
                        id.checked_sub(numbering::FIRST_ANSWER_ID).map_or(0, |last| last + 1);
                }
                PromptPart::Text(text) => {
                    let bos = u32::from(index == 0);
                    facts.tokens = facts.tokens.saturating_add(bos + numbering::count(text));
                    facts.first_number = numbering::first_number(text);
                    facts.directives =
                        Directives::parse(text).map_err(|message| invalid(&message))?;
                }
            }
        }
        Ok(facts)
    }
}

fn invalid(message: &str) -> Refused {
    Refused { status: 400, message: message.to_owned() }
}

/// Words a refusal as nlohmann::json would have.
pub(super) fn explain(body: &[u8], error: &serde_json::Error) -> Refused {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let (line, column) = (error.line(), error.column());
        let message = format!(
            "[json.exception.parse_error.101] parse error at line {line}, column {column}: syntax error while parsing value - {error}"
        );
        return Refused { status: 500, message };
    };
    for field in NUMBERS {
        let kind = match value.get(field) {
            None | Some(Value::Number(_) | Value::Null) => continue,
            Some(Value::String(_)) => "string",
            Some(Value::Bool(_)) => "boolean",
            Some(Value::Array(_)) => "array",
            Some(Value::Object(_)) => "object",
        };
        return invalid(&format!(
            "Field '{field}': [json.exception.type_error.302] type must be number, but is {kind}"
        ));
    }
    invalid(&error.to_string())
}
