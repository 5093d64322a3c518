//! `cargo xtask ci`: what must pass before anything is merged, cheapest first.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::bail;

use crate::process::{cache_folder, cargo, on_path, run};
use crate::{chaos, regen, root, test, tidy};

const CLIPPY: [&str; 6] = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
const DENY: [&str; 5] = ["--offline", "check", "bans", "licenses", "sources"];

pub(crate) fn ci() -> anyhow::Result<ExitCode> {
    step("fmt", &mut cargo(&["fmt", "--all", "--", "--check"]))?;
    step("clippy", &mut cargo(&CLIPPY))?;
    deny()?;
    println!("== tidy");
    tidy::run(root(), false)?;
    println!("== regen --check");
    regen::from_code(true)?;
    println!("== chaos");
    let code = chaos::both()?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    // Last, because the runner's closing lines are to be the last ones.
    println!("== test");
    test::run_tests(&[])
}

fn deny() -> anyhow::Result<()> {
    match cargo_deny() {
        Some(program) => step("deny", Command::new(program).args(DENY)),
        None if std::env::var_os("CI").is_some() => {
            bail!("cargo-deny is missing: `ci/scripts/install.sh` installs it")
        }
        None => {
            println!(
                "== deny SKIPPED: licenses, bans and sources are NOT checked, because cargo-deny is \
                 missing; `ci/scripts/install.sh` installs it"
            );
            Ok(())
        }
    }
}

/// The pinned one, where it is installed.
fn cargo_deny() -> Option<PathBuf> {
    let pinned = cache_folder().map(|it| it.join("tools/bin/cargo-deny"));
    pinned.filter(|it| it.is_file()).or_else(|| on_path("cargo-deny"))
}

fn step(name: &str, command: &mut Command) -> anyhow::Result<()> {
    println!("== {name}");
    run(command)
}
