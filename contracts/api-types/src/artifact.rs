//! Documents that a tenant keeps beside its tasks.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

/// Body of `POST /v1/artifacts`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactRequest {
    pub kind: ArtifactKind,
    /// Text, or any other JSON value; kept as it was sent.
    #[schema(value_type = Value)]
    pub content: Box<RawValue>,
    /// At most 16, each of 1 to 256 bytes.
    #[schema(max_items = 16)]
    #[serde(default)]
    pub tags: Vec<String>,
    /// What it was made from: ids of the tenant's artifacts, at most 16, each once.
    #[schema(max_items = 16)]
    #[serde(default)]
    pub parents: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    Plan,
    Summary,
    Diff,
    Trace,
    Transcript,
}

/// How an artifact's content was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum MediaType {
    /// A string.
    #[serde(rename = "text/plain")]
    Text,
    /// Any other JSON value.
    #[serde(rename = "application/json")]
    Json,
}

/// Body of `GET /v1/artifacts/{id}`; without `content` that of `POST /v1/artifacts`. Never changes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// `sha256:` and 64 hex digits: the digest of the text as UTF-8, or of the JSON as it was sent.
    pub artifact_id: String,
    pub kind: ArtifactKind,
    pub media_type: MediaType,
    /// Of the content.
    pub bytes: u64,
    /// Since 1970.
    pub created_at_ms: u64,
    pub tags: Vec<String>,
    /// What it was made from; kept for as long as this is.
    pub parents: Vec<String>,
    /// The task that it is the transcript of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Uuid>,
    #[schema(value_type = Option<Value>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Box<RawValue>>,
}
