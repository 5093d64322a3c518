//! pool-managerd: the agent on each GPU host. Devices, engine processes, readiness.

mod api;
mod app;
mod digest;
mod engine;
mod guard;
mod host;
mod replica;
mod supervisor;
mod telemetry;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use config_schema::Config;
use tracing_subscriber::EnvFilter;

/// Runs and watches the inference engines of this host.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Configuration file (YAML).
    #[arg(long)]
    config: Option<PathBuf>,
    /// Check the configuration and exit: 0 if it is valid, 64 if not.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    internal: Option<Internal>,
}

/// How the manager runs itself again; see `guard.rs`.
#[derive(Subcommand)]
enum Internal {
    #[command(name = guard::GUARD, hide = true)]
    Guard {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    #[command(name = guard::EXEC, hide = true)]
    Exec {
        guard: i32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// `EX_USAGE` of sysexits(3).
const BAD_CONFIG: u8 = 64;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.internal, &arguments.config) {
        (Some(Internal::Guard { command }), _) => guard::guard(command),
        (Some(Internal::Exec { guard, command }), _) => guard::exec(*guard, command),
        (None, Some(config)) => manage(config, arguments.check_config),
        (None, None) => Err(anyhow::anyhow!("--config FILE is needed")),
    };
    done.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

fn manage(path: &Path, check_only: bool) -> anyhow::Result<ExitCode> {
    let config = match read(path) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return Ok(ExitCode::from(BAD_CONFIG));
        }
    };
    if check_only {
        return Ok(ExitCode::SUCCESS);
    }
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::new(&config.log.level))
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(app::run(config, environment()))?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read, once")]
fn environment() -> engine::Environment {
    let inherited = |name: &&str| std::env::var(name).ok().map(|it| ((*name).to_owned(), it));
    engine::INHERITED.iter().filter_map(inherited).collect()
}

fn read(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration `{}`", path.display()))?;
    let config = config_schema::parse(&text).with_context(|| path.display().to_string())?;
    EnvFilter::try_new(&config.log.level).context("/log/level is not a filter")?;
    Ok(config)
}

#[expect(clippy::print_stderr, reason = "before the log is set up there is only stderr")]
fn complain(error: &anyhow::Error) {
    eprintln!("pool-managerd: {error:#}");
}
