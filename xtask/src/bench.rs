//! `cargo xtask bench relay` builds both sides in release and compares them; `bench adapters` measures
//! what decoding costs, `bench scheduler` the core alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::process::{cargo, exit_code, run};

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// engine-sim direct against through orchestratord.
    Relay {
        /// Where the figures go, beside the table.
        #[arg(long)]
        json: Option<PathBuf>,
        /// Only these profiles: idle, a, b, c, d, disconnect, restart.
        #[arg(long)]
        profiles: Option<String>,
        /// What the relay's tasks survive: memory, process (the default), disk.
        #[arg(long)]
        durability: Option<String>,
    },
    /// CPU time and allocations of each engine's adapter, by token.
    Adapters {
        /// Where the figures go, beside the table.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Time per event and memory per task of the core.
    Scheduler {
        /// Where the figures go, beside the table.
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

pub(crate) fn run_bench(bench: &Bench) -> anyhow::Result<ExitCode> {
    match bench {
        Bench::Relay { json, profiles, durability } => {
            relay(json.as_deref(), profiles.as_deref(), durability.as_deref())
        }
        Bench::Adapters { json } => adapters(json.as_deref()),
        Bench::Scheduler { json } => scheduler(json.as_deref()),
    }
}

fn adapters(json: Option<&Path>) -> anyhow::Result<ExitCode> {
    run(cargo(&["build", "--release"]).args(["-p", "bench", "-p", "engine-sim"]))?;
    let program = ["run", "--quiet", "--release", "-p", "bench", "--bin", "adapters", "--"];
    let mut command = cargo(&program);
    if let Some(path) = json {
        command.arg("--json").arg(std::path::absolute(path)?);
    }
    exit_code(&mut command)
}

fn scheduler(json: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut command = cargo(&["run", "--quiet", "--release", "-p", "sim", "--", "--cost"]);
    if let Some(path) = json {
        command.arg("--json").arg(std::path::absolute(path)?);
    }
    exit_code(&mut command)
}

fn relay(
    json: Option<&Path>,
    profiles: Option<&str>,
    durability: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let packages = ["bench", "engine-sim", "orchestratord", "pool-managerd"];
    let named = packages.iter().flat_map(|it| ["-p", it]);
    run(cargo(&["build", "--release"]).args(named))?;
    let mut command = cargo(&["run", "--quiet", "--release", "-p", "bench", "--"]);
    if let Some(path) = json {
        command.arg("--json").arg(std::path::absolute(path)?);
    }
    if let Some(profiles) = profiles {
        command.args(["--profiles", profiles]);
    }
    if let Some(durability) = durability {
        command.args(["--durability", durability]);
    }
    exit_code(&mut command)
}
