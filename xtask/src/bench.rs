//! `cargo xtask bench relay`: builds both sides in release and runs the comparison.

use std::path::PathBuf;
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
        /// Only these profiles: idle, a, b, c, d, disconnect.
        #[arg(long)]
        profiles: Option<String>,
    },
}

pub(crate) fn run_bench(bench: &Bench) -> anyhow::Result<ExitCode> {
    let Bench::Relay { json, profiles } = bench;
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
    exit_code(&mut command)
}
