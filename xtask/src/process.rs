//! Commands to run, and processes that must not outlive us.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use crate::root;

/// Runs a command in the project's folder and waits; its output is ours.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = status(command)?;
    ensure!(status.success(), "`{}` failed ({status})", shown(command));
    Ok(())
}

/// Like [`run`], for a command that explains its failure itself.
pub(crate) fn exit_code(command: &mut Command) -> anyhow::Result<ExitCode> {
    let code = status(command)?.code().and_then(|it| u8::try_from(it).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    command
        .current_dir(root())
        .status()
        .with_context(|| format!("cannot run `{}`", command.get_program().to_string_lossy()))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|it| it.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments);
    command
}

/// Whether a program is on PATH, and where.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let output = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !path.trim().is_empty()).then(|| PathBuf::from(path.trim()))
}

/// Where the installers under `ci/scripts` put things; the same rule as theirs.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let user = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    set("LLAMA_ORCH_CACHE").or_else(|| Some(user()?.join("llama-orch")))
}

/// The launcher of the pinned llama.cpp; installs it the first time.
pub(crate) fn installed_engine() -> anyhow::Result<PathBuf> {
    let [launcher] = installed("llamacpp")?;
    Ok(launcher.into())
}

/// Runs an engine's script, which installs it the first time; its lines are the paths of what is there.
pub(crate) fn installed<const PATHS: usize>(engine: &str) -> anyhow::Result<[String; PATHS]> {
    let script = root().join(format!("ci/scripts/{engine}/install.sh"));
    let output = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{}`", script.display()))?;
    ensure!(output.status.success(), "the engine could not be installed (see above)");
    let text = String::from_utf8(output.stdout).context("the installer printed no text")?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let expected = |it| anyhow::anyhow!("`{}` printed {it:?}, not {PATHS} paths", script.display());
    lines.try_into().map_err(expected)
}

/// A process in a group of its own that gets SIGTERM when we die, SIGKILL included.
///
/// The signal fires when the *thread* that spawned it ends: call this on the main thread.
pub(crate) fn spawn_leashed(
    program: &Path,
    arguments: &[OsString],
    log: &Path,
) -> anyhow::Result<Child> {
    let file =
        std::fs::File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
    let own = std::env::current_exe().context("finding our own program")?;
    Command::new(own)
        .arg("leash")
        .arg(std::process::id().to_string())
        .arg(program)
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", program.display()))
}

/// The other side of [`spawn_leashed`]: asks for the signal, then becomes the program.
pub(crate) fn leash(parent: i32, command: &[OsString]) -> anyhow::Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let now = getppid().map_or(0, |it| it.as_raw_nonzero().get());
    ensure!(now == parent, "our parent died before we started");
    let (program, arguments) = command.split_first().context("no program was given")?;
    Err(Command::new(program).args(arguments).exec()).context("cannot run the program")
}

/// SIGTERM, then SIGKILL after `grace`.
pub(crate) fn stop(child: &mut Child, grace: Duration) -> anyhow::Result<ExitStatus> {
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        // It may be gone already.
        let _gone = kill_process(pid, Signal::TERM);
    }
    let deadline = Instant::now() + grace;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        pause(Duration::from_millis(20));
    }
    child.kill()?;
    Ok(child.wait()?)
}

#[expect(clippy::disallowed_methods, reason = "other processes are polled; nothing wakes us")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}
