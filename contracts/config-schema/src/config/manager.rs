//! What pool-managerd is configured to do, after defaults and checks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bind;
use crate::document::TritonDoc;

/// Settings of pool-managerd.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagerConfig {
    pub bind: Bind,
    pub token_file: Option<PathBuf>,
    pub allowed_hosts: Vec<String>,
    pub data_dir: PathBuf,
    pub on_manager_exit: OnManagerExit,
    pub engine_address: IpAddr,
    pub port_range: Option<(u16, u16)>,
    pub nvml_library: Option<PathBuf>,
    pub devices: Vec<Device>,
    pub pools: Vec<PoolConfig>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnManagerExit {
    /// Engines die with the manager, however it dies.
    #[default]
    Stop,
    /// They serve on, and the next manager takes them over.
    Keep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub id: String,
    pub kind: DeviceKind,
    /// Of an NVIDIA GPU; `None`: the one at this device's place among those without.
    pub uuid: Option<String>,
    /// `None`: what the machine or the GPU has, read at start.
    pub memory_mib: Option<u64>,
    pub margin_mib: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The machine's processors and main memory.
    Cpu,
    /// A GPU that NVML knows.
    Nvidia,
    /// An AMD GPU; its memory is stated.
    Rocm,
    /// An Apple GPU; its memory is stated.
    Metal,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Residency {
    /// Loaded at start, never evicted.
    #[default]
    Pinned,
    /// Loaded when a task asks for it, unloaded when others need its memory or nobody asks.
    OnDemand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// llama.cpp's `llama-server`.
    Llamacpp,
    /// vLLM's API server.
    Vllm,
    /// The router of text-generation-inference.
    Tgi,
    /// Triton Inference Server.
    Triton,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// It goes on with a text.
    #[default]
    Completion,
    /// It makes vectors of texts.
    Embedding,
    /// It says how well documents answer a query.
    Rerank,
}

/// Names of a Triton model's inputs and outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TritonNames {
    /// Those of the vLLM backend.
    #[default]
    Vllm,
    /// Those of TensorRT-LLM's LLM-API model.
    Tensorrtllm,
    /// Those of TensorRT-LLM's older ensemble.
    TensorrtllmEnsemble,
    /// Those in `custom`.
    Custom,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    pub id: String,
    pub engine: EngineKind,
    /// There for engine `triton`.
    pub triton: Option<TritonDoc>,
    pub source: EngineSource,
    pub model_id: String,
    pub model_aliases: Vec<String>,
    pub workload: Workload,
    /// Device ids, each of them in [`ManagerConfig::devices`].
    pub devices: Vec<String>,
    /// One ratio for each device.
    pub split: Option<Vec<u32>>,
    pub residency: Residency,
    pub idle_ttl_ms: Option<u64>,
    pub replicas: NonZeroU32,
    pub restart: Restart,
    pub start_timeout_ms: u64,
}

impl PoolConfig {
    /// `None` for an external server.
    #[must_use]
    pub fn model_path(&self) -> Option<&Path> {
        match &self.source {
            EngineSource::Managed { model_path, .. } => Some(model_path),
            EngineSource::External { .. } => None,
        }
    }

    /// Further arguments of the engine; none for an external server.
    #[must_use]
    pub fn flags(&self) -> &[String] {
        match &self.source {
            EngineSource::Managed { flags, .. } => flags,
            EngineSource::External { .. } => &[],
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum EngineSource {
    Managed {
        /// `None`: the engine's usual name, looked up on PATH.
        bin: Option<PathBuf>,
        flags: Vec<String>,
        env: BTreeMap<String, String>,
        user: Option<String>,
        model_path: PathBuf,
        /// `None`: estimated, then measured.
        memory_mib: Option<u64>,
        context_tokens: NonZeroU32,
        slots: NonZeroU32,
        stop_grace_ms: u64,
    },
    External {
        url: String,
        key_file: Option<PathBuf>,
        /// `None`: what the engine says.
        slots: Option<NonZeroU32>,
        /// `None`: what the engine says.
        context_tokens: Option<NonZeroU32>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    /// Failures in a row until the engine is given up.
    pub breaker_failures: NonZeroU32,
    pub breaker_ms: u64,
}
