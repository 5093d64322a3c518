//! The server's and the model's properties, and loading and unloading it.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::request::{Type, inputs};
use super::{MODEL_VERSION, answers};
use crate::args::Backend;
use crate::engine::Engine;
use crate::wire::{Gone, Then, Wire};

pub(super) async fn server(wire: &mut Wire) -> Result<Then, Gone> {
    // Recorded: generate works and is not listed.
    let body = r#"{"name":"triton","version":"2.51.0","extensions":["classification","sequence","model_repository","model_repository(unload_dependents)","schedule_policy","model_configuration","system_shared_memory","cuda_shared_memory","binary_tensor_data","parameters","statistics","trace","logging"]}"#;
    answers::json(wire, body).await
}

pub(super) async fn index(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    let name = &engine.args.alias;
    let model = if engine.model_loaded.load(Relaxed) {
        json!({ "name": name, "version": MODEL_VERSION, "state": "READY" })
    } else {
        json!({
            "name": name, "version": MODEL_VERSION, "state": "UNAVAILABLE", "reason": "unloaded",
        })
    };
    answers::json(wire, &Value::from(vec![model]).to_string()).await
}

/// Takes as long as the start does elsewhere.
pub(super) async fn load(engine: &Engine, wire: &mut Wire, model: &str) -> Result<Then, Gone> {
    if let Some(then) = refuse_control(engine, wire, "load", model).await? {
        return Ok(then);
    }
    wire.sleep_until(Instant::now() + engine.args.load).await;
    engine.model_loaded.store(true, Relaxed);
    answers::empty(wire, 200).await
}

pub(super) async fn unload(engine: &Engine, wire: &mut Wire, model: &str) -> Result<Then, Gone> {
    if let Some(then) = refuse_control(engine, wire, "unload", model).await? {
        return Ok(then);
    }
    engine.model_loaded.store(false, Relaxed);
    answers::empty(wire, 200).await
}

async fn refuse_control(
    engine: &Engine,
    wire: &mut Wire,
    verb: &str,
    model: &str,
) -> Result<Option<Then>, Gone> {
    if !engine.args.triton.explicit {
        let message = "explicit model load / unload is not allowed if polling is enabled";
        return answers::error(wire, 503, message).await.map(Some);
    }
    if model != engine.args.alias {
        let message = format!("failed to {verb} '{model}', failed to poll from model repository");
        return answers::error(wire, 500, &message).await.map(Some);
    }
    Ok(None)
}

pub(super) async fn metadata(engine: &Engine, wire: &mut Wire, model: &str) -> Result<Then, Gone> {
    if let Some(message) = absence(engine, model) {
        return answers::error(wire, 404, &message).await;
    }
    let tensor = |(name, kind): &(&str, Type)| json!({ "name": name, "datatype": kind.name(), "shape": [1] });
    let backend = engine.args.triton.backend;
    let body = json!({
        "name": model, "versions": [MODEL_VERSION], "platform": platform(backend),
        "inputs": inputs(backend).iter().map(tensor).collect::<Vec<_>>(),
        "outputs": [{ "name": "text_output", "datatype": "BYTES", "shape": [-1] }],
    });
    answers::json(wire, &body.to_string()).await
}

pub(super) async fn config(engine: &Engine, wire: &mut Wire, model: &str) -> Result<Then, Gone> {
    if let Some(message) = absence(engine, model) {
        return answers::error(wire, 404, &message).await;
    }
    let tensor = |(name, kind): &(&str, Type)| json!({ "name": name, "data_type": format!("TYPE_{}", kind.config_name()), "dims": [1] });
    let backend = engine.args.triton.backend;
    let body = json!({
        "name": model, "backend": platform(backend), "max_batch_size": 0,
        "input": inputs(backend).iter().map(tensor).collect::<Vec<_>>(),
        "output": [{ "name": "text_output", "data_type": "TYPE_STRING", "dims": [-1] }],
        "model_transaction_policy": { "decoupled": true },
    });
    answers::json(wire, &body.to_string()).await
}

/// What a request for a model that is not there is told.
pub(super) fn absence(engine: &Engine, model: &str) -> Option<String> {
    if model != engine.args.alias {
        Some(format!("Request for unknown model: '{model}' is not found"))
    } else if !super::is_ready(engine) {
        Some(format!("Request for unknown model: '{model}' has no available versions"))
    } else {
        None
    }
}

fn platform(backend: Backend) -> &'static str {
    match backend {
        Backend::Vllm => "vllm",
        Backend::TrtLlm | Backend::Python => "python",
        Backend::Ensemble => "ensemble",
    }
}
