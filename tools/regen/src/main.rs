//! `cargo xtask regen`: files that are generated from the code. A program of its own, so that xtask
//! builds without the daemons.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to its user")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// A file, and what it must hold. The same bytes each time.
const GENERATED: &[(&str, fn() -> String)] = &[
    (".docs/metrics.md", metrics::markdown),
    ("ci/metrics.lint.json", metrics::lint_json),
    ("contracts/schemas/config.schema.json", config_schema::json_schema),
];

#[derive(Parser)]
struct Arguments {
    /// The project's folder.
    root: PathBuf,
    /// Write nothing; fail if a file is not as it would be written.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { root, check } = Arguments::parse();
    let mut stale = 0;
    for (path, generate) in GENERATED {
        let content = generate();
        let file = root.join(path);
        if std::fs::read_to_string(&file).is_ok_and(|it| it == content) {
            continue;
        }
        stale += 1;
        if check {
            eprintln!("regen: {path} is not what the code generates; run `cargo xtask regen`");
        } else {
            write(&file, &content)?;
            println!("regen: wrote {path}");
        }
    }
    println!(
        "regen: {} files, {stale} {}",
        GENERATED.len(),
        if check { "stale" } else { "written" }
    );
    Ok(if check && stale > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(file: &Path, content: &str) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    std::fs::write(file, content).with_context(|| format!("cannot write `{}`", file.display()))
}
