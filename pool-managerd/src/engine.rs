//! One engine process: how it is started, heard, stopped and counted as gone.

mod command;
mod oom;
mod ports;
mod template;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::timeout;

pub(crate) use command::EngineCommand;
pub use command::{INHERITED, User};
use oom::Kills;
pub(crate) use ports::{KeyedPort, Ports};

use crate::guard;
use crate::supervisor::Failure;

/// What an engine inherits of our environment, read once in `main`.
pub type Environment = BTreeMap<String, String>;

/// Lines of `last_error`; an engine's reason is among its last words.
const LINES_TOLD: usize = 6;
/// For a guard that could not start an engine to say why.
const SETTLE: Duration = Duration::from_millis(500);
const SIGKILL: i32 = Signal::KILL.as_raw();
/// The guard forks before it does anything else; longer means that the machine stands still.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// An engine with all that it starts. Dropping it kills them, unless it was to be kept.
pub(crate) struct Process {
    guard: Guard,
    /// Open for as long as the engine may live; see `guard.rs`.
    link: UnixStream,
    /// Leads a process group of its own.
    engine: Pid,
    /// What the guard has said so far of its end.
    heard: Vec<u8>,
    /// The kernel's kills for memory before its start.
    kills: Kills,
    /// We have killed it.
    killed: bool,
}

enum Guard {
    /// Of this manager.
    Ours(Child),
    /// Of an earlier one, which may have had our pid; `None`: it is gone already.
    Adopted(Option<Pid>),
}

impl Guard {
    /// Else it would stay a zombie.
    async fn reap(&mut self) {
        match self {
            Self::Ours(child) => drop(child.wait().await),
            Self::Adopted(Some(pid)) => {
                let pid = *pid;
                // If it is no child of this process there is nothing to wait for.
                let reap = move || waitpid(Some(pid), WaitOptions::empty());
                drop(tokio::task::spawn_blocking(reap).await);
            }
            Self::Adopted(None) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("cannot start the engine's guard: {0}")]
    Guard(#[source] io::Error),
    #[error("the engine's guard did not report a process: {said}")]
    Silent { said: String },
}

impl Process {
    /// Spawns the guard, which spawns the engine; resolves when that has a pid. The engine's output
    /// goes to `log`, and later managers come through `door`.
    pub(crate) async fn spawn(
        command: &EngineCommand,
        log: &Path,
        door: &Path,
    ) -> Result<Self, SpawnError> {
        let kills = Kills::now();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(SpawnError::Guard)?;
        let mut guard = tokio::process::Command::new(guard::OWN_PROGRAM)
            .arg0("pool-managerd")
            .arg(guard::GUARD)
            .args(command.user.map(|it| format!("--user={}:{}", it.uid, it.gid)))
            .arg(door)
            .arg(log)
            .arg(&command.program)
            .args(&command.arguments)
            .env_clear()
            .envs(&command.environment)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // For what keeps it from starting an engine; later it says nothing.
            .stderr(Stdio::piped())
            // A Ctrl-C in the manager's terminal is not the guard's.
            .process_group(0)
            .spawn()
            .map_err(SpawnError::Guard)?;
        ours.set_nonblocking(true).map_err(SpawnError::Guard)?;
        let mut link = UnixStream::from_std(ours).map_err(SpawnError::Guard)?;
        match timeout(REPORT_LIMIT, report(&mut link)).await {
            Ok(Some(engine)) => {
                let guard = Guard::Ours(guard);
                Ok(Self { guard, link, engine, heard: Vec::new(), kills, killed: false })
            }
            Ok(None) | Err(_) => {
                let mut said = String::new();
                if let Some(mut stderr) = guard.stderr.take() {
                    let _read = timeout(SETTLE, stderr.read_to_string(&mut said)).await;
                }
                Err(SpawnError::Silent { said: said.trim().into() })
            }
        }
    }

    /// Takes over an engine that an earlier manager has left; `None` if it is gone.
    pub(crate) async fn adopt(door: &Path) -> Option<Self> {
        let mut link = UnixStream::connect(door).await.ok()?;
        let engine = timeout(REPORT_LIMIT, report(&mut link)).await.ok()??;
        let kills = Kills::now();
        let guard = Guard::Adopted(parent(engine));
        Some(Self { guard, link, engine, heard: Vec::new(), kills, killed: false })
    }

    /// From now on our end is not the engine's.
    pub(crate) fn keep(&self) {
        self.say(guard::KEEP);
    }

    /// Our end is not the engine's: a successor takes it over at once.
    pub(crate) fn hand_over(&self) {
        self.say(guard::HAND_OVER);
    }

    fn say(&self, word: u8) {
        if let Err(error) = self.link.try_write(&[word]) {
            tracing::debug!(pid = self.pid(), %error, "engine is gone before it was told");
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

    /// Resolves when the engine and all that it started are gone, with what happened and its last
    /// lines. Cancel-safe.
    pub(crate) async fn exited(&mut self) -> (String, Failure) {
        while let Ok(1..) = self.link.read_buf(&mut self.heard).await {}
        self.guard.reap().await;
        let said = String::from_utf8_lossy(&self.heard);
        let last_word = said.strip_prefix(guard::EXITED).and_then(|it| it.split_once('\n'));
        let code = last_word.and_then(|it| it.0.parse().ok());
        if code.is_none() {
            // The guard itself was killed. The engine died with it; what it forked may not have.
            let _gone = kill_process_group(self.engine, Signal::KILL);
        }
        let (cause, kind) = describe(code);
        let lines = last_word.map_or("", |it| it.1);
        let by_signal = code == Some(128 + SIGKILL);
        let kind = oom::cause(lines, by_signal && !self.killed, self.kills).unwrap_or(kind);
        let all: Vec<&str> = lines.lines().collect();
        let told = all[all.len().saturating_sub(LINES_TOLD)..].join(" | ");
        (if told.is_empty() { cause } else { format!("{cause}: {told}") }, kind)
    }

    /// SIGTERM to the engine's group.
    pub(crate) fn terminate(&self) {
        self.say(guard::TERMINATE);
    }

    /// SIGKILL to the engine and all that it started.
    pub(crate) fn kill(&mut self) {
        self.killed = true;
        self.say(guard::KILL);
    }
}

/// See `PPid` in `proc_pid_status(5)`.
fn parent(pid: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", raw(pid))).ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("PPid:"))?;
    Pid::from_raw(line.trim().parse().ok()?)
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

fn describe(code: Option<i32>) -> (String, Failure) {
    match code {
        Some(code) if code == i32::from(guard::CANNOT_RUN) => {
            ("engine could not be run".into(), Failure::Spawn)
        }
        Some(code) if 128 < code => {
            let number = code - 128;
            let name = Signal::from_named_raw(number).and_then(signal_name);
            let name = name.map_or(String::new(), |it| format!(" ({it})"));
            (format!("engine was killed by signal {number}{name}"), Failure::Signal)
        }
        Some(code) => (format!("engine exited with code {code}"), Failure::Exit),
        None => ("engine's guard was killed".into(), Failure::Signal),
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
