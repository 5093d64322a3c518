//! The adapter for each engine, chosen by what a pool says of itself. The daemons know engines by
//! their traits only.

use std::sync::Arc;

use adapter_api::{Adapter, Features};
use llamacpp::LlamaCpp;
use pool_api::{Engine, TritonFields, TritonModel, TritonSettings};
use tgi::Tgi;
use triton::{Fields, Settings, Triton};
use vllm::Vllm;

/// Connects when it is first asked something. `url` is `http://host:port`.
#[must_use]
pub fn connect(engine: &Engine, url: &str, key: Option<&str>) -> Arc<dyn Adapter> {
    match engine {
        Engine::Llamacpp => Arc::new(LlamaCpp::new(url, key)),
        Engine::Vllm => Arc::new(Vllm::new(url, key)),
        Engine::Tgi => Arc::new(Tgi::new(url, key)),
        Engine::Triton(TritonModel { model, fields }) => {
            Arc::new(Triton::new(url, key, model, named(fields)))
        }
    }
}

/// What requests to such an engine can ask for, also while there is none.
#[must_use]
pub fn features(engine: &Engine) -> Features {
    connect(engine, "http://0.0.0.0:0", None).features()
}

fn named(fields: &TritonFields) -> Fields {
    match fields {
        TritonFields::Vllm => Fields::vllm(),
        TritonFields::Tensorrtllm => Fields::tensorrtllm(),
        TritonFields::TensorrtllmEnsemble => Fields::tensorrtllm_ensemble(),
        TritonFields::Custom(custom) => Fields {
            prompt: custom.prompt.clone(),
            stream: custom.stream.clone(),
            settings: match &custom.settings {
                TritonSettings::Json(input) => Settings::Json(input.clone()),
                TritonSettings::Inputs(names) => Settings::Inputs(names.clone()),
            },
            constant: custom.constant.clone(),
            text: custom.text.clone(),
            cumulative: custom.cumulative,
            finish_reason: custom.finish_reason.clone(),
            prompt_tokens: custom.prompt_tokens.clone(),
            output_tokens: custom.output_tokens.clone(),
        },
    }
}
