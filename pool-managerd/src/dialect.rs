//! What a pool's configuration says of its engine, as orchestrators are told.

use config_schema::{EngineKind, PoolConfig, TritonCustomDoc, TritonNames};
use pool_api::{Engine, TritonCustom, TritonFields, TritonModel, TritonSettings, Workload};

pub(crate) fn workload(pool: &PoolConfig) -> Workload {
    match pool.workload {
        config_schema::Workload::Completion => Workload::Completion,
        config_schema::Workload::Embedding => Workload::Embedding,
        config_schema::Workload::Rerank => Workload::Rerank,
    }
}

pub(crate) fn engine(pool: &PoolConfig) -> Engine {
    match pool.engine {
        EngineKind::Llamacpp => Engine::Llamacpp,
        EngineKind::Vllm => Engine::Vllm,
        EngineKind::Tgi => Engine::Tgi,
        EngineKind::Triton => {
            let triton = pool.triton.clone().expect("the configuration was checked");
            let fields = match (triton.fields.unwrap_or_default(), triton.custom) {
                (TritonNames::Custom, Some(names)) => TritonFields::Custom(Box::new(custom(names))),
                (TritonNames::Vllm | TritonNames::Custom, _) => TritonFields::Vllm,
                (TritonNames::Tensorrtllm, _) => TritonFields::Tensorrtllm,
                (TritonNames::TensorrtllmEnsemble, _) => TritonFields::TensorrtllmEnsemble,
            };
            Engine::Triton(TritonModel { model: triton.model, fields })
        }
    }
}

fn custom(names: TritonCustomDoc) -> TritonCustom {
    let inputs = TritonSettings::Inputs(names.inputs);
    TritonCustom {
        prompt: names.prompt,
        stream: names.stream,
        settings: names.json_input.map_or(inputs, TritonSettings::Json),
        constant: names.constant,
        text: names.text,
        cumulative: names.cumulative,
        finish_reason: names.finish_reason,
        prompt_tokens: names.prompt_tokens,
        output_tokens: names.output_tokens,
    }
}
