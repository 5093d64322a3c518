//! One engine process: how it is started, heard, stopped and counted as gone.

mod check;
mod command;
mod output;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, ChildStdin};
use tokio::time::{Instant, sleep, timeout};

pub(crate) use check::{Needs, check, meminfo};
pub(crate) use command::{EngineCommand, INHERITED, KeyedPort};
use output::Output;

use crate::guard;
use crate::supervisor::Failure;

/// What an engine inherits of our environment, read once in `main`.
pub(crate) type Environment = BTreeMap<String, String>;

/// An engine's process group. Dropping it kills the group.
pub(crate) struct Process {
    guard: Child,
    group: Pid,
    /// Open for as long as the engine may live; see `guard.rs`.
    _pipe: ChildStdin,
    output: Arc<Output>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot start the engine guard")]
pub(crate) struct SpawnError {
    #[source]
    source: std::io::Error,
}

impl Process {
    /// Spawns the guard, which spawns the engine.
    pub(crate) fn spawn(command: &EngineCommand, log: PathBuf) -> Result<Self, SpawnError> {
        let error = |source| SpawnError { source };
        let own = std::env::current_exe().map_err(error)?;
        let mut guard = tokio::process::Command::new(own)
            .arg(guard::GUARD)
            .arg(&command.program)
            .args(&command.arguments)
            .env_clear()
            .envs(&command.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(error)?;
        let group = guard.id().and_then(|it| Pid::from_raw(it.cast_signed()));
        let pipe = guard.stdin.take();
        let (Some(group), Some(pipe)) = (group, pipe) else {
            return Err(error(std::io::ErrorKind::BrokenPipe.into()));
        };
        let output = Output::capture(guard.stdout.take(), guard.stderr.take(), log);
        Ok(Self { guard, group, _pipe: pipe, output })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.group.as_raw_nonzero().get().cast_unsigned()
    }

    /// Resolves when the engine is gone, with what happened and its last lines. Cancel-safe.
    pub(crate) async fn exited(&mut self) -> (String, Failure) {
        let status = self.guard.wait().await;
        self.kill_group();
        self.output.settle().await;
        let lines = self.output.last_lines();
        let said = if lines.is_empty() { String::new() } else { format!(": {lines}") };
        match status.map(|it| it.code()) {
            Ok(Some(code)) if code > 128 => {
                (format!("engine was killed by signal {}{said}", code - 128), Failure::Signal)
            }
            Ok(Some(code)) => (format!("engine exited with code {code}{said}"), Failure::Exit),
            Ok(None) => (format!("engine's guard was killed{said}"), Failure::Signal),
            Err(error) => (format!("engine cannot be waited for: {error}"), Failure::Exit),
        }
    }

    /// SIGKILL to everything in the group.
    pub(crate) fn kill_group(&self) {
        // An empty group is what we want.
        let _gone = kill_process_group(self.group, Signal::KILL);
    }

    /// SIGTERM, then SIGKILL after `grace`; returns once no member of the group is left.
    pub(crate) async fn terminate(&mut self, grace: Duration) {
        let _gone = kill_process_group(self.group, Signal::TERM);
        if timeout(grace, self.guard.wait()).await.is_err() {
            tracing::warn!(pid = self.pid(), "engine ignored SIGTERM, killing its process group");
        }
        self.kill_group();
        let _reaped = timeout(Duration::from_secs(5), self.guard.wait()).await;
        let deadline = Instant::now() + Duration::from_secs(2);
        while test_kill_process_group(self.group).is_ok() && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.guard.id().is_some() {
            self.kill_group();
        }
    }
}
