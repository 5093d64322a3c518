//! The command line of orchestratord.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use config_schema::{Config, LoadError};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A token crosses threads in several small buffers; glibc's allocator takes a sixth of the relay's CPU
/// for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Admits LLM tasks into a bounded queue, places them on replicas and streams their tokens.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (YAML).
    #[arg(long)]
    config: PathBuf,
    /// Check the configuration and exit: 0 if it is valid, 64 if not.
    #[arg(long)]
    check_config: bool,
}

/// `EX_USAGE` of sysexits(3).
const BAD_CONFIG: u8 = 64;

fn main() -> ExitCode {
    // The allocator asks for huge pages, which would keep 2 MiB resident where a stream needs 20 KiB.
    // A kernel that cannot do this has none to give.
    let _kept = rustix::thread::disable_transparent_huge_pages(true);
    let arguments = Arguments::parse();
    let config = match config_schema::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            refuse(error);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if arguments.check_config {
        approve();
        return ExitCode::SUCCESS;
    }
    match serve(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer to --check-config")]
fn approve() {
    println!("configuration is valid");
}

/// One line a problem, as `cargo xtask validate-config` writes them.
#[expect(clippy::print_stderr, reason = "before the log is set up there is only stderr")]
fn refuse(error: LoadError) {
    eprintln!("{:#}", anyhow::Error::new(error));
}

#[expect(clippy::print_stderr, reason = "before the log is set up there is only stderr")]
fn complain(error: &anyhow::Error) {
    eprintln!("orchestratord: {error:#}");
}

fn serve(config: &Config) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::new(&config.log.level))
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(config))
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut server = orchestratord::start(config).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), profile = ?config.profile,
        listen = ?server.addresses, metrics = "/metrics", durability = config.journal.durability.as_str(), "serving"
    );
    let mut stop = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let cause = tokio::select! {
        cause = stop() => cause,
        () = server.broken() => anyhow::bail!("the driver has panicked; nothing can go on"),
    };
    tracing::info!(signal = cause, "draining; a second signal skips the wait");
    server
        .shut_down(async move {
            stop().await;
        })
        .await;
    tracing::info!("stopped");
    Ok(())
}
