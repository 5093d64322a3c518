//! `cargo xtask dev:up ENGINE`, and the engines that `cargo xtask test --engines` runs: each installed
//! where registries have it, and served by our own daemons.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::process::{cargo, exit_code, installed, on_path, run as run_command};
use crate::root;
use crate::up::stack::Stack;
use crate::up::{self, Plan, preflight};

/// Of the bundled model, on each of them.
const CONTEXT_TOKENS: u32 = 1_024;
const SLOTS: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Llamacpp,
    Vllm,
    Triton,
    Tgi,
}

/// What registries have.
const ALL: [Engine; 3] = [Engine::Llamacpp, Engine::Vllm, Engine::Triton];

#[derive(Args)]
pub(crate) struct DevUp {
    engine: Engine,
    /// Stop after the demonstration.
    #[arg(long)]
    once: bool,
    /// Port of orchestratord; pool-managerd takes the next one.
    #[arg(long, default_value_t = 8420)]
    port: u16,
}

pub(crate) fn run(up: &DevUp) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let target = up::target()?;
    preflight::check_ports(up.port)?;
    let pool = pool(up.engine)?;
    let programs = up::build(&target)?;
    let plan = Plan { programs, folder: target.join("dev-up"), pools: vec![pool], port: up.port };
    up::serve(&plan, up.once, &stop)
}

/// The bundled model behind that engine; installs the engine first.
fn pool(engine: Engine) -> anyhow::Result<Value> {
    let model = |id: &str, path: &str| json!({"id": id, "path": path, "context_tokens": CONTEXT_TOKENS, "memory_mib": 4_000});
    Ok(match engine {
        Engine::Llamacpp => {
            let [bin] = installed("llamacpp")?;
            let mut model = model("tiny-llamacpp", "");
            model["path"] = json!(root().join("models/tiny-scribe-q8_0.gguf"));
            model["memory_mib"] = json!(200);
            json!({"id": "llamacpp", "engine": "llamacpp", "bin": bin, "slots": SLOTS, "model": model})
        }
        Engine::Vllm => {
            let [bin, path] = installed("vllm")?;
            json!({
                "id": "vllm", "engine": "vllm", "bin": bin, "slots": SLOTS,
                "model": model("tiny-vllm", &path),
                "flags": ["--dtype", "float32", "--enforce-eager"],
                "env": {
                    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
                    "HF_HUB_OFFLINE": "1",
                },
                "start_timeout_ms": 600_000,
            })
        }
        Engine::Triton => {
            let [bin, path] = installed("triton")?;
            json!({
                "id": "triton", "engine": "triton", "bin": bin, "slots": SLOTS,
                "model": model("tiny-triton", &path), "triton": {"model": "tiny"},
            })
        }
        Engine::Tgi => bail!(tgi()),
    })
}

fn tgi() -> String {
    let launcher = match on_path("text-generation-launcher") {
        Some(path) => format!("`{}` is there", path.display()),
        None => "`text-generation-launcher` is not on PATH".into(),
    };
    format!(
        "TGI is in no package registry, and has no build for processors that loads the bundled model; \
         {launcher}. With a GPU: build the launcher and its server from their source, or run the \
         container ghcr.io/huggingface/text-generation-inference, and serve it with the pools of \
         config/engines/tgi.yaml"
    )
}

