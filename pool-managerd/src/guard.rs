//! Between the manager and each engine stands a small process of ours, so that no engine outlives its
//! manager, however either of them dies.
//!
//! `engine-guard` leads the engine's process group and holds the read end of a pipe whose write end
//! only the manager has: the kernel closes it with the manager, SIGKILL included, and the guard then
//! kills the whole group, forked grandchildren too. `engine-exec` asks the kernel to kill the engine
//! if the guard dies, then becomes the engine. See `.docs/decisions/0003-engine-guard.md`.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};

use anyhow::Context;
use rustix::process::{Signal, getpgrp, getpid, getppid, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) const GUARD: &str = "engine-guard";
pub(crate) const EXEC: &str = "engine-exec";

/// Runs the engine until it exits or the manager does. Exits as the engine did; a signal's number is
/// added to 128, as shells do.
pub(crate) fn guard(command: &[OsString]) -> anyhow::Result<ExitCode> {
    // One thread: the parent-death signal fires when the *thread* that spawned dies.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(watch(command))
}

async fn watch(command: &[OsString]) -> anyhow::Result<ExitCode> {
    // Installed handlers keep a SIGTERM to the group from ending the guard before the engine.
    let _terminate = signal(SignalKind::terminate())?;
    let _interrupt = signal(SignalKind::interrupt())?;
    let own = std::env::current_exe().context("finding our own program")?;
    let mut child = tokio::process::Command::new(own)
        .arg(EXEC)
        .arg(getpid().as_raw_nonzero().to_string())
        .args(command)
        .stdin(std::process::Stdio::null())
        .spawn()
        .context("spawning the engine")?;
    let mut pipe = tokio::io::stdin();
    let mut byte = [0];
    let status = tokio::select! {
        status = child.wait() => status?,
        _closed = pipe.read(&mut byte) => {
            // Ends us too.
            kill_process_group(getpgrp(), Signal::KILL)?;
            child.wait().await?
        }
    };
    let code = status.code().or(status.signal().map(|it| 128 + it)).unwrap_or(1);
    // The blocking read of the pipe would keep the runtime from ending.
    exit(code)
}

#[expect(clippy::exit, reason = "a thread is blocked in a read that nothing can cancel")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// Becomes the engine. Returns only if that fails.
pub(crate) fn exec(guard: i32, command: &[OsString]) -> anyhow::Result<ExitCode> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = getppid().map_or(0, |it| it.as_raw_nonzero().get());
    anyhow::ensure!(parent == guard, "the guard died before the engine started");
    let (program, arguments) = command.split_first().context("no engine program was given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run the engine `{}`", program.display()))
}
