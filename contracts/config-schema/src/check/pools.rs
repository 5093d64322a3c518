//! Rules of devices and pools.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Rules;
use crate::config::{BACKOFF_MAX_MS, BACKOFF_MS, GPU_MARGIN_MIB};
use crate::problem::{Problem, nearest, shown};

/// Flags of engines that say what the manager itself must say.
const OWN_FLAGS: [&str; 32] = [
    "-m",
    "--model",
    "--host",
    "--port",
    "-a",
    "--alias",
    "-c",
    "--ctx-size",
    "-np",
    "--parallel",
    "--api-key",
    "--api-key-file",
    "-ts",
    "--tensor-split",
    "-dev",
    "--device",
    // vLLM
    "--served-model-name",
    "--max-model-len",
    "--max-num-seqs",
    "--tensor-parallel-size",
    "-tp",
    "--gpu-memory-utilization",
    "--shutdown-timeout",
    // TGI
    "--model-id",
    "--hostname",
    "--max-total-tokens",
    "--max-concurrent-requests",
    "--num-shard",
    // Triton
    "--model-repository",
    "--http-address",
    "--http-port",
    "--load-model",
];

/// Settings that a model of one's own may have an input for.
const SETTINGS: [&str; 9] = [
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
];

impl Rules<'_> {
    pub(super) fn pools(&mut self, manager: &Value, devices: Option<&BTreeSet<&str>>) {
        for (index, pool) in manager["pools"].as_array().into_iter().flatten().enumerate() {
            let at = format!("/pool_manager/pools/{index}");
            self.source(&at, pool);
            self.restart(&at, &pool["restart"]);
            self.split(&at, pool);
            self.triton(&at, pool);
            self.workload(&at, pool);
            self.own_flags(&at, &pool["flags"]);
            if let Some(known) = devices {
                self.named_devices(&at, pool, known);
            }
        }
        self.pinned(manager);
    }

    /// A GPU is known by its uuid, and only NVIDIA's memory can be asked for.
    pub(super) fn devices(&mut self, devices: &Value) {
        let mut uuids = BTreeSet::new();
        for (index, device) in devices.as_array().into_iter().flatten().enumerate() {
            let at = format!("/pool_manager/devices/{index}");
            let kind = device["kind"].as_str().unwrap_or_default();
            if matches!(kind, "rocm" | "metal") && device["memory_mib"].is_null() {
                let expected = format!("the memory of the {kind} device: nothing here can ask it");
                self.broken(&format!("{at}/memory_mib"), "nothing", expected);
            }
            let Some(uuid) = device["uuid"].as_str() else { continue };
            if kind != "nvidia" {
                let found = format!("a uuid on a device of kind {kind}");
                self.broken(&format!("{at}/uuid"), found, "one on kind nvidia only");
            } else if !uuids.insert(uuid) {
                let found = format!("{} again", shown(&device["uuid"], false));
                self.broken(&format!("{at}/uuid"), found, "each GPU once");
            }
        }
    }

    /// Not every engine makes vectors.
    fn workload(&mut self, at: &str, pool: &Value) {
        let workload = &pool["model"]["workload"];
        if matches!(pool["engine"].as_str(), Some("tgi" | "triton"))
            && matches!(workload.as_str(), Some("embedding" | "rerank"))
        {
            let at = format!("{at}/model/workload");
            self.broken(&at, shown(workload, false), "completion, or engine llamacpp or vllm");
        }
    }

    /// Triton serves many models and says little of them.
    fn triton(&mut self, at: &str, pool: &Value) {
        let (engine, triton) = (pool["engine"].as_str().unwrap_or_default(), &pool["triton"]);
        let external = pool["external"].is_object();
        if external && matches!(engine, "vllm" | "triton") && pool["slots"].is_null() {
            let expected = format!("a number: an external {engine} server does not say its own");
            self.broken(&format!("{at}/slots"), "nothing", expected);
        }
        if engine != "triton" {
            if !triton.is_null() {
                let found = format!("`triton` beside engine {engine}");
                self.broken(&format!("{at}/triton"), found, "it beside engine triton only");
            }
            return;
        }
        if triton.is_null() {
            let expected = "the model in the server's repository: `triton: {model: …}`";
            self.broken(&format!("{at}/triton"), "nothing", expected);
        }
        if external && pool["model"].is_object() && pool["model"]["context_tokens"].is_null() {
            let expected = "a number: an external triton server does not say its own";
            self.broken(&format!("{at}/model/context_tokens"), "nothing", expected);
        }
        let custom = &triton["custom"];
        match (triton["fields"] == "custom", custom.is_null()) {
            (true, true) => {
                let expected = "the names, beside `fields: custom`";
                self.broken(&format!("{at}/triton/custom"), "nothing", expected);
            }
            (false, false) => {
                let expected = "`custom` beside `fields: custom` only";
                self.broken(&format!("{at}/triton/custom"), "names of one's own", expected);
            }
            (true, false) | (false, true) => {}
        }
        let inputs = custom["inputs"].as_object();
        if inputs.is_some_and(|it| !it.is_empty()) && !custom["json_input"].is_null() {
            let expected = "one of `inputs` and `json_input`";
            self.broken(&format!("{at}/triton/custom/json_input"), "both", expected);
        }
        for name in inputs.into_iter().flatten().map(|it| it.0) {
            if !SETTINGS.contains(&name.as_str()) {
                let at = format!("{at}/triton/custom/inputs/{name}");
                self.problems.push(Problem {
                    line: self.tree.line(&at),
                    pointer: at,
                    found: format!("`{name}`"),
                    expected: format!("a setting: {}", SETTINGS.join(", ")),
                    suggestion: nearest(name, SETTINGS),
                });
            }
        }
    }

    /// One ratio for each device.
    fn split(&mut self, at: &str, pool: &Value) {
        let Some(split) = pool["split"].as_array() else { return };
        if matches!(pool["engine"].as_str(), Some("vllm" | "tgi" | "triton")) {
            let expected = "it beside engine llamacpp only: the others divide a model evenly";
            self.broken(&format!("{at}/split"), "`split`", expected);
        }
        let devices = pool["devices"].as_array().map_or(1, Vec::len);
        if split.len() != devices {
            self.broken(
                &format!("{at}/split"),
                format!("{} ratios", split.len()),
                format!("one for each of `devices`, which are {devices}"),
            );
        }
    }

    fn own_flags(&mut self, at: &str, flags: &Value) {
        for (index, flag) in flags.as_array().into_iter().flatten().enumerate() {
            let name = flag.as_str().unwrap_or_default().split('=').next().unwrap_or_default();
            if OWN_FLAGS.contains(&name) {
                self.broken(
                    &format!("{at}/flags/{index}"),
                    format!("`{name}`, which the manager sets itself"),
                    "the pool's own key for it (`model`, `slots`, `split`, `devices`, `port_range`)",
                );
            }
        }
    }

    /// Pinned models are all loaded at once: what they are said to take must be there.
    fn pinned(&mut self, manager: &Value) {
        let mut left: BTreeMap<&str, u64> = BTreeMap::new();
        for device in manager["devices"].as_array().into_iter().flatten() {
            let margin = match &device["kind"] {
                kind if *kind == "cpu" => 0,
                _ => GPU_MARGIN_MIB,
            };
            let margin = device["margin_mib"].as_u64().unwrap_or(margin);
            if let (Some(id), Some(mib)) = (device["id"].as_str(), device["memory_mib"].as_u64()) {
                left.insert(id, mib.saturating_sub(margin));
            }
        }
        let is_pinned = |pool: &Value| pool["residency"].is_null() || pool["residency"] == "pinned";
        let pools = manager["pools"].as_array().map_or(&[][..], Vec::as_slice);
        let (first, then): (Vec<_>, Vec<_>) =
            pools.iter().enumerate().partition(|(_, it)| is_pinned(it));
        for (index, pool) in first.into_iter().chain(then) {
            let Some(mib) = pool["model"]["memory_mib"].as_u64() else { continue };
            let device = match pool["devices"].as_array().map(Vec::as_slice) {
                Some([device]) => device.as_str(),
                None => left.keys().next().copied(),
                Some(_) => None,
            };
            let Some((device, left)) = device.and_then(|it| Some((it, left.get_mut(it)?))) else {
                continue;
            };
            let pinned = is_pinned(pool);
            let replicas = if pinned { pool["replicas"].as_u64().unwrap_or(1) } else { 1 };
            let needed = mib.saturating_mul(replicas);
            if *left < needed {
                self.broken(
                    &format!("/pool_manager/pools/{index}/model/memory_mib"),
                    format!("{needed} MiB for {device}, of which {left} MiB are left"),
                    "pinned models that fit together, and others that fit beside them (or \
                     `residency: on_demand`)",
                );
            } else if pinned {
                *left -= needed;
            }
        }
    }

    /// A pool either runs its engine or uses one that runs elsewhere.
    fn source(&mut self, at: &str, pool: &Value) {
        if !pool.is_object() {
            return;
        }
        if pool["external"].is_null() {
            if pool["model"].is_object() && pool["model"]["path"].is_null() {
                self.broken(
                    &format!("{at}/model/path"),
                    "nothing",
                    "a model file, which a managed engine needs (or `external: {url: …}`)",
                );
            }
            return;
        }
        if pool["residency"] == "on_demand" {
            let expected = "pinned: a server that somebody else runs is not loaded here";
            self.broken(&format!("{at}/residency"), "on_demand beside `external`", expected);
        }
        for key in ["bin", "flags", "env", "user"] {
            let is_empty = match &pool[key] {
                Value::Null => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(entries) => entries.is_empty(),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
            };
            if !is_empty {
                self.broken(
                    &format!("{at}/{key}"),
                    format!("`{key}` beside `external`"),
                    "neither `bin`, `flags`, `env` nor `user`: somebody else runs that server",
                );
            }
        }
        if let Some(replicas) = pool["replicas"].as_u64()
            && replicas > 1
        {
            let expected = "1: an external server is one replica";
            self.broken(&format!("{at}/replicas"), replicas.to_string(), expected);
        }
    }

    fn restart(&mut self, at: &str, restart: &Value) {
        let given = |key: &str, default: u64| match &restart[key] {
            Value::Null => Some(default),
            value => value.as_u64(),
        };
        if let (Some(first), Some(longest)) =
            (given("backoff_ms", BACKOFF_MS), given("backoff_max_ms", BACKOFF_MAX_MS))
            && longest < first
        {
            self.broken(
                &format!("{at}/restart"),
                format!("backoff_ms {first} above backoff_max_ms {longest}"),
                "backoff_ms ≤ backoff_max_ms",
            );
        }
    }

    /// A pool names devices that there are, and names some where there is a choice.
    fn named_devices(&mut self, at: &str, pool: &Value, declared: &BTreeSet<&str>) {
        let fallback = BTreeSet::from(["cpu0"]);
        let known = if declared.is_empty() { &fallback } else { declared };
        let list = || known.iter().copied().collect::<Vec<_>>().join(", ");
        if pool.is_object() && pool["devices"].is_null() && known.len() > 1 {
            let expected = format!("some of {}", list());
            self.broken(&format!("{at}/devices"), "nothing", expected);
        }
        for (index, device) in pool["devices"].as_array().into_iter().flatten().enumerate() {
            let Some(name) = device.as_str() else { continue };
            if !known.contains(name) {
                let at = format!("{at}/devices/{index}");
                self.problems.push(Problem {
                    line: self.tree.line(&at),
                    pointer: at,
                    found: shown(device, false),
                    expected: format!("a declared device: {}", list()),
                    suggestion: nearest(name, known.iter().copied()),
                });
            }
        }
    }
}
