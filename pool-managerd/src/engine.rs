//! One engine process: how it is started, heard, stopped and counted as gone.

mod command;
mod oom;
mod output;
mod ports;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::timeout;

pub(crate) use command::EngineCommand;
pub use command::INHERITED;
use oom::Kills;
use output::{Output, Said};
pub(crate) use ports::{KeyedPort, Ports};

use crate::guard;
use crate::supervisor::Failure;

/// What an engine inherits of our environment, read once in `main`.
pub type Environment = BTreeMap<String, String>;

const SIGKILL: i32 = Signal::KILL.as_raw();
/// The guard forks before it does anything else; longer means that the machine stands still.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// An engine with all that it starts. Dropping it kills them, unless they are to be kept.
pub(crate) struct Process {
    /// `None`: an earlier manager started it.
    guard: Option<Child>,
    /// Open for as long as the engine may live; see `guard.rs`.
    link: Option<UnixStream>,
    /// Leads a process group of its own.
    engine: Pid,
    output: Said,
    /// Of an engine that is kept: what its guard has said so far.
    heard: Option<Vec<u8>>,
    /// The kernel's kills for memory before its start.
    kills: Kills,
    /// We have killed it.
    killed: bool,
}

/// Where an engine's output goes.
pub(crate) enum Log {
    /// Through us, into a file.
    Through(PathBuf),
    /// Straight into the file, for whoever comes after us; with the guard's socket.
    Kept { file: PathBuf, socket: PathBuf },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("cannot start the engine's guard: {0}")]
    Guard(#[source] io::Error),
    #[error("cannot write the engine's log `{path}`: {source}")]
    Log { path: PathBuf, source: io::Error },
    #[error("the engine's guard did not report a process: {said}")]
    Silent { said: String },
}

impl Process {
    /// Spawns the guard, which spawns the engine; resolves when that has a pid.
    pub(crate) async fn spawn(command: &EngineCommand, log: Log) -> Result<Self, SpawnError> {
        let kills = Kills::now();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(SpawnError::Guard)?;
        let mut spawning = tokio::process::Command::new(guard::OWN_PROGRAM);
        spawning.arg0("pool-managerd").arg(guard::GUARD);
        match &log {
            Log::Through(_) => {
                spawning.stdout(Stdio::piped()).stderr(Stdio::piped());
            }
            Log::Kept { file, socket } => {
                spawning.arg("--keep").arg(socket);
                let opened = output::open(file);
                let opened = opened
                    .and_then(|it| Ok((it.try_clone()?, it)))
                    .map_err(|source| SpawnError::Log { path: file.clone(), source })?;
                spawning.stdout(opened.0).stderr(opened.1);
            }
        }
        let mut guard = spawning
            .arg(&command.program)
            .args(&command.arguments)
            .env_clear()
            .envs(&command.environment)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // A Ctrl-C in the manager's terminal is not the guard's.
            .process_group(0)
            .spawn()
            .map_err(SpawnError::Guard)?;
        let (output, heard) = match log {
            Log::Through(file) => {
                let piped = Output::capture(guard.stdout.take(), guard.stderr.take(), file);
                (Said::Piped(piped), None)
            }
            Log::Kept { file, .. } => (Said::File(file), Some(Vec::new())),
        };
        ours.set_nonblocking(true).map_err(SpawnError::Guard)?;
        let mut link = UnixStream::from_std(ours).map_err(SpawnError::Guard)?;
        match timeout(REPORT_LIMIT, report(&mut link)).await {
            Ok(Some(engine)) => {
                let (guard, link) = (Some(guard), Some(link));
                Ok(Self { guard, link, engine, output, heard, kills, killed: false })
            }
            Ok(None) | Err(_) => {
                output.settle().await;
                Err(SpawnError::Silent { said: output.last_lines() })
            }
        }
    }

    /// Takes over an engine that an earlier manager kept; `None` if it is gone.
    pub(crate) async fn adopt(log: PathBuf, socket: &Path) -> Option<Self> {
        let mut link = UnixStream::connect(socket).await.ok()?;
        let engine = timeout(REPORT_LIMIT, report(&mut link)).await.ok()??;
        Some(Self {
            guard: None,
            link: Some(link),
            engine,
            output: Said::File(log),
            heard: Some(Vec::new()),
            kills: Kills::now(),
            killed: false,
        })
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
        let code = match self.heard {
            Some(_) => Ok(self.last_word().await),
            None => self.reaped().await,
        };
        if !code.as_ref().is_ok_and(Option::is_some) {
            // The guard itself was killed. The engine died with it; what it forked may not have.
            let _gone = kill_process_group(self.engine, Signal::KILL);
        }
        self.output.settle().await;
        let by_signal = code.as_ref().is_ok_and(|it| *it == Some(128 + SIGKILL));
        let (cause, kind) = describe(code);
        let lines = self.output.last_lines();
        let said = self.output.kept_lines();
        let kind = oom::cause(&said, by_signal && !self.killed, self.kills).unwrap_or(kind);
        (if lines.is_empty() { cause } else { format!("{cause}: {lines}") }, kind)
    }

    async fn reaped(&mut self) -> io::Result<Option<i32>> {
        match &mut self.guard {
            Some(guard) => guard.wait().await.map(|it| it.code()),
            None => Ok(None),
        }
    }

    /// The exit code that the guard of a kept engine tells at its end; `None` if it was killed.
    async fn last_word(&mut self) -> Option<i32> {
        let heard = self.heard.get_or_insert_default();
        if let Some(link) = &mut self.link {
            while let Ok(1..) = link.read_buf(heard).await {}
        }
        let code = String::from_utf8_lossy(heard).trim().strip_prefix(guard::EXITED)?.parse();
        // Else it would stay a zombie.
        let _reaped = self.reaped().await;
        code.ok()
    }

    /// Keeps the log of a kept engine within its bound.
    pub(crate) fn trim_log(&self) {
        if let Said::File(path) = &self.output {
            output::trim(path);
        }
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
        if self.heard.is_none() {
            self.link = None;
            return;
        }
        let sent = self.link.as_ref().map(|it| it.try_write(&[guard::KILL]));
        if let Some(Err(error)) = sent {
            tracing::debug!(pid = self.pid(), %error, "engine is gone before it was killed");
        }
    }
}

fn raw(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().cast_unsigned()
}

/// The guard's first word: the engine's pid. Nothing is read beyond it.
async fn report(link: &mut UnixStream) -> Option<Pid> {
    let mut line = Vec::new();
    loop {
        match link.read_u8().await.ok()? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Pid::from_raw(std::str::from_utf8(&line).ok()?.parse().ok()?)
}

fn describe(code: io::Result<Option<i32>>) -> (String, Failure) {
    match code {
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
