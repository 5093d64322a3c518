//! Each engine as its template starts it: engine-sim takes that engine's own flags, and refuses what it
//! would refuse.

use std::sync::Arc;

use adapter_api::{Adapter, GenerationEvent, Prompt};
use pool_api::{Engine, ReplicaState, TritonFields, TritonModel};

use crate::jobs::{load, order, unload};
use crate::rig::{Daemon, Place, wait_until};

/// A pool of `engine`, with its model where that engine looks for one.
pub(crate) fn pool(place: &Place, id: &str, engine: &str, more: &str) -> String {
    let model = place.path("models");
    let folder = model.join("tiny");
    std::fs::create_dir_all(&folder).unwrap();
    // For vLLM and TGI, in the layout of Hugging Face.
    let header = r#"{"w":{"dtype":"F16","shape":[8],"data_offsets":[0,16]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    let weights = [&length[..], header.as_bytes(), &[0; 16]].concat();
    std::fs::write(folder.join("model.safetensors"), weights).unwrap();
    std::fs::write(folder.join("config.json"), r#"{"num_hidden_layers": 2}"#).unwrap();
    let path = if engine == "triton" { &model } else { &folder };
    format!(
        "    - id: {id}\n      engine: {engine}\n      bin: '{}'\n      slots: 3\n      \
         model: {{id: m, path: '{}', context_tokens: 600, memory_mib: 50}}\n      \
         flags: ['--dialect', '{engine}', '--decode-us-per-token', '10000']\n{more}",
        engine_sim::binary_path().unwrap().display(),
        path.display(),
    )
}

fn start(place: &Place, engine: &str, more: &str) -> Daemon {
    place.start(&format!("  pools:\n{}", pool(place, "p", engine, more)))
}

/// As an orchestrator would have it.
fn adapter(daemon: &Daemon) -> Arc<dyn Adapter> {
    let pool = daemon.pools().remove(0);
    let replica = &pool.replicas[0];
    let url = replica.endpoint.as_ref().unwrap();
    engines::connect(&pool.engine, url, replica.engine_key.as_deref())
}

/// Five tokens.
fn five(daemon: &Daemon) -> String {
    let adapter = adapter(daemon);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = conformance::request("x", 5);
        assert_eq!(request.prompt, Prompt::Text("x".into()));
        let mut generation = adapter.submit(request).await.unwrap();
        let (mut events, mut text) = (Vec::new(), String::new());
        loop {
            let polled = std::future::poll_fn(|cx| generation.poll_events(cx, &mut events));
            polled.await.unwrap();
            for event in events.drain(..) {
                match event {
                    GenerationEvent::Tokens(piece) => text += &piece.text,
                    GenerationEvent::Finished { .. } => return text,
                    GenerationEvent::PromptProgress { .. } => {}
                }
            }
        }
    })
}

// ORCH-3055, ORCH-3056, ORCH-3057
#[test]
fn each_engine_is_started_tested_and_served() {
    for (engine, version, more) in [
        ("vllm", "0.32.0", ""),
        ("tgi", "3.3.6-dev0", ""),
        ("triton", "2.51.0", "      triton: {model: tiny}\n"),
    ] {
        let place = Place::new();
        let daemon = start(&place, engine, more);
        let replica = daemon.ready();
        assert_eq!(replica.engine_version.as_deref(), Some(version), "{engine}");
        assert_eq!((replica.slots, replica.context_tokens), (3, 600), "{engine}");
        assert_eq!(five(&daemon), " 0 1 2 3 4", "{engine}");
        wait_until("its folder has a digest", || daemon.replica().model_digest.is_some());
        let pool = daemon.pools().remove(0);
        assert_eq!(pool.engine.name(), engine);
        if let Engine::Triton(model) = pool.engine {
            let fields = TritonFields::Vllm;
            assert_eq!(model, TritonModel { model: "tiny".into(), fields });
        }
    }
}

// OC-POOL-3031
#[test]
fn how_full_a_kv_cache_is_is_shown_while_its_engine_runs() {
    let place = Place::new();
    let daemon = start(&place, "vllm", "      residency: on_demand\n");
    let usage = || {
        let version = "engine_version=\"0.32.0\",pool_id=\"p\",replica_id=\"p-0\"";
        daemon.metric(&format!("kv_cache_usage_ratio{{engine=\"vllm\",{version}}}"))
    };
    let mut watch = daemon.watch();
    order(&daemon, "a", &load("p-0"));
    watch.until(|it| it.state == ReplicaState::Ready);
    wait_until("an idle engine tells", || usage() == Some(0.0));
    let adapter = adapter(&daemon);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let generation = runtime.block_on(adapter.submit(conformance::request("x", 599))).unwrap();
    wait_until("a busy one tells", || usage().is_some_and(|it| 0.0 < it && it <= 0.34));
    drop(generation);
    order(&daemon, "b", &unload("p-0", 5_000));
    watch.until(|it| it.state == ReplicaState::Unloaded);
    wait_until("it is shown no longer", || usage().is_none());
}

// OC-ADAPT-5083
#[test]
fn an_engine_that_can_have_a_key_has_one_which_nobody_sees() {
    for engine in ["vllm", "tgi"] {
        let place = Place::new();
        let daemon = start(&place, engine, "");
        let replica = daemon.ready();
        let key = replica.engine_key.unwrap();
        let command = std::fs::read_to_string(format!("/proc/{}/cmdline", replica.pid.unwrap()));
        assert!(!command.unwrap().contains(&key), "{engine}");
        let pool = daemon.pools().remove(0);
        let stranger = engines::connect(&pool.engine, &replica.endpoint.unwrap(), None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let refused = runtime.block_on(stranger.submit(conformance::request("x", 1))).err();
        assert_eq!(refused, Some(adapter_api::EngineError::Unauthorized), "{engine}");
    }
}

// ORCH-4010
#[test]
fn a_model_on_demand_is_loaded_into_each_engine_and_unloaded() {
    for (engine, more) in [("vllm", ""), ("tgi", ""), ("triton", "      triton: {model: tiny}\n")] {
        let place = Place::new();
        let daemon = start(&place, engine, &format!("      residency: on_demand\n{more}"));
        let mut watch = daemon.watch();
        watch.until(|it| it.state == ReplicaState::Unloaded);
        order(&daemon, "a", &load("p-0"));
        watch.until(|it| it.state == ReplicaState::Ready);
        assert_eq!(five(&daemon), " 0 1 2 3 4", "{engine}");
        order(&daemon, "b", &unload("p-0", 5_000));
        watch.until(|it| it.state == ReplicaState::Unloaded);
    }
}

// OC-POOL-3002
#[test]
fn a_model_that_its_engine_cannot_load_is_told_before_it_is_started() {
    let place = Place::new();
    let daemon = start(&place, "triton", "      triton: {model: other}\n");
    let replica = daemon.watch().until(|it| it.state == ReplicaState::Unready);
    let cause = replica.last_error.unwrap();
    assert!(cause.contains("has no model `other`"), "{cause}");
}
