//! Which settings make an engine give the same bytes for the same request: those that the determinism
//! suite has proved with real processes, and no others.

use config_schema::{DeviceKind, EngineKind, EngineSource, ManagerConfig, PoolConfig, Workload};
use pool_api::Determinism;

/// Options of llama.cpp that make what comes out depend on more than the request.
const LLAMACPP_DISTURBING: [&str; 6] =
    ["-md", "--model-draft", "--spec-type", "--spec-default", "--lora-scaled", "--slot-save-path"];
/// Options of vLLM without which it depends on what else runs, or ran.
const VLLM_NEEDED: [&str; 2] = ["--enforce-eager", "--no-enable-prefix-caching"];

pub(crate) fn determinism(config: &ManagerConfig, pool: &PoolConfig) -> Determinism {
    match recipe(config, pool) {
        Ok(recipe) => Determinism::Proved { recipe: recipe.into() },
        Err(reason) => Determinism::Unproved { reason },
    }
}

fn recipe(config: &ManagerConfig, pool: &PoolConfig) -> Result<&'static str, String> {
    let EngineSource::Managed { flags, slots, .. } = &pool.source else {
        return Err("somebody else runs that server, and its settings are not known".into());
    };
    if pool.workload != Workload::Completion {
        return Err("no recipe is proved for vectors and scores".into());
    }
    let recipe = match pool.engine {
        EngineKind::Llamacpp => "llamacpp-one-slot-cpu",
        EngineKind::Vllm => "vllm-one-sequence-cpu",
        EngineKind::Tgi => return Err("no recipe of tgi is proved".into()),
        EngineKind::Triton => return Err("no recipe of triton is proved".into()),
    };
    if slots.get() != 1 {
        return Err(format!("its engines run {slots} sequences at once, `slots: 1` is needed"));
    }
    let on_cpu =
        |id: &String| config.devices.iter().any(|it| it.id == *id && it.kind == DeviceKind::Cpu);
    if let Some(device) = pool.devices.iter().find(|it| !on_cpu(it)) {
        return Err(format!("no recipe is proved on GPUs, and it runs on {device}"));
    }
    let has = |flag: &str| flags.iter().any(|it| it.split('=').next() == Some(flag));
    if pool.engine == EngineKind::Llamacpp
        && let Some(flag) = LLAMACPP_DISTURBING.into_iter().find(|it| has(it))
    {
        return Err(format!("no recipe with its flag {flag} is proved"));
    }
    if pool.engine == EngineKind::Vllm
        && let Some(flag) = VLLM_NEEDED.into_iter().find(|it| !has(it))
    {
        return Err(format!("the flag {flag} is needed"));
    }
    Ok(recipe)
}
