//! `cargo xtask sim`: the scheduler in virtual time.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::process::{cargo, exit_code};

#[derive(Args)]
pub(crate) struct Sim {
    /// Where the figures go, beside the table.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only these scenarios, by comma.
    #[arg(long)]
    scenarios: Option<String>,
    /// Seeds 1 to this; each figure is the worst of them.
    #[arg(long)]
    seeds: Option<u64>,
}

/// Builds the simulator in release, runs it and draws into `target/sim/`.
pub(crate) fn run(sim: &Sim) -> anyhow::Result<ExitCode> {
    let mut command = cargo(&["run", "--quiet", "--release", "-p", "sim", "--"]);
    command.arg("--plots").arg(crate::root().join("target/sim"));
    if let Some(path) = &sim.json {
        command.arg("--json").arg(std::path::absolute(path)?);
    }
    if let Some(scenarios) = &sim.scenarios {
        command.args(["--scenarios", scenarios]);
    }
    if let Some(seeds) = sim.seeds {
        command.args(["--seeds", &seeds.to_string()]);
    }
    exit_code(&mut command)
}
