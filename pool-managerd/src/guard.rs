//! Between the manager and each engine stands a small process of ours, so that no engine outlives
//! its manager, however either of them dies.
//!
//! `engine-guard` holds one end of a socket whose other end only the manager has: the kernel closes
//! it with the manager, SIGKILL included, and the guard then kills the engine and all it started.
//! `engine-exec` asks the kernel to kill the engine if the guard dies, then becomes the engine.
//! See `.docs/decisions/0003-engines-die-with-their-manager.md`, and for engines that are kept
//! `0012-engines-that-are-kept.md`.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process, kill_process_group,
    set_child_subreaper, set_parent_process_death_signal, setsid, wait,
};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

pub const GUARD: &str = "engine-guard";
pub const EXEC: &str = "engine-exec";
/// Our own program, also after its file was replaced by an upgrade.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";
/// From manager to guard: SIGTERM to the engine's group. The end of the stream means SIGKILL.
pub(crate) const TERMINATE: u8 = b'T';
/// As shells do for a command that cannot be run.
pub const CANNOT_RUN: u8 = 127;

/// From manager to guard, where the engine is kept: SIGKILL.
pub(crate) const KILL: u8 = b'K';
/// From guard to manager, where the engine is kept: its last word, before the exit code.
pub(crate) const EXITED: &str = "exit ";
/// How often a guard without a manager looks whether it can still be found.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Runs the engine until it exits or the manager does, and ends when no descendant is left. Exits
/// as the engine did; a signal's number is added to 128, as shells do.
///
/// With `keep`, a path for a socket, the engine outlives the manager: a later one connects there. Who
/// removes the socket ends the engine.
pub fn guard(command: &[OsString], keep: Option<&Path>) -> anyhow::Result<ExitCode> {
    // What the engine starts and abandons comes to us, not to init, even if it left the group.
    set_child_subreaper(Some(getpid())).context("adopting the engine's orphans")?;
    let manager = std::io::stdin().as_fd().try_clone_to_owned().context("stdin is no socket")?;
    let mut manager = UnixStream::from(manager);
    let door = keep.map(open_door).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // On this thread, which lives as long as the process: the parent-death signal fires when the
    // *thread* that spawned dies.
    let engine = spawn(command)?;
    writeln!(manager, "{}", engine.as_raw_nonzero()).context("reporting the engine's pid")?;
    let present = Arc::new(Mutex::new(Some(manager.try_clone()?)));
    manager.set_nonblocking(true)?;
    let links = Arc::clone(&present);
    std::thread::Builder::new()
        .name("obey".into())
        .spawn(move || {
            // Its end, or not being able to listen, means that nobody can ask for the engine.
            let _gone = runtime.block_on(async {
                match door {
                    Some(door) => obey_whoever_comes(manager, door, engine, &links).await,
                    None => obey(manager, engine).await,
                }
            });
            let _killed = kill_process_group(engine, Signal::KILL);
        })
        .context("starting the thread that listens to the manager")?;
    let status = reap(engine)?;
    sweep();
    let code = status.exit_status().or(status.terminating_signal().map(|it| 128 + it));
    let code = code.and_then(|it| u8::try_from(it).ok()).unwrap_or(1);
    if let Some(path) = keep {
        let _gone = std::fs::remove_file(path);
        if let Some(mut link) = present.lock().expect("no holder panics").take() {
            let _gone = writeln!(link, "{EXITED}{code}");
        }
    }
    Ok(ExitCode::from(code))
}

/// Where later managers come in.
struct Door {
    path: PathBuf,
    listener: std::os::unix::net::UnixListener,
}

fn open_door(path: &Path) -> anyhow::Result<Door> {
    // Whatever happens to our terminal is none of the engine's business.
    let _leads_already = setsid();
    let _stale = std::fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path)
        .with_context(|| format!("opening `{}`", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(Door { path: path.to_owned(), listener })
}

fn spawn(command: &[OsString]) -> anyhow::Result<Pid> {
    let engine = Command::new(OWN_PROGRAM)
        .arg0("pool-managerd")
        .arg(EXEC)
        .arg(getpid().as_raw_nonzero().to_string())
        .args(command)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .context("spawning the engine")?;
    Pid::from_raw(engine.id().cast_signed()).context("the engine has no pid")
}

/// Does what the manager says, for as long as it lives.
async fn obey(manager: UnixStream, engine: Pid) -> std::io::Result<()> {
    let mut manager = tokio::net::UnixStream::from_std(manager)?;
    // Handlers, because an ignored signal would be ignored by the engine too. Whoever sends these
    // to every process of ours gets an orderly end all the same: the manager's.
    let _terminate = signal(SignalKind::terminate())?;
    let _interrupt = signal(SignalKind::interrupt())?;
    let _hangup = signal(SignalKind::hangup())?;
    loop {
        if manager.read_u8().await? == TERMINATE {
            // An error means that the engine is gone already.
            let _sent = kill_process_group(engine, Signal::TERM);
        }
    }
}

/// Does what the last manager that came says, and waits for the next one when it goes. Ends when
/// the engine is to end.
async fn obey_whoever_comes(
    first: UnixStream,
    door: Door,
    engine: Pid,
    present: &Mutex<Option<UnixStream>>,
) -> std::io::Result<()> {
    let _terminate = signal(SignalKind::terminate())?;
    let _interrupt = signal(SignalKind::interrupt())?;
    let _hangup = signal(SignalKind::hangup())?;
    let listener = tokio::net::UnixListener::from_std(door.listener)?;
    let mut manager = Some(tokio::net::UnixStream::from_std(first)?);
    loop {
        tokio::select! {
            said = hear(&mut manager) => match said {
                Some(TERMINATE) => {
                    let _sent = kill_process_group(engine, Signal::TERM);
                }
                Some(KILL) => return Ok(()),
                Some(_) => {}
                None => {
                    manager = None;
                    present.lock().expect("no holder panics").take();
                }
            },
            came = listener.accept() => {
                let (link, _) = came?;
                let mut link = link.into_std()?;
                link.set_nonblocking(false)?;
                writeln!(link, "{}", engine.as_raw_nonzero())?;
                *present.lock().expect("no holder panics") = Some(link.try_clone()?);
                link.set_nonblocking(true)?;
                manager = Some(tokio::net::UnixStream::from_std(link)?);
            }
            () = tokio::time::sleep(LOOK_EVERY), if manager.is_none() => {
                if !door.path.exists() {
                    return Ok(());
                }
            }
        }
    }
}

/// The manager's next word; `None` when it is gone.
async fn hear(manager: &mut Option<tokio::net::UnixStream>) -> Option<u8> {
    match manager {
        Some(manager) => manager.read_u8().await.ok(),
        None => std::future::pending().await,
    }
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

/// Becomes the engine. Returns only if that fails.
pub fn exec(guard: i32, command: &[OsString]) -> anyhow::Error {
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
