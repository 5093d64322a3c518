//! What program serves a pool, and what must be known to speak to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The program that serves a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Engine {
    /// llama.cpp's `llama-server`.
    Llamacpp,
    /// vLLM's API server.
    Vllm,
    /// The router of text-generation-inference.
    Tgi,
    /// Triton Inference Server.
    Triton(TritonModel),
}

impl Engine {
    /// The name in configuration, API bodies, metric labels and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Llamacpp => "llamacpp",
            Self::Vllm => "vllm",
            Self::Tgi => "tgi",
            Self::Triton(_) => "triton",
        }
    }
}

/// One model of a Triton server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TritonModel {
    /// Its name in the server's repository.
    pub model: String,
    pub fields: TritonFields,
}

/// What the model's inputs and outputs are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TritonFields {
    /// As in the vLLM backend.
    Vllm,
    /// As in TensorRT-LLM's LLM-API model.
    Tensorrtllm,
    /// As in TensorRT-LLM's older ensemble.
    TensorrtllmEnsemble,
    Custom(Box<TritonCustom>),
}

/// The inputs and outputs of a model of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TritonCustom {
    /// Input that takes the prompt's text.
    pub prompt: String,
    /// Input, a boolean, that asks for a stream; absent where every answer is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    pub settings: TritonSettings,
    /// Further inputs, all booleans.
    pub constant: BTreeMap<String, bool>,
    /// Output with the answer's text.
    pub text: String,
    /// Each frame repeats the text before it.
    pub cumulative: bool,
    /// Output that says why the answer ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Output with the number of the prompt's tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<String>,
    /// Output with the number of tokens that a frame adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<String>,
}

/// Where a model takes sampler settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TritonSettings {
    /// In one input, as the text of a JSON object with vLLM's names.
    Json(String),
    /// Each in an input of its own, whose name stands behind ours.
    Inputs(BTreeMap<String, String>),
}
