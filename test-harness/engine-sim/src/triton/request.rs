//! The body of a generate request: which of its keys are tensors, and what the backend makes of them.

use serde_json::{Map, Value};

use super::answers::Refusal;
use crate::args::{Args, Backend};
use crate::directives::Directives;
use crate::generation::Task;
use crate::numbering;
use crate::schema;
use crate::speech::{StopRule, Stops};

/// What a backend's sampling takes if a request does not say.
const VLLM_TOKENS_DEFAULT: u32 = 16;
const TRTLLM_TOKENS_DEFAULT: u32 = 32;

/// The type of an input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Integer,
    Float,
    Bool,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "BYTES",
            Self::Integer => "INT32",
            Self::Float => "FP32",
            Self::Bool => "BOOL",
        }
    }

    pub(super) fn config_name(self) -> &'static str {
        match self {
            Self::Text => "STRING",
            Self::Integer | Self::Float | Self::Bool => self.name(),
        }
    }

    fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Array(list)) => list.iter().all(|it| !it.is_array() && self.takes(it)),
            (Self::Text, Value::String(_)) | (Self::Bool, Value::Bool(_)) => true,
            (Self::Integer, Value::Number(number)) => number.is_i64() || number.is_u64(),
            (Self::Float, Value::Number(_)) => true,
            _ => false,
        }
    }

    /// How the server words a value that the tensor cannot hold.
    fn mismatch(self) -> &'static str {
        match self {
            Self::Text => "non-string as string",
            Self::Integer => "non-signed-integer as signed-integer",
            Self::Float => "non-double as double",
            Self::Bool => "non-boolean as boolean",
        }
    }
}

/// The model's inputs. Every other key of a request is a parameter.
pub(super) fn inputs(backend: Backend) -> &'static [(&'static str, Type)] {
    match backend {
        Backend::Vllm => &[
            ("text_input", Type::Text),
            ("stream", Type::Bool),
            ("sampling_parameters", Type::Text),
            ("exclude_input_in_output", Type::Bool),
            ("return_finish_reason", Type::Bool),
            ("return_cumulative_logprob", Type::Bool),
            ("return_logprobs", Type::Bool),
            ("return_num_input_tokens", Type::Bool),
            ("return_num_output_tokens", Type::Bool),
            ("image", Type::Text),
        ],
        Backend::TrtLlm => &[
            ("text_input", Type::Text),
            ("streaming", Type::Bool),
            ("stop", Type::Bool),
            ("sampling_param_max_tokens", Type::Integer),
            ("sampling_param_temperature", Type::Float),
            ("sampling_param_top_k", Type::Integer),
            ("sampling_param_top_p", Type::Float),
            ("sampling_param_seed", Type::Integer),
            ("sampling_param_stop", Type::Text),
            ("sampling_param_frequency_penalty", Type::Float),
            ("sampling_param_presence_penalty", Type::Float),
            ("sampling_param_best_of", Type::Integer),
            ("sampling_param_exclude_input_from_output", Type::Bool),
            ("sampling_param_return_perf_metrics", Type::Bool),
            ("return_finish_reason", Type::Bool),
            ("return_stop_reason", Type::Bool),
            ("return_num_input_tokens", Type::Bool),
            ("return_num_output_tokens", Type::Bool),
        ],
        Backend::Ensemble => &[
            ("text_input", Type::Text),
            ("max_tokens", Type::Integer),
            ("stream", Type::Bool),
            ("stop_words", Type::Text),
            ("bad_words", Type::Text),
            ("temperature", Type::Float),
            ("top_k", Type::Integer),
            ("top_p", Type::Float),
            ("seed", Type::Integer),
            ("random_seed", Type::Integer),
            ("repetition_penalty", Type::Float),
            ("beam_width", Type::Integer),
            ("end_id", Type::Integer),
            ("pad_id", Type::Integer),
            ("return_log_probs", Type::Bool),
        ],
        Backend::Python => {
            &[("text_input", Type::Text), ("max_tokens", Type::Integer), ("stream", Type::Bool)]
        }
    }
}

