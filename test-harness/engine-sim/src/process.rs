//! One running `engine-sim`, for the length of a test.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// A running engine. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub struct SimProcess {
    child: Child,
    port: u16,
    metrics_port: Option<u16>,
}

/// Variables of the caller's environment that would change how the engine behaves.
const ENGINE_VARIABLES: &[&str] =
    &["LLAMA_API_KEY", "VLLM_API_KEY", "API_KEY", "VLLM_SERVER_DEV_MODE"];

impl SimProcess {
    /// Starts the engine on a free port and returns once it listens.
    ///
    /// `args` are the engine's own flags, with `--dialect` among them if it is not llama-server's; the
    /// ports and the missing model file are taken care of.
    ///
    /// # Panics
    /// When the binary cannot be built or started: a test cannot go on without it.
    #[must_use]
    pub fn spawn<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::try_spawn(args, &[]).expect("the engine must start")
    }

    /// As [`Self::spawn`], with additional environment variables.
    ///
    /// # Errors
    /// When the binary cannot be built, started, or ends before it listens.
    pub fn try_spawn<S: AsRef<OsStr>>(
        args: impl IntoIterator<Item = S>,
        envs: &[(&str, &str)],
    ) -> Result<Self> {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let is_triton = names_triton(&args);
        let ports: &[&str] = if is_triton {
            &["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
        } else {
            &["--port", "0"]
        };
        let mut command = Command::new(binary_path()?);
        command.arg("--no-model-file").args(ports).args(args);
        for name in ENGINE_VARIABLES {
            command.env_remove(name);
        }
        let mut child = command
            .envs(envs.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting engine-sim")?;
        let mut stdout = BufReader::new(child.stdout.take().context("stdout was piped")?);
        let Some(port) = announced_port(&mut stdout)? else {
            let status = child.wait()?;
            anyhow::bail!("engine-sim ended with {status} before it listened");
        };
        let metrics_port = if is_triton { announced_port(&mut stdout)? } else { None };
        Ok(Self { child, port, metrics_port })
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where the metrics are, if that is a port of its own.
    #[must_use]
    pub fn metrics_url(&self) -> Option<String> {
        self.metrics_port.map(|port| format!("http://127.0.0.1:{port}/metrics"))
    }

    /// Kills the process as a crash would. Its port refuses connections afterwards.
    pub fn kill(&mut self) {
        // A process that has ended already is what the caller wants.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The process's exit status, once it has ended on its own.
    ///
    /// # Errors
    /// When the operating system cannot say.
    pub fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        self.child.wait()
    }
}

impl Drop for SimProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn names_triton(args: &[OsString]) -> bool {
    args.iter().any(|arg| arg == "--dialect=triton")
        || args.windows(2).any(|pair| pair[0] == "--dialect" && pair[1] == "triton")
}

/// The port of the next line that the engine prints; `None` if it prints no more.
fn announced_port(stdout: &mut impl BufRead) -> Result<Option<u16>> {
    let mut line = String::new();
    stdout.read_line(&mut line).context("reading the port")?;
    Ok(line.trim_end().rsplit(':').next().and_then(|it| it.parse().ok()))
}

/// The engine's binary in the target directory of the running test, built first if absent or stale.
///
/// # Errors
/// When the test's own path is not that of a cargo target directory, or the build fails.
pub fn binary_path() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(|| find_or_build().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(message) => anyhow::bail!("{message}"),
    }
}

fn find_or_build() -> Result<PathBuf> {
    let own = std::env::current_exe().context("asking for the test's own path")?;
    // Tests and benches lie in PROFILE/deps, examples in PROFILE/examples, binaries in PROFILE.
    let folder = own.parent().context("an executable lies in a folder")?;
    let profile_dir = match folder.file_name().and_then(OsStr::to_str) {
        Some("deps" | "examples") => folder.parent().context("PROFILE/deps has a parent")?,
        _ => folder,
    };
    let binary = profile_dir.join("engine-sim");
    if is_stale(&binary) {
        build(profile_dir)?;
    }
    ensure!(binary.exists(), "`{}` is absent after the build", binary.display());
    Ok(binary)
}

/// Whether the binary is absent or older than its sources: `cargo test -p` of another crate does not
/// build it, and an engine of yesterday would fail the tests of today.
fn is_stale(binary: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|it| it.modified()).ok();
    let Some(built) = modified(binary) else { return true };
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                folders.push(path);
            } else if modified(&path).is_none_or(|at| at > built) {
                return true;
            }
        }
    }
    false
}

fn build(profile_dir: &Path) -> Result<()> {
    let name = profile_dir.file_name().and_then(OsStr::to_str).context("a profile has a name")?;
    let target_dir = profile_dir.parent().context("a profile lies in a target directory")?;
    let profile = if name == "debug" { "dev" } else { name };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "engine-sim", "--bin", "engine-sim"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("running cargo build -p engine-sim")?;
    ensure!(status.success(), "cargo build -p engine-sim ended with {status}");
    Ok(())
}
