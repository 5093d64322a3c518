//! `cargo xtask gates`: do the gates catch what they are for? Ten small sabotages, each in a copy of the
//! project, each against the gate that must fail on it.

mod sabotage;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};

use crate::process::cargo;
use crate::{root, tidy};
use sabotage::{Gate, SABOTAGES, Sabotage};

/// Runs all of them; fails if one is missed. The copy and its build stay under `target/gates`, so that
/// the next run is quicker.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let copy = root().join("target/gates/tree");
    copy_project(&copy)?;
    println!("gates: the untouched copy must pass every gate");
    for gate in Gate::ALL {
        let (passed, output) = gate_passes(gate, &copy)?;
        ensure!(passed, "the gate `{}` fails without any sabotage:\n{output}", gate.name());
    }
    let mut missed = 0;
    for it in SABOTAGES {
        let caught = is_caught(it, &copy)?;
        missed += usize::from(!caught);
        let verdict = if caught { "caught" } else { "MISSED" };
        println!("{verdict}  {:<32} by {}", it.name, it.gate.name());
    }
    println!("gates: {} of {} caught", SABOTAGES.len() - missed, SABOTAGES.len());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What git knows or would add, and nothing else. Only what differs is written: cargo goes by the times
/// of files, and what was built from a harmed file must count as old.
fn copy_project(copy: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(copy)?;
    // tidy asks git which files there are.
    let status = Command::new("git").args(["init", "--quiet"]).current_dir(copy).status()?;
    ensure!(status.success(), "git init failed");
    let wanted = tidy::tracked(root())?;
    for path in tidy::tracked(copy)?.iter().filter(|it| !wanted.contains(it)) {
        std::fs::remove_file(copy.join(path))?;
    }
    for path in wanted {
        let (from, to) = (root().join(&path), copy.join(&path));
        if std::fs::read(&to).ok() == Some(std::fs::read(&from)?) {
            continue;
        }
        std::fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        std::fs::copy(&from, &to).with_context(|| format!("cannot copy `{}`", path.display()))?;
    }
    Ok(())
}

/// Applies it, runs its gate, undoes it.
fn is_caught(sabotage: &Sabotage, copy: &Path) -> anyhow::Result<bool> {
    let file = copy.join(sabotage.file);
    let sound = std::fs::read_to_string(&file)
        .with_context(|| format!("{}: cannot read `{}`", sabotage.name, sabotage.file))?;
    if sound.matches(sabotage.from).count() != 1 {
        let found = sound.matches(sabotage.from).count();
        bail!("{}: `{}` stands {found} times in {}", sabotage.name, sabotage.from, sabotage.file);
    }
    std::fs::write(&file, sound.replace(sabotage.from, sabotage.to))?;
    let outcome = gate_passes(sabotage.gate, copy);
    std::fs::write(&file, sound)?;
    let (passed, output) = outcome?;
    // A sabotage that does not compile shows nothing about the gate.
    ensure!(!output.contains("could not compile"), "{}:\n{output}", sabotage.name);
    Ok(!passed)
}

/// Whether the gate passes, and what it said.
fn gate_passes(gate: Gate, copy: &Path) -> anyhow::Result<(bool, String)> {
    let output = cargo(gate.arguments())
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", root().join("target/gates/build"))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run the gate `{}`", gate.name()))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}
