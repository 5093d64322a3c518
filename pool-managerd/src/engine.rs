//! One engine process: how it is started, heard, stopped and counted as gone.

mod command;
mod oom;
mod output;
mod ports;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::timeout;

pub(crate) use command::EngineCommand;
pub use command::INHERITED;
use oom::Kills;
use output::Output;
pub(crate) use ports::{KeyedPort, Ports};

use crate::guard;
use crate::supervisor::Failure;

/// What an engine inherits of our environment, read once in `main`.
pub type Environment = BTreeMap<String, String>;

const SIGKILL: i32 = Signal::KILL.as_raw();
/// The guard forks before it does anything else; longer means that the machine stands still.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// An engine with all that it starts. Dropping it kills them.
pub(crate) struct Process {
    guard: Child,
    /// Open for as long as the engine may live; see `guard.rs`.
    link: Option<UnixStream>,
    /// Leads a process group of its own.
    engine: Pid,
    output: Arc<Output>,
    /// The kernel's kills for memory before its start.
    kills: Kills,
    /// We have killed it.
    killed: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("cannot start the engine's guard: {0}")]
    Guard(#[source] io::Error),
    #[error("the engine's guard did not report a process: {said}")]
    Silent { said: String },
}

impl Process {
    /// Spawns the guard, which spawns the engine; resolves when that has a pid.
    pub(crate) async fn spawn(command: &EngineCommand, log: PathBuf) -> Result<Self, SpawnError> {
        let kills = Kills::now();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(SpawnError::Guard)?;
        let mut guard = tokio::process::Command::new(guard::OWN_PROGRAM)
            .arg0("pool-managerd")
            .arg(guard::GUARD)
            .arg(&command.program)
            .args(&command.arguments)
            .env_clear()
            .envs(&command.environment)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the manager's terminal is not the guard's.
            .process_group(0)
            .spawn()
            .map_err(SpawnError::Guard)?;
        let output = Output::capture(guard.stdout.take(), guard.stderr.take(), log);
        ours.set_nonblocking(true).map_err(SpawnError::Guard)?;
        let mut link = UnixStream::from_std(ours).map_err(SpawnError::Guard)?;
        match timeout(REPORT_LIMIT, report(&mut link)).await {
            Ok(Some(engine)) => {
                Ok(Self { guard, link: Some(link), engine, output, kills, killed: false })
            }
            Ok(None) | Err(_) => {
                output.settle().await;
                Err(SpawnError::Silent { said: output.last_lines() })
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        raw(self.engine)
    }

    /// The engine and all that it started.
    pub(crate) fn tree(&self) -> Vec<u32> {
        let mut tree = vec![self.pid()];
        let mut next = 0;
        while let Some(pid) = tree.get(next).copied() {
            tree.extend(guard::children_of(&pid.to_string()).iter().map(|it| raw(*it)));
            next += 1;
        }
        tree
    }

    /// Bytes that they have read since their start; 0 where the kernel does not tell, and for files
    /// that are mapped.
    pub(crate) fn bytes_read(&self) -> u64 {
        let read = |pid: &u32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
            text.lines().find_map(|it| it.strip_prefix("rchar: "))?.parse::<u64>().ok()
        };
        self.tree().iter().filter_map(read).sum()
    }

    /// Resolves when the engine and all that it started are gone, with what happened and its last
    /// lines. Cancel-safe.
    pub(crate) async fn exited(&mut self) -> (String, Failure) {
        let status = self.guard.wait().await;
        if !status.as_ref().is_ok_and(|it| it.code().is_some()) {
            // The guard itself was killed. The engine died with it; what it forked may not have.
            let _gone = kill_process_group(self.engine, Signal::KILL);
        }
        self.output.settle().await;
        let by_signal = status.as_ref().is_ok_and(|it| it.code() == Some(128 + SIGKILL));
        let (cause, kind) = describe(status);
        let lines = self.output.last_lines();
        let said = self.output.kept_lines();
        let kind = oom::cause(&said, by_signal && !self.killed, self.kills).unwrap_or(kind);
        (if lines.is_empty() { cause } else { format!("{cause}: {lines}") }, kind)
    }

    /// SIGTERM to the engine's group.
    pub(crate) fn terminate(&self) {
        let sent = self.link.as_ref().map(|it| it.try_write(&[guard::TERMINATE]));
        if let Some(Err(error)) = sent {
            tracing::debug!(pid = self.pid(), %error, "engine is gone before it was asked to go");
        }
    }

    /// SIGKILL to the engine and all that it started.
    pub(crate) fn kill(&mut self) {
        self.killed = true;
        self.link = None;
    }
}

fn raw(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().cast_unsigned()
}

/// The guard's only word: the engine's pid.
async fn report(link: &mut UnixStream) -> Option<Pid> {
    let mut line = String::new();
    BufReader::new(link).read_line(&mut line).await.ok()?;
    Pid::from_raw(line.trim().parse().ok()?)
}

fn describe(status: io::Result<ExitStatus>) -> (String, Failure) {
    match status.map(|it| it.code()) {
        Ok(Some(code)) if code == i32::from(guard::CANNOT_RUN) => {
            ("engine could not be run".into(), Failure::Spawn)
        }
        Ok(Some(code)) if 128 < code => {
            let number = code - 128;
            let name = Signal::from_named_raw(number).and_then(signal_name);
            let name = name.map_or(String::new(), |it| format!(" ({it})"));
            (format!("engine was killed by signal {number}{name}"), Failure::Signal)
        }
        Ok(Some(code)) => (format!("engine exited with code {code}"), Failure::Exit),
        Ok(None) => ("engine's guard was killed".into(), Failure::Signal),
        Err(error) => (format!("engine cannot be waited for: {error}"), Failure::Exit),
    }
}

/// Of the signals that end engines.
fn signal_name(signal: Signal) -> Option<&'static str> {
    let names = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::TERM, "SIGTERM"),
    ];
    names.into_iter().find(|(it, _)| *it == signal).map(|(_, name)| name)
}
