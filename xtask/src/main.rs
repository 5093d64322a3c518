//! Project commands. `cargo xtask --help` lists them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to its user")]

mod bench;
mod chaos;
mod ci;
mod dev_up;
mod gates;
mod process;
mod regen;
mod registry;
mod sim;
mod test;
mod tidy;
mod up;
mod validate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// From a fresh machine to streamed tokens from a real llama.cpp.
    Up(up::Up),
    /// One engine, installed where registries have it, behind the orchestrator.
    #[command(name = "dev:up")]
    DevUp(dev_up::DevUp),
    /// Every test, the real engine included. Further arguments go to the test runner.
    Test {
        /// The conformance suite against real engines instead: `all`, or some of llamacpp, vllm and
        /// triton, separated by commas.
        #[arg(long)]
        engines: Option<String>,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The test against pretence with a model that follows instructions.
    Haiku {
        #[arg(long, value_name = "FILE.gguf")]
        model: PathBuf,
    },
    /// What things cost, as ratios within one run.
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// The scheduler in virtual time, beside what others do; draws into target/sim/.
    Sim(sim::Sim),
    /// Daemons and engines killed, connections cut and the disk filled under a load: nothing may be lost.
    Chaos(chaos::Chaos),
    /// Write what is generated from the code and from the last full test run.
    Regen {
        /// Write nothing; fail if something is stale.
        #[arg(long)]
        check: bool,
    },
    /// Ten small sabotages of a copy of the project, each against the gate that must catch it.
    Gates,
    /// What CI runs: fmt, clippy, deny, tidy, regen --check, test, chaos.
    Ci,
    /// The checks of structure and text that no compiler makes.
    Tidy {
        /// Rewrite ci/dependency-edges.txt.
        #[arg(long)]
        write: bool,
    },
    /// Check configuration files: 0 if all are valid, 64 if not.
    ValidateConfig {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run a command that dies with us; used by `up`.
    #[command(hide = true)]
    Leash {
        parent: i32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Up(up) => up::run(&up).map(|()| ExitCode::SUCCESS),
        Command::DevUp(up) => dev_up::run(&up).map(|()| ExitCode::SUCCESS),
        Command::Test { engines: Some(list), .. } => {
            dev_up::named(&list).and_then(|it| dev_up::test(&it))
        }
        Command::Test { engines: None, arguments } => test::run_tests(&arguments),
        Command::Haiku { model } => test::haiku(&model),
        Command::Bench { bench } => bench::run_bench(&bench),
        Command::Sim(sim) => sim::run(&sim),
        Command::Chaos(chaos) => chaos::run_chaos(&chaos),
        Command::Regen { check } => regen::run(check).map(|()| ExitCode::SUCCESS),
        Command::Gates => gates::run(),
        Command::Ci => ci::ci(),
        Command::Tidy { write } => tidy::run(root(), write).map(|()| ExitCode::SUCCESS),
        Command::ValidateConfig { files } => Ok(validate::run(&files)),
        Command::Leash { parent, command } => process::leash(parent, &command),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

/// The project's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the project")
}
