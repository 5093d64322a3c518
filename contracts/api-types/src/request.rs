//! What a client sends to `POST /v1/tasks`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The sampler profile that is meant when none is named.
pub const SAMPLER_PROFILE: &str = "v1";

/// A generation to admit. Exactly one of `prompt`, `messages`, `inputs` and `query` is given.
///
/// The last fields are named only so that they can be refused by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskRequest {
    /// Idempotency key; chosen by the server when left out.
    pub task_id: Option<Uuid>,
    pub session_id: Option<String>,
    pub workload: Workload,
    /// Model id, alias or `sha256:` digest; may be left out where one model is served.
    pub model_ref: Option<String>,
    pub prompt: Option<PromptInput>,
    pub messages: Option<Vec<ChatMessage>>,
    pub inputs: Option<Vec<String>>,
    pub query: Option<String>,
    pub documents: Option<Vec<String>>,
    /// Left out: min(512, context − prompt).
    pub max_tokens: Option<u32>,
    pub ctx: Option<u32>,
    /// Pin by engine kind.
    pub engine: Option<String>,
    pub priority: Priority,
    pub deadline_ms: Option<u64>,
    pub ttl_ms: Option<u64>,
    pub expected_tokens: Option<u32>,
    /// 0 to 4294967294; left out: derived from the task id.
    pub seed: Option<u32>,
    pub determinism: Determinism,
    pub sampler_profile_version: Option<String>,
    pub sampling: Option<Sampling>,
    pub stop: Option<Vec<String>>,
    pub output: Option<Output>,
    pub kv_hint: KvHint,
    pub return_token_ids: bool,
    /// Left out: `cancel` when the stream is asked for in the same request, else `detach`.
    pub on_disconnect: Option<OnDisconnect>,
    /// Counts from when the last reader leaves; left out: 10,000.
    pub disconnect_grace_ms: Option<u64>,
    pub ephemeral: Option<bool>,
    pub placement: Option<Placement>,
    /// For logs only; at most 8.
    pub labels: BTreeMap<String, String>,
    pub tools: Option<Value>,
    pub tool_choice: Option<Value>,
    pub logprobs: Option<Value>,
    pub n: Option<Value>,
    pub images: Option<Value>,
    pub audio: Option<Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    #[default]
    Completion,
    Embedding,
    Rerank,
}

impl Workload {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Embedding => "embedding",
            Self::Rerank => "rerank",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a string or an array of token ids")]
pub enum PromptInput {
    Text(String),
    TokenIds(Vec<u32>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    #[default]
    Interactive,
    Batch,
}

impl Priority {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Determinism {
    #[default]
    BestEffort,
    Strict,
}

/// Sampler settings; one that is left out is the profile's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// 0 (greedy) to 2.
    pub temperature: Option<f32>,
    /// Above 0, to 1 (off).
    pub top_p: Option<f32>,
    /// 0 = off.
    pub top_k: Option<u32>,
    /// 0 (off) to 1.
    pub min_p: Option<f32>,
    /// Above 0, to 2; 1 = off.
    pub repeat_penalty: Option<f32>,
    /// -2 to 2; 0 = off.
    pub presence_penalty: Option<f32>,
    /// -2 to 2; 0 = off.
    pub frequency_penalty: Option<f32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    pub format: OutputFormat,
    pub json_schema: Option<Value>,
    pub grammar: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvHint {
    /// The engine may reuse a cached prefix.
    #[default]
    Reuse,
    /// The prompt is computed anew.
    Cold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// The task ends when its last reader has been gone for `disconnect_grace_ms`.
    Cancel,
    /// The task goes on without readers.
    Detach,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    pub mode: PlacementMode,
    pub pool_ids: Vec<String>,
    pub avoid_pool_ids: Vec<String>,
    pub allow_fallback: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacementMode {
    #[default]
    Auto,
    Prefer,
    Pin,
}