/// A generation to run, with what only Triton's backends are asked for.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) id: Option<String>,
    pub(super) stream: bool,
    pub(super) finish_reason: bool,
    pub(super) stop_reason: bool,
    pub(super) input_tokens: bool,
    pub(super) output_tokens: bool,
    /// What the text starts with, if the prompt is to be repeated; escaped for JSON.
    pub(super) text_start: Vec<u8>,
    /// Asks for the end of the request with the same id.
    pub(super) cancels: bool,
    /// What the model answers instead of generating.
    pub(super) failure: Option<String>,
}

/// A body whose tensors and parameters have the right types.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Refuses what the server refuses before the model sees it.
    pub(super) fn parse(args: &Args, body: &[u8]) -> Result<Self, Refusal> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            let message = "failed to parse the request JSON buffer: Invalid value. at 0".to_owned();
            return Err(Refusal { status: 500, message });
        };
        let inputs = inputs(args.triton.backend);
        for (name, value) in &fields {
            if name == "parameters"
                && let Value::Object(parameters) = value
            {
                parameters.iter().try_for_each(|(name, value)| check_parameter(name, value))?;
            } else if let Some((_, kind)) = inputs.iter().find(|(input, _)| input == name) {
                if !kind.takes(value) {
                    let mismatch = kind.mismatch();
                    let message =
                        format!("Unable to parse 'data': attempt to access JSON {mismatch}");
                    return Err(Refusal { status: 500, message });
                }
            } else {
                check_parameter(name, value)?;
            }
        }
        Ok(Self(fields))
    }

    /// A tensor's value, or the first of several.
    fn scalar(&self, name: &str) -> Option<&Value> {
        let value = self.0.get(name)?;
        value.as_array().map_or(Some(value), |list| list.first())
    }

    fn flag(&self, name: &str) -> bool {
        self.scalar(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn limit(&self, name: &str) -> Option<u32> {
        let limit = self.scalar(name)?.as_i64()?;
        Some(u32::try_from(limit.max(1)).unwrap_or(u32::MAX))
    }

    pub(super) fn into_job(self, args: &Args) -> Result<Job, Refusal> {
        let backend = args.triton.backend;
        let Some(text) = self.scalar("text_input").and_then(Value::as_str) else {
            let name = &args.alias;
            let message = format!(
                "[request id: <id_unknown>] expected 1 inputs but got 0 inputs for model '{name}'. Got input(s) [], but missing required input(s) ['text_input']. Please provide all required input(s)."
            );
            return Err(Refusal { status: 400, message });
        };
        let directives =
            Directives::parse(text).map_err(|message| Refusal { status: 400, message })?;
        let tokens = 1 + numbering::count(text);
        let name = if backend == Backend::TrtLlm { "streaming" } else { "stream" };
        let mut job = Job {
            task: Task {
                prompt_tokens: tokens,
                first_number: args.first_number + numbering::first_number(text),
                directives,
                eos_is_token: backend != Backend::Python,
                ..Task::default()
            },
            id: self.0.get("id").and_then(Value::as_str).map(str::to_owned),
            stream: self.flag(name),
            finish_reason: self.flag("return_finish_reason"),
            stop_reason: self.flag("return_stop_reason"),
            input_tokens: self.flag("return_num_input_tokens"),
            output_tokens: self.flag("return_num_output_tokens"),
            text_start: Vec::new(),
            cancels: backend == Backend::TrtLlm && self.flag("stop"),
            failure: None,
        };
        match self.sample(backend, &mut job, text) {
            Ok(()) if tokens < args.slot_context => {}
            Ok(()) => job.failure = Some(overflow(backend, tokens, args.slot_context)),
            Err(message) => job.failure = Some(message),
        }
        Ok(job)
    }

    /// Fills in what the backend's sampling parameters say; an error is the model's answer.
    fn sample(&self, backend: Backend, job: &mut Job, text: &str) -> Result<(), String> {
        match backend {
            Backend::Vllm => return self.sample_vllm(job, text),
            Backend::TrtLlm => {
                let limit = self.limit("sampling_param_max_tokens");
                job.task.limit = limit.unwrap_or(TRTLLM_TOKENS_DEFAULT);
                job.task.stops = stops(self.0.get("sampling_param_stop"), false);
            }
            Backend::Ensemble => {
                job.task.limit = self.limit("max_tokens").ok_or("max_tokens is required")?;
                job.task.stops = stops(self.0.get("stop_words"), false);
            }
            Backend::Python => {
                job.task.limit = self.limit("max_tokens").unwrap_or(VLLM_TOKENS_DEFAULT);
            }
        }
        Ok(())
    }

    fn sample_vllm(&self, job: &mut Job, text: &str) -> Result<(), String> {
        let exclude = self.scalar("exclude_input_in_output").and_then(Value::as_bool);
        if job.stream && exclude == Some(false) {
            return Err("Error generating stream: When streaming, `exclude_input_in_output` = False is not allowed.".to_owned());
        }
        if !job.stream && exclude != Some(true) {
            let quoted = Value::from(text).to_string();
            job.text_start = quoted.as_bytes()[1..quoted.len() - 1].to_vec();
        }
        let sampling = self.scalar("sampling_parameters").and_then(Value::as_str).unwrap_or("{}");
        let sampling: Map<String, Value> = serde_json::from_str(sampling)
            .map_err(|error| format!("Error generating stream: {error}"))?;
        let given = |name: &str| sampling.get(name).filter(|value| !value.is_null());
        job.task.limit = match given("max_tokens").map(Value::as_i64) {
            None => VLLM_TOKENS_DEFAULT,
            Some(Some(limit)) if limit >= 1 => u32::try_from(limit).unwrap_or(u32::MAX),
            Some(_) => {
                return Err("Error generating stream: max_tokens must be at least 1.".to_owned());
            }
        };
        let include = given("include_stop_str_in_output").and_then(Value::as_bool) == Some(true);
        job.task.stops = stops(sampling.get("stop"), include);
        let constraint = given("structured_outputs").or(given("guided_decoding"));
        if let Some(json) = constraint.and_then(|it| it.get("json")) {
            let parsed = json.as_str().map(serde_json::from_str);
            let schema = parsed.unwrap_or_else(|| Ok(json.clone()));
            let schema = schema.map_err(|error| format!("Error generating stream: {error}"))?;
            job.task.script = Some(schema::script(&schema));
        }
        Ok(())
    }
}

/// Recorded: parameters are scalars.
fn check_parameter(name: &str, value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(Refusal {
            status: 400,
            message: format!(
                "parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'."
            ),
        }),
    }
}

fn stops(value: Option<&Value>, include: bool) -> Stops {
    let words = match value {
        Some(Value::String(word)) => vec![word.clone()],
        Some(Value::Array(list)) => {
            list.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    let words = words.into_iter().filter(|word| !word.is_empty()).collect();
    Stops { words, rule: if include { StopRule::Include } else { StopRule::HoldLongest } }
}

fn overflow(backend: Backend, tokens: u32, context: u32) -> String {
    match backend {
        Backend::Vllm => format!(
            "Error generating stream: The decoder prompt (length {tokens}) is longer than the maximum model length of {context}. Make sure that `max_model_len` is no smaller than the number of text tokens."
        ),
        Backend::TrtLlm | Backend::Ensemble => format!(
            "Prompt length ({tokens}) exceeds maximum input length ({context}). Set log level to info and check TRTLLM logs for how to set maximum input length"
        ),
        Backend::Python => format!("prompt of {tokens} tokens exceeds the context of {context}"),
    }
}
