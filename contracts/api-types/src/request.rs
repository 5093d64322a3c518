//! What a client sends to `POST /v1/tasks`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// The sampler profile that is meant when none is named.
pub const SAMPLER_PROFILE: &str = "v1";

/// A generation to admit. Exactly one of `prompt`, `messages`, `inputs` and `query` is given.
///
/// The last fields are named only so that they can be refused by name; the schema leaves them out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskRequest {
    /// Idempotency key; chosen by the server when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Uuid>,
    /// Turns of one conversation: 1 to 128 of letters, digits, `.`, `_`, `-`.
    #[schema(min_length = 1, max_length = 128)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    pub workload: Workload,
    /// Model id, alias or `sha256:` digest; may be left out where one model is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_ref: Option<String>,
    /// Text, or the model's own token ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptInput>,
    /// A conversation, put through the model's chat template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<ChatMessage>>,
    /// 1 to 256 texts that become vectors; workload `embedding`.
    #[schema(min_items = 1, max_items = 256)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<String>>,
    /// What the documents are to answer; workload `rerank`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// 1 to 256 texts that are scored; workload `rerank`.
    #[schema(min_items = 1, max_items = 256)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<Vec<String>>,
    /// In tokens, 1 to 1048576; left out: min(512, context − prompt).
    #[schema(minimum = 1, maximum = 1_048_576)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Context to run with, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<u32>,
    /// Pin by engine kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    pub priority: Priority,
    /// From admission to the last token; 1 to 86400000.
    #[schema(minimum = 1, maximum = 86_400_000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Longest time in the queue; 1 to 86400000.
    #[schema(minimum = 1, maximum = 86_400_000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The caller's guess of the answer's length, in tokens; 1 to 1048576.
    #[schema(minimum = 1, maximum = 1_048_576)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_tokens: Option<u32>,
    /// 0 to 4294967294; left out: derived from the task id.
    #[schema(maximum = 4_294_967_294_u64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    pub determinism: Determinism,
    /// A name of the server's configuration; left out: `v1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler_profile_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// At most 16 sequences of 1 to 256 bytes; the text ends before the first that matches.
    #[schema(max_items = 16)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    pub kv_hint: KvHint,
    /// `token` events carry `ids`.
    pub return_token_ids: bool,
    /// Left out: `cancel` when the stream is asked for in the same request, else `detach`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_disconnect: Option<OnDisconnect>,
    /// 0 to 3600000; counts from when the last reader leaves; left out: 10,000.
    #[schema(maximum = 3_600_000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnect_grace_ms: Option<u64>,
    /// Kept in memory only: lost if the daemon dies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
    /// When the task has ended, however it ends, an artifact is kept of it; not with `ephemeral`.
    pub transcript: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// For logs only; at most 8, names and values of at most 64 bytes.
    pub labels: BTreeMap<String, String>,
    #[schema(ignore)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    #[schema(ignore)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<Value>,
    #[schema(ignore)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Value>,
    #[schema(ignore)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<Value>,
    #[schema(ignore)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Value>,
    #[schema(ignore)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a string or an array of token ids")]
pub enum PromptInput {
    Text(String),
    TokenIds(Vec<u32>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Determinism {
    #[default]
    BestEffort,
    /// The same request gives the same bytes from every replica of the same engine version and model
    /// digest, or is refused. It is never continued elsewhere once it has begun.
    Strict,
}

/// Sampler settings; one that is left out is the profile's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// 0 (greedy) to 2.
    #[schema(minimum = 0, maximum = 2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Above 0, to 1 (off).
    #[schema(exclusive_minimum = 0, maximum = 1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// 0 = off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// 0 (off) to 1.
    #[schema(minimum = 0, maximum = 1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Above 0, to 2; 1 = off.
    #[schema(exclusive_minimum = 0, maximum = 2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    /// -2 to 2; 0 = off.
    #[schema(minimum = -2, maximum = 2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// -2 to 2; 0 = off.
    #[schema(minimum = -2, maximum = 2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    pub format: OutputFormat,
    /// What every answer must fit; an object of at most 65536 bytes; format `json` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
    /// In the engine's own notation, which its capabilities tell; 1 to 65536 bytes; format `text` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grammar: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KvHint {
    /// The engine may reuse a cached prefix.
    #[default]
    Reuse,
    /// The prompt is computed anew.
    Cold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// The task ends when its last reader has been gone for `disconnect_grace_ms`.
    Cancel,
    /// The task goes on without readers.
    Detach,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    pub mode: PlacementMode,
    pub pool_ids: Vec<String>,
    pub avoid_pool_ids: Vec<String>,
    pub allow_fallback: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlacementMode {
    #[default]
    Auto,
    Prefer,
    Pin,
}
