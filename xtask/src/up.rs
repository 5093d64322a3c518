//! `cargo xtask up`: build, find an engine, start both daemons, show tokens, stay until Ctrl-C.

mod config;
pub(crate) mod preflight;
pub(crate) mod stack;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;

use crate::process::{cargo, installed_engine, on_path, pause, run as run_command};
use crate::root;
use stack::Stack;

/// What the tiny model knows by heart is verse; any prompt does for another model.
const PROMPT: &str = "In the beginning";
const PROMPT_TOKENS: &str = "48";

#[derive(Args)]
pub(crate) struct Up {
    /// Stop after the demonstration.
    #[arg(long)]
    once: bool,
    /// The engine's program; left out: `llama-server` on PATH, else the pinned wheel.
    #[arg(long, value_name = "PATH")]
    engine_bin: Option<PathBuf>,
    /// Serve this model instead of the bundled tiny one.
    #[arg(long, value_name = "FILE.gguf")]
    model: Option<PathBuf>,
    /// Port of orchestratord; pool-managerd takes the next one.
    #[arg(long, default_value_t = 8420)]
    port: u16,
}

/// Settings after everything was found.
pub(crate) struct Plan {
    /// `target/release` or `target/debug`.
    pub(crate) programs: PathBuf,
    /// Configuration, logs, data.
    pub(crate) folder: PathBuf,
    /// As in the configuration; all are ready before anything is shown.
    pub(crate) pools: Vec<Value>,
    pub(crate) port: u16,
}

pub(crate) fn run(up: &Up) -> anyhow::Result<()> {
    // Registered first: a Ctrl-C during the build or the start must clean up as well.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let target = target()?;
    let model = model(up.model.as_deref())?;
    preflight::check(&model, &target, up.port)?;
    // Before the build: what it lacks is known in seconds, the build takes minutes.
    let engine = engine(up.engine_bin.as_deref())?;
    println!("engine: {}", engine.display());
    println!("model:  {}", model.display());
    let id = model_id(&model, up.model.is_some());
    // A model of one's own is one of which nothing is known.
    let pool = config::pool(&engine, &model, &id, up.model.is_some())?;
    let plan = Plan {
        programs: build(&target)?,
        folder: target.join("up"),
        pools: vec![pool],
        port: up.port,
    };
    serve(&plan, up.once, &stop)
}

/// Builds what is to run, with all that makes it fast; the folder it is in.
pub(crate) fn build(target: &Path) -> anyhow::Result<PathBuf> {
    println!("building orchestratord, pool-managerd and llorch (release; minutes the first time)");
    let packages = ["-p", "orchestratord", "-p", "pool-managerd", "-p", "llorch"];
    run_command(cargo(&["build", "--release"]).args(packages))?;
    Ok(target.join("release"))
}

/// Shows tokens of every pool, and stays until Ctrl-C unless it is for `once`.
pub(crate) fn serve(plan: &Plan, once: bool, stop: &AtomicBool) -> anyhow::Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut stack = Stack::start(plan)?;
    let shown = show(once, plan, &mut stack, stop);
    stack.stop()?;
    shown
}

fn show(once: bool, plan: &Plan, stack: &mut Stack, stop: &AtomicBool) -> anyhow::Result<()> {
    if !stack.wait_ready(stop)? {
        return Ok(());
    }
    for pool in &plan.pools {
        match demonstrate(plan, pool["model"]["id"].as_str().unwrap_or_default()) {
            // Ctrl-C reaches llorch, too; that it ended is no failure.
            Err(_) if stop.load(Ordering::Relaxed) => return Ok(()),
            done => done?,
        }
    }
    if !once {
        hints(plan);
        stay(stack, stop)?;
    }
    Ok(())
}

/// Until a signal, or until a daemon is gone.
fn stay(stack: &mut Stack, stop: &AtomicBool) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        stack.check_alive()?;
        pause(Duration::from_millis(100));
    }
    println!();
    Ok(())
}

pub(crate) fn demonstrate(plan: &Plan, model: &str) -> anyhow::Result<()> {
    println!("\nmodel:  {model}\nprompt: {PROMPT}");
    let status = Command::new(plan.programs.join("llorch"))
        .args([
            "--url",
            &plan.url(),
            "submit",
            "--model",
            model,
            "--timings",
            "--temperature",
            "0",
            "--max-tokens",
            PROMPT_TOKENS,
            PROMPT,
        ])
        .status()
        .context("cannot run llorch")?;
    ensure!(status.success(), "the demonstration failed (see above)");
    Ok(())
}

fn hints(plan: &Plan) {
    let url = plan.url();
    println!(
        "\nserving on {url} until Ctrl-C; try:\n  \
         curl -N {url}/v1/tasks -H 'content-type: application/json' -H 'accept: text/event-stream' \
         -d '{{\"prompt\": \"And it came to pass\", \"max_tokens\": 40}}'\n  \
         curl {url}/v1/models\n  \
         curl {url}/v1/queue"
    );
}

impl Plan {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn model(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match asked {
        Some(path) => path.to_owned(),
        None => root().join("models/tiny-scribe-q8_0.gguf"),
    };
    std::fs::canonicalize(&path)
        .with_context(|| format!("cannot find the model `{}`", path.display()))
}

/// The file's name without its ending, in the characters that ids may have.
fn model_id(model: &Path, own: bool) -> String {
    if !own {
        return "tiny-scribe".into();
    }
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    stem.chars().map(|it| if it.is_ascii_graphic() { it } else { '-' }).collect()
}

fn engine(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = asked {
        return std::fs::canonicalize(path)
            .with_context(|| format!("cannot find the engine `{}`", path.display()));
    }
    match on_path("llama-server") {
        Some(path) => Ok(path),
        None => installed_engine(),
    }
}

/// The folder that cargo builds into: the one we lie in.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding our own program")?;
    let target = own.parent().and_then(Path::parent);
    Ok(target.context("xtask lies in a target folder")?.to_owned())
}
