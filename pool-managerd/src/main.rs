//! The program pool-managerd: command line, configuration, environment; see the library for the rest.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand};
use config_schema::LoadError;
use pool_managerd::guard::{self, Guarded};
use pool_managerd::{Ended, Source, User};
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
    /// End the engines that a manager with `on_manager_exit: keep` has left, and exit.
    #[arg(long)]
    stop_engines: bool,
    #[command(subcommand)]
    internal: Option<Internal>,
}

/// How the manager runs itself again; see `guard.rs`.
#[derive(Subcommand)]
enum Internal {
    #[command(name = guard::GUARD, hide = true)]
    Guard {
        #[arg(long, value_parser = user)]
        user: Option<User>,
        door: PathBuf,
        log: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    #[command(name = guard::EXEC, hide = true)]
    Exec {
        #[arg(long, value_parser = user)]
        user: Option<User>,
        guard: i32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// `UID:GID`, as the manager writes it.
fn user(text: &str) -> Result<User, String> {
    let (uid, gid) = text.split_once(':').ok_or("expected UID:GID")?;
    let number = |it: &str| it.parse().map_err(|_| format!("`{it}` is no id"));
    Ok(User { uid: number(uid)?, gid: number(gid)? })
}

/// `EX_USAGE` of sysexits(3).
const BAD_CONFIG: u8 = 64;
const LEFTOVERS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.internal, &arguments.config) {
        (Some(Internal::Guard { user, door, log, command }), _) => {
            let (door, log, command) = (door.clone(), log.clone(), command.clone());
            guard::guard(&Guarded { door, log, user: *user, command })
        }
        (Some(Internal::Exec { user, guard, command }), _) => {
            complain(&guard::exec(*guard, *user, command));
            Ok(ExitCode::from(guard::CANNOT_RUN))
        }
        (None, Some(config)) => manage(config, &arguments),
        (None, None) => {
            complain(&anyhow::anyhow!("which configuration? Give --config FILE"));
            Ok(ExitCode::from(BAD_CONFIG))
        }
    };
    done.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

fn manage(path: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // Read before it is loaded: a change in between is a change.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let config = match config_schema::load(path) {
        Ok(config) => config,
        Err(error) => {
            refuse(error);
            return Ok(ExitCode::from(BAD_CONFIG));
        }
    };
    let credentials = match pool_managerd::credentials(&config.pool_manager) {
        Ok(credentials) => credentials,
        Err(error) => {
            complain(&error);
            return Ok(ExitCode::from(BAD_CONFIG));
        }
    };
    let problems = pool_managerd::misfits(&config.pool_manager);
    if !problems.is_empty() {
        refuse(LoadError::Invalid { file: path.to_owned(), problems });
        return Ok(ExitCode::from(BAD_CONFIG));
    }
    if arguments.check_config {
        say("configuration is valid");
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.stop_engines {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stopped = runtime.block_on(pool_managerd::stop_engines(&config.pool_manager))?;
        say(&format!("engines stopped: {stopped}"));
        return Ok(ExitCode::SUCCESS);
    }
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::new(&config.log.level))
        .init();
    stop_on_panic();
    let source = Source { path: path.to_owned(), text };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(pool_managerd::run(config, source, credentials, environment()));
    // A read from a file system that hangs is not waited for.
    runtime.shutdown_timeout(LEFTOVERS);
    match ran? {
        Ended::Stopped => Ok(ExitCode::SUCCESS),
        Ended::Succeeded => Err(become_successor()),
    }
}

/// The same program with the same arguments, and the same pid for whoever watches it. Returns only if
/// that fails.
fn become_successor() -> anyhow::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let error = Command::new("/proc/self/exe").arg0(name).args(arguments).exec();
    anyhow::Error::new(error).context("cannot start anew with the new configuration")
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read, once")]
fn environment() -> pool_managerd::Environment {
    let inherited = |name: &&str| std::env::var(name).ok().map(|it| ((*name).to_owned(), it));
    pool_managerd::INHERITED.iter().filter_map(inherited).collect()
}

/// A replica without its task would be shown as it last was, for ever. The engines end with us.
fn stop_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

#[expect(clippy::print_stdout, reason = "the answer of a call that serves nothing")]
fn say(answer: &str) {
    println!("{answer}");
}

/// One line a problem, as `cargo xtask validate-config` writes them.
#[expect(clippy::print_stderr, reason = "before the log is set up there is only stderr")]
fn refuse(error: LoadError) {
    eprintln!("{:#}", anyhow::Error::new(error));
}

#[expect(clippy::print_stderr, reason = "before the log is set up there is only stderr")]
fn complain(error: &anyhow::Error) {
    eprintln!("pool-managerd: {error:#}");
}
