//! `cargo xtask test`: every test, with the real engine and the daemons at hand.

use std::process::ExitCode;

use crate::process::{cargo, exit_code, installed_engine, run};

/// Tests that need the real engine find it here.
const ENGINE_BIN: &str = "LLAMA_ORCH_ENGINE_BIN";

/// The runner's exit code; its closing lines are the last output, so nothing is said after them.
pub(crate) fn run_tests(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let engine = installed_engine()?;
    // Tests start the daemons as processes, from beside themselves.
    run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let mut command = if nextest() {
        cargo(&["nextest", "run", "--workspace", "--profile", "ci"])
    } else {
        println!(
            "cargo-nextest is missing, cargo test takes its place (ci/scripts/install.sh installs it)"
        );
        cargo(&["test", "--workspace"])
    };
    exit_code(command.args(arguments).env(ENGINE_BIN, engine))
}

fn nextest() -> bool {
    let version = cargo(&["nextest", "--version"]).output();
    version.is_ok_and(|it| it.status.success())
}
