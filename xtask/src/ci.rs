//! `cargo xtask test` and `cargo xtask ci`.

use std::process::Command;

use anyhow::Context;

use crate::process::{cargo, installed_engine, on_path, run};
use crate::{root, tidy};

/// Tests that need the real engine find it here.
const ENGINE_BIN: &str = "LLAMA_ORCH_ENGINE_BIN";

pub(crate) fn test(arguments: &[String]) -> anyhow::Result<()> {
    let engine = installed_engine()?;
    // Tests start the daemons as processes, from beside themselves.
    run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let mut command = if nextest() {
        cargo(&["nextest", "run", "--workspace", "--profile", "ci"])
    } else {
        cargo(&["test", "--workspace"])
    };
    run(command.args(arguments).env(ENGINE_BIN, engine))
}

pub(crate) fn ci() -> anyhow::Result<()> {
    step("fmt", &mut cargo(&["fmt", "--all", "--", "--check"]))?;
    step(
        "clippy",
        &mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    )?;
    let deny = ["--offline", "check", "bans", "licenses", "sources"];
    let program = on_path("cargo-deny").context(
        "cargo-deny is missing: `ci/scripts/install.sh` installs it (then put the folder it prints \
         on PATH)",
    )?;
    step("deny", Command::new(program).args(deny))?;
    println!("== tidy");
    tidy::run(root(), false)?;
    println!("== test");
    test(&[])
}

fn step(name: &str, command: &mut Command) -> anyhow::Result<()> {
    println!("== {name}");
    run(command)
}

fn nextest() -> bool {
    let version = cargo(&["nextest", "--version"]).output();
    version.is_ok_and(|it| it.status.success())
}
