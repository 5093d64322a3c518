//! Writes, or checks, the files that are generated from the code: `cargo xtask regen [--check]`.
//!
//! A program of its own, because it needs both daemons, and xtask builds in seconds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to its user")]

mod file;
mod openapi;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use file::{Outcome, sync};

type Generator = fn() -> String;

/// Each generated file, relative to the project's folder, and what it must hold.
const GENERATED: &[(&str, Generator)] = &[
    (".docs/metrics.md", metrics::markdown),
    ("ci/metrics.lint.json", metrics::lint_json),
    ("contracts/schemas/config.schema.json", config_schema::json_schema),
    ("contracts/openapi/data.yaml", || openapi::yaml(&orchestratord::openapi::data())),
    ("contracts/openapi/control.yaml", || openapi::yaml(&orchestratord::openapi::control())),
    ("contracts/openapi/pool.yaml", || openapi::yaml(&pool_managerd::openapi())),
];

/// Writes the generated files.
#[derive(Parser)]
struct Arguments {
    /// Write nothing; fail if a file is not what the code says.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let stale = run(Arguments::parse().check)?;
    println!("regen: {} files, {stale} stale", GENERATED.len());
    Ok(if stale == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many files are not what the code says.
fn run(check: bool) -> anyhow::Result<usize> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut stale = 0;
    for (path, generate) in GENERATED {
        match sync(&root, path, &generate(), check)? {
            Outcome::Fresh => {}
            Outcome::Written(change) => println!("regen: wrote {path} ({change})"),
            Outcome::Stale(change) => {
                stale += 1;
                eprintln!("regen: {path} is stale ({change}); `cargo xtask regen` writes it");
            }
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests;
