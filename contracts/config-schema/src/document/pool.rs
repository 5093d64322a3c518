//! A pool as written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{EngineKind, Residency, TritonNames, Workload};
use crate::format::{BASE_URL, IDENTIFIER};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolDoc {
    /// The name in logs, metrics and `/v1/pools`.
    #[schemars(extend("format" = IDENTIFIER))]
    pub id: String,
    /// The program that serves the model.
    pub engine: EngineKind,
    /// The model that the engines of this pool serve.
    pub model: ModelDoc,
    /// Ids from `devices`; left out: the only device there is.
    #[schemars(length(min = 1))]
    pub devices: Option<Vec<String>>,
    /// How the model is spread over several devices, as whole ratios in their order; engine `llamacpp`
    /// only, the others divide evenly.
    #[serde(default)]
    #[schemars(length(min = 1), inner(range(min = 1, max = 1000)))]
    pub split: Option<Vec<u32>>,
    /// Whether the model is always loaded.
    #[serde(default)]
    pub residency: Option<Residency>,
    /// Overrides `swap.idle_ttl_ms` for this model.
    #[serde(default)]
    pub idle_ttl_ms: Option<u64>,
    /// Engine processes of this pool.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub replicas: Option<u32>,
    /// Sequences that one engine runs at once; left out: 2, or what an external server says. An
    /// external vllm or triton server does not say.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub slots: Option<u32>,
    /// Which model of a Triton server it is, and how it is spoken to; engine `triton` only.
    #[serde(default)]
    pub triton: Option<TritonDoc>,
    /// A server that somebody else runs; excludes `bin`, `flags` and `env`.
    #[serde(default)]
    pub external: Option<ExternalDoc>,
    /// Engine program: a path, or a name that is looked up on PATH; left out: llama-server, vllm,
    /// text-generation-launcher or tritonserver. For vllm it may be the Python that has it.
    #[serde(default)]
    pub bin: Option<PathBuf>,
    /// Further command-line arguments of the engine.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    pub flags: Vec<String>,
    /// Further environment of the engine.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    pub env: BTreeMap<String, String>,
    /// User of this machine that the engine runs as; only root can start one for somebody else. Left
    /// out: the manager's own.
    #[serde(default)]
    #[schemars(extend("format" = IDENTIFIER))]
    pub user: Option<String>,
    /// Longest time of a load without any progress, in ms.
    #[serde(default)]
    pub start_timeout_ms: Option<u64>,
    /// Time between SIGTERM and SIGKILL, in ms.
    #[serde(default)]
    pub stop_grace_ms: Option<u64>,
    /// When an engine that has ended is started again.
    #[serde(default)]
    pub restart: RestartDoc,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalDoc {
    /// Base URL: `http://host:port`.
    #[schemars(extend("format" = BASE_URL, "examples" = ["http://127.0.0.1:8421"]))]
    pub url: String,
    /// File that holds the engine's key.
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelDoc {
    /// The name callers use.
    #[schemars(length(min = 1))]
    pub id: String,
    /// What it is for; engines llamacpp and vllm have all three. Left out: completion.
    #[serde(default)]
    pub workload: Option<Workload>,
    /// Further names that callers may use.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Model file (llamacpp), folder of the model's files (vllm, tgi) or model repository (triton);
    /// needed unless the engine is external.
    #[schemars(length(min = 1))]
    pub path: Option<PathBuf>,
    /// Context of one slot, in tokens. An external triton server does not say it.
    #[schemars(range(min = 1))]
    pub context_tokens: Option<u32>,
    /// Memory that the loaded model takes on all devices together; left out: estimated from the
    /// file, then measured.
    #[schemars(range(min = 1))]
    pub memory_mib: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TritonDoc {
    /// Its name in the server's model repository.
    #[schemars(length(min = 1))]
    pub model: String,
    /// What its inputs and outputs are called; left out: `vllm`.
    #[serde(default)]
    pub fields: Option<TritonNames>,
    /// The names themselves; `fields: custom` only.
    #[serde(default)]
    pub custom: Option<TritonCustomDoc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TritonCustomDoc {
    /// Input that takes the prompt's text.
    #[schemars(length(min = 1))]
    pub prompt: String,
    /// Output with the answer's text.
    #[schemars(length(min = 1))]
    pub text: String,
    /// Whether each frame repeats the text before it.
    #[serde(default)]
    pub cumulative: bool,
    /// Input, a boolean, that asks for a stream; left out: every answer is one.
    #[serde(default)]
    pub stream: Option<String>,
    /// Inputs of sampler settings: `max_tokens`, `temperature`, `top_p`, `top_k`, `min_p`, `seed`,
    /// `repeat_penalty`, `presence_penalty` or `frequency_penalty`, and the model's name for it.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Input that takes all settings as the text of a JSON object with vLLM's names; excludes `inputs`.
    #[serde(default)]
    pub json_input: Option<String>,
    /// Further inputs, all booleans.
    #[serde(default)]
    pub constant: BTreeMap<String, bool>,
    /// Output that says why the answer ended; left out: the end of the stream does.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Output with the number of the prompt's tokens.
    #[serde(default)]
    pub prompt_tokens: Option<String>,
    /// Output with the number of tokens that a frame adds; left out: one for each frame with text.
    #[serde(default)]
    pub output_tokens: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RestartDoc {
    /// First wait before a restart, in ms; it doubles each time.
    pub backoff_ms: Option<u64>,
    /// Longest wait before a restart, in ms.
    pub backoff_max_ms: Option<u64>,
    /// Failures in a row after which the engine is given up for `breaker_ms`, then tried once.
    #[schemars(range(min = 1))]
    pub breaker_failures: Option<u32>,
    /// How long an engine that was given up rests, in ms.
    #[schemars(range(min = 1))]
    pub breaker_ms: Option<u64>,
}
