//! Between the manager and each engine stands a small process of ours, so that no engine outlives
//! its manager, however either of them dies, unless it is meant to.
//!
//! `engine-guard` holds one end of a socket whose other end only the manager has: the kernel closes
//! it with the manager, SIGKILL included, and the guard then kills the engine and all it started. A
//! manager that promises a successor is waited for at the guard's door, a socket in the file system.
//! `engine-exec` asks the kernel to kill the engine if the guard dies, then becomes the engine.
//! See `.docs/decisions/0003-engines-die-with-their-manager.md` and
//! `0012-engines-that-are-kept.md`.

mod door;
mod log;

use std::ffi::OsString;
use std::io::{PipeReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, setsid, wait,
};

use crate::engine::User;
use door::Door;
use log::Log;

pub const GUARD: &str = "engine-guard";
pub const EXEC: &str = "engine-exec";
/// Our own program, also after its file was replaced by an upgrade.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";
/// From manager to guard: SIGTERM to the engine's group.
pub(crate) const TERMINATE: u8 = b'T';
/// SIGKILL to the engine and all that it started.
pub(crate) const KILL: u8 = b'K';
/// The end of this manager is not the engine's: another comes at once.
pub(crate) const HAND_OVER: u8 = b'H';
/// The end of this manager is not the engine's: another comes some day.
pub(crate) const KEEP: u8 = b'P';
/// From guard to manager, its last word: the exit code, then the engine's last lines.
pub(crate) const EXITED: &str = "exit ";
/// As shells do for a command that cannot be run.
pub const CANNOT_RUN: u8 = 127;
/// How long the engine's pipe may take to run dry after the engine is gone.
const SETTLE: Duration = Duration::from_millis(500);

/// What a guard is told at its start.
pub struct Guarded {
    /// Where later managers come in.
    pub door: PathBuf,
    /// Where the engine's output goes.
    pub log: PathBuf,
    /// Whose the engine is; `None`: ours.
    pub user: Option<User>,
    pub command: Vec<OsString>,
}

/// Runs the engine until it exits or is to end, and ends when no descendant is left. Exits as the
/// engine did; a signal's number is added to 128, as shells do.
///
/// # Errors
/// The engine could not be started, or not be waited for.
pub fn guard(guarded: &Guarded) -> anyhow::Result<ExitCode> {
    // What the engine starts and abandons comes to us, not to init, even if it left the group.
    set_child_subreaper(Some(getpid())).context("adopting the engine's orphans")?;
    // Whatever happens to our terminal is none of the engine's business.
    let _leads_already = setsid();
    let manager = std::io::stdin().as_fd().try_clone_to_owned().context("stdin is no socket")?;
    let mut manager = UnixStream::from(manager);
    let mut door = Door::open(&guarded.door)?;
    // On this thread, which lives as long as the process: the parent-death signal fires when the
    // *thread* that spawned dies.
    let (engine, output) = spawn(&guarded.command, guarded.user)?;
    let heard = listen(output, guarded.log.clone())?;
    writeln!(manager, "{}", engine.as_raw_nonzero()).context("reporting the engine's pid")?;
    door.admit(manager, engine)?;
    let status = reap(engine)?;
    sweep();
    let code = status.exit_status().or(status.terminating_signal().map(|it| 128 + it));
    let code = code.and_then(|it| u8::try_from(it).ok()).unwrap_or(1);
    let lines = heard.recv_timeout(SETTLE).unwrap_or_default();
    door.close(&format!("{EXITED}{code}\n{lines}"));
    Ok(ExitCode::from(code))
}

/// Reads what the engine prints, on a thread of its own; its last lines come when nobody can print
/// any more.
fn listen(mut output: PipeReader, path: PathBuf) -> anyhow::Result<mpsc::Receiver<String>> {
    let (done, heard) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("listen".into())
        .spawn(move || {
            let lines = Log::new(path).copy(&mut output);
            let _gone = done.send(lines);
        })
        .context("starting the thread that listens to the engine")?;
    Ok(heard)
}

fn spawn(command: &[OsString], user: Option<User>) -> anyhow::Result<(Pid, PipeReader)> {
    let (reader, writer) = std::io::pipe().context("opening the engine's pipe")?;
    let engine = Command::new(OWN_PROGRAM)
        .arg0("pool-managerd")
        .arg(EXEC)
        .args(user.map(|it| format!("--user={}:{}", it.uid, it.gid)))
        .arg(getpid().as_raw_nonzero().to_string())
        .args(command)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("opening the engine's pipe")?)
        .stderr(writer)
        .process_group(0)
        .spawn()
        .context("spawning the engine")?;
    let pid = Pid::from_raw(engine.id().cast_signed()).context("the engine has no pid")?;
    Ok((pid, reader))
}

/// Waits for the engine, and for what it abandoned meanwhile.
fn reap(engine: Pid) -> anyhow::Result<WaitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == engine => return Ok(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for the engine"),
        }
    }
}

/// Kills what is left. Each death may hand us its children, so until there are none.
fn sweep() {
    loop {
        for child in children_of("self") {
            let _gone = kill_process(child, Signal::KILL);
        }
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Of a process, by its name in `/proc`; see `/proc/PID/task/TID/children` in proc(5).
pub(crate) fn children_of(process: &str) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    let read = |it: std::fs::DirEntry| std::fs::read_to_string(it.path().join("children")).ok();
    let lists: Vec<String> = threads.flatten().filter_map(read).collect();
    lists
        .iter()
        .flat_map(|it| it.split_whitespace())
        .filter_map(|it| Pid::from_raw(it.parse().ok()?))
        .collect()
}

/// Becomes the engine, first `user` if there is one. Returns only if that fails.
pub fn exec(guard: i32, user: Option<User>, command: &[OsString]) -> anyhow::Error {
    if let Some(User { uid, gid }) = user {
        // Once more, for the kernel forgets the death signal of whoever becomes another user.
        let mut again = Command::new(OWN_PROGRAM);
        again.arg0("pool-managerd").arg(EXEC).arg(guard.to_string()).args(command);
        let error = again.gid(gid).uid(uid).exec();
        return anyhow::anyhow!("cannot become user {uid}, group {gid}: {error}");
    }
    let prepared = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map_or(0, |it| it.as_raw_nonzero().get());
    if prepared.is_err() || parent != guard {
        return anyhow::anyhow!("the guard died before the engine started");
    }
    let Some((program, arguments)) = command.split_first() else {
        return anyhow::anyhow!("no engine program was given");
    };
    let error = Command::new(program).args(arguments).exec();
    anyhow::anyhow!("cannot run `{}`: {error}", program.display())
}