/// Every case of the conformance suite against the real engines, behind our own manager.
pub(crate) fn test(engines: &[Engine]) -> anyhow::Result<ExitCode> {
    let pools = engines.iter().copied().map(pool).collect::<anyhow::Result<Vec<_>>>()?;
    // Not this program, which must stay where it is: it is the leash of what it starts.
    let workspace = ["build", "--workspace", "--exclude", "xtask", "--bins"];
    run_command(&mut cargo(&workspace))?;
    let target = up::target()?;
    let port = 8_460;
    preflight::check_ports(port)?;
    let (programs, folder) = (target.join("debug"), target.join("test-engines"));
    let plan = Plan { programs, folder, pools, port };
    let mut stack = Stack::start(&plan)?;
    let never = AtomicBool::new(false);
    stack.wait_ready(&never)?;
    for pool in &plan.pools {
        up::demonstrate(&plan, pool["model"]["id"].as_str().unwrap_or_default())?;
    }
    // No registry has TGI: it is simulated, and the table says so.
    let servers = servers(&plan)? + ";tgi=sim";
    let told = plan.folder.join("conformance.json");
    let case =
        ["test", "-p", "conformance", "--test", "it", "servers_that_run", "--", "--nocapture"];
    let mut command = cargo(&case);
    command.env("LLAMA_ORCH_CONFORMS", servers).env("LLAMA_ORCH_CONFORMS_OUT", &told);
    let code = exit_code(&mut command)?;
    stack.stop()?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let code = prove(&plan.pools)?;
    if code == ExitCode::SUCCESS && engines.len() == ALL.len() {
        let text = std::fs::read_to_string(&told).context("the suite has told nothing")?;
        let table = table(&serde_json::from_str(&text)?);
        std::fs::write(root().join(".docs/engines.md"), table)?;
        println!("wrote .docs/engines.md");
    }
    Ok(code)
}

/// What each engine can do, as the cases have seen it.
fn table(told: &Value) -> String {
    let words = |it: &Value| -> Vec<String> {
        let list = it.as_array().into_iter().flatten();
        list.map(|it| it.as_str().unwrap_or_default().to_owned()).collect()
    };
    let mut text = "# Engines\n\nWritten by `cargo xtask test --engines all`, which runs every case of \
                    the conformance suite against the servers of these versions. *Emulated*: the \
                    adapter does it in the engine's place. *No*: it is refused, or told as not known, \
                    as the case has seen.\n\n"
        .to_owned();
    let versions = words(&told["versions"]);
    text += &format!("| | {} |\n|---{}|\n", versions.join(" | "), "|---".repeat(versions.len()));
    for (case, support) in told["cases"].as_object().into_iter().flatten() {
        let support = words(support).join(" | ").to_lowercase();
        text += &format!("| {} | {support} |\n", case.replace('_', " "));
    }
    text
}

/// The determinism suite against the engines that it has a recipe for.
fn prove(pools: &[Value]) -> anyhow::Result<ExitCode> {
    let mut proved: Vec<Value> =
        pools.iter().filter(|it| it["engine"] == "vllm").cloned().collect();
    for pool in &mut proved {
        pool["slots"] = json!(1);
        let flags = pool["flags"].as_array_mut().context("its flags")?;
        flags.push("--no-enable-prefix-caching".into());
    }
    let case = ["test", "-p", "e2e", "--test", "e2e", "other_engines", "--", "--nocapture"];
    let pools = serde_json::to_string(&proved)?;
    exit_code(cargo(&case).env("LLAMA_ORCH_PROVE", pools))
}

/// Where the engines are, as the conformance suite is told.
fn servers(plan: &Plan) -> anyhow::Result<String> {
    let url = format!("http://127.0.0.1:{}/v1/pools", plan.port + 1);
    let snapshot: Value = ureq::get(&url).call()?.body_mut().read_json()?;
    let pools = snapshot["pools"].as_array().context("a list of pools")?;
    let server = |pool: &Value| {
        let replica = &pool["replicas"][0];
        let word = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        format!(
            "{}={},slots={},context={},key={}",
            word(&pool["engine"]["kind"]),
            word(&replica["endpoint"]),
            replica["slots"],
            replica["context_tokens"],
            word(&replica["engine_key"]),
        )
    };
    Ok(pools.iter().map(server).collect::<Vec<_>>().join(";"))
}

/// `all` is what registries have.
pub(crate) fn named(list: &str) -> anyhow::Result<Vec<Engine>> {
    if list == "all" {
        return Ok(ALL.into());
    }
    let engine = |name: &str| {
        Engine::from_str(name, true)
            .map_err(|_| anyhow::anyhow!("found `{name}`, expected llamacpp, vllm, triton or all"))
    };
    list.split(',').map(engine).collect()
}
