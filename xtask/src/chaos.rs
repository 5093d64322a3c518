//! `cargo xtask chaos`: a load that loses nothing while everything breaks, in real time.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;

use crate::process::{cargo, exit_code, run};
use crate::up;

#[derive(Args)]
pub(crate) struct Chaos {
    /// How long things go wrong, in minutes.
    #[arg(long, default_value = "3")]
    minutes: String,
    /// Draws the tasks and the harm; left out: any.
    #[arg(long)]
    seed: Option<u64>,
    /// `memory`, `process` or `disk`: what tasks survive; with `memory` the run must lose some.
    #[arg(long, default_value = "process")]
    durability: String,
    /// Where the figures go, beside the table.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Builds as the tests do, so that nothing is built twice, and runs it beside the daemons.
pub(crate) fn run_chaos(chaos: &Chaos) -> anyhow::Result<ExitCode> {
    run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let mut command = Command::new(up::target()?.join("debug/chaos"));
    command.args(["--minutes", &chaos.minutes, "--durability", &chaos.durability]);
    if let Some(seed) = chaos.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if let Some(path) = &chaos.json {
        command.arg("--json").arg(std::path::absolute(path)?);
    }
    exit_code(&mut command)
}

/// Three minutes of it, and half a minute in which losses must show.
pub(crate) fn both() -> anyhow::Result<ExitCode> {
    let chaos = |minutes: &str, durability: &str| Chaos {
        minutes: minutes.into(),
        seed: None,
        durability: durability.into(),
        json: None,
    };
    let code = run_chaos(&chaos("3", "process"))?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    run_chaos(&chaos("0.5", "memory"))
}
