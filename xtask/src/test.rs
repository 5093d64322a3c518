//! `cargo xtask test`: every test, with the real engine and the daemons at hand.

use std::path::Path;
use std::process::ExitCode;

use crate::process::{cargo, exit_code, installed_engine, run};
use crate::regen;

/// Tests that need the real engine find it here.
const ENGINE_BIN: &str = "LLAMA_ORCH_ENGINE_BIN";

/// The runner's exit code; its closing lines are the last output, so nothing is said after them unless
/// the registry of requirements disagrees.
pub(crate) fn run_tests(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let engine = installed_engine()?;
    // Tests start the daemons as processes, from beside themselves.
    run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    if !nextest() {
        println!(
            "cargo-nextest is missing, cargo test takes its place and requirements/ is NOT compared \
             (ci/scripts/install.sh installs it)"
        );
        let mut command = cargo(&["test", "--workspace"]);
        return exit_code(command.args(arguments).env(ENGINE_BIN, engine));
    }
    let mut command = cargo(&["nextest", "run", "--workspace", "--profile", "ci"]);
    let code = exit_code(command.args(arguments).env(ENGINE_BIN, engine))?;
    if code == ExitCode::SUCCESS && arguments.is_empty() {
        regen::from_tests(true)?;
    }
    Ok(code)
}

/// A poem of this minute from that model.
pub(crate) fn haiku(model: &Path) -> anyhow::Result<ExitCode> {
    let model = std::path::absolute(model)?;
    run(&mut cargo(&["build", "--workspace", "--exclude", "xtask", "--bins"]))?;
    let mut command = cargo(&["test", "-p", "e2e", "--test", "e2e", "haiku"]);
    exit_code(command.env(ENGINE_BIN, installed_engine()?).env("LLAMA_ORCH_HAIKU_MODEL", model))
}

fn nextest() -> bool {
    let version = cargo(&["nextest", "--version"]).output();
    version.is_ok_and(|it| it.status.success())
}
