//! Both daemons and the engines of one pool, with proxies between them, in a folder of their own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};
use sha2::Digest;
use tempfile::TempDir;

use crate::client::Client;
use crate::pause;
use crate::wire::Wire;

/// A tenant without limits of its own.
pub(crate) const FREE_KEY: &str = "chaos-free-0123456789abcdef";
/// The one with these limits.
pub(crate) const TIGHT_KEY: &str = "chaos-tight-0123456789abcdef";
pub(crate) const TIGHT_RUNNING: usize = 3;
pub(crate) const TIGHT_WAITING: usize = 4;
pub(crate) const TIGHT_TOKENS_PER_MIN: u64 = 3_000;
const REPLICAS: usize = 2;
const SLOTS: usize = 6;
/// How long a daemon may take to start, and to stop politely.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Stack {
    /// What clients connect to.
    pub(crate) clients: Wire,
    /// Between the daemons.
    pub(crate) daemons: Wire,
    /// Where orchestratord listens, past the proxy.
    pub(crate) address: SocketAddr,
    /// Past the proxies, for the harness itself.
    pub(crate) direct: Client,
    manager_direct: Client,
    orchestrator: Mutex<Option<Child>>,
    manager: Mutex<Option<Child>>,
    config: Value,
    folder: TempDir,
}

impl Stack {
    /// Returns once every replica is ready. `durability` is as the configuration names it.
    pub(crate) fn start(durability: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("llama-orch-chaos-").tempdir()?;
        let (address, manager_address) = (free()?, free()?);
        let (clients, daemons) = (Wire::to(address)?, Wire::to(manager_address)?);
        let empty_gguf = [&b"GGUF\x03\0\0\0"[..], &[0; 16]].concat();
        std::fs::write(folder.path().join("model.gguf"), empty_gguf)?;
        let config = json!({
            "bind": [address],
            "pool_managers": [{"url": format!("http://{}", daemons.address)}],
            "drain_ms": 1_000,
            "journal": {"durability": durability, "data_dir": folder.path().join("journal")},
            "tenants": [{"name": "free"}, {
                "name": "tight", "on_exceed": "hold", "concurrent": TIGHT_RUNNING,
                "queued": TIGHT_WAITING, "tokens_per_min": TIGHT_TOKENS_PER_MIN,
            }],
            "keys": [
                {"name": "free", "tenant": "free", "sha256": sha256(FREE_KEY)},
                {"name": "tight", "tenant": "tight", "sha256": sha256(TIGHT_KEY)},
            ],
            "pool_manager": {
                "bind": [manager_address],
                "data_dir": folder.path().join("data"),
                "pools": [{
                    "id": "sim", "engine": "llamacpp", "bin": beside("engine-sim")?,
                    "replicas": REPLICAS, "slots": SLOTS,
                    "flags": ["--decode-us-per-token", "20000"],
                    "model": {
                        "id": "sim", "path": folder.path().join("model.gguf"),
                        "context_tokens": 2_048,
                    },
                    "restart": {"backoff_ms": 50, "backoff_max_ms": 200, "breaker_failures": 1_000},
                }],
            },
        });
        let stack = Self {
            address,
            direct: Client::new(address, FREE_KEY),
            manager_direct: Client::new(manager_address, ""),
            clients,
            daemons,
            orchestrator: Mutex::default(),
            manager: Mutex::default(),
            config,
            folder,
        };
        stack.start_manager("stop")?;
        stack.start_orchestrator()?;
        let ready = || stack.engines().len() == REPLICAS && stack.is_ready();
        wait_until("every replica is ready", PATIENCE, ready)?;
        Ok(stack)
    }

    fn is_ready(&self) -> bool {
        let answer = self.direct.get("/readyz").and_then(super::client::Answer::json);
        answer.is_ok_and(|it| it["ready"] == true)
    }

    /// Returns once it answers.
    pub(crate) fn start_orchestrator(&self) -> anyhow::Result<()> {
        let config = self.write_config("orchestratord", &self.config)?;
        // What is ignored stays so over exec: a write beyond a limit fails then, as on a full disk.
        let mut command = Command::new("sh");
        command.arg("-c").arg("trap '' XFSZ; exec \"$0\" \"$@\"").arg(beside("orchestratord")?);
        self.spawn(command, "orchestratord", &config, &self.orchestrator)?;
        wait_until("orchestratord answers", PATIENCE, || self.direct.get("/healthz").is_ok())
    }

    /// `on_exit`: `stop` or `keep`, what becomes of its engines. Returns once it answers.
    pub(crate) fn start_manager(&self, on_exit: &str) -> anyhow::Result<()> {
        let mut config = self.config.clone();
        config["pool_manager"]["on_manager_exit"] = on_exit.into();
        let config = self.write_config("pool-managerd", &config)?;
        let command = Command::new(beside("pool-managerd")?);
        self.spawn(command, "pool-managerd", &config, &self.manager)?;
        let answers = || self.manager_direct.get("/healthz").is_ok();
        wait_until("pool-managerd answers", PATIENCE, answers)
    }

    fn write_config(&self, name: &str, config: &Value) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(format!("{name}.json"));
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    fn spawn(
        &self,
        mut command: Command,
        name: &str,
        config: &Path,
        place: &Mutex<Option<Child>>,
    ) -> anyhow::Result<()> {
        let path = self.folder.path().join(format!("{name}.log"));
        let mut log = File::options().create(true).append(true).open(path)?;
        command.arg("--config").arg(config).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
        // Through a pipe: the limit of a full disk must not take the log's last words.
        let mut lines = child.stderr.take().context("stderr is piped")?;
        std::thread::spawn(move || std::io::copy(&mut lines, &mut log));
        *lock(place) = Some(child);
        Ok(())
    }

    /// SIGKILL, now; [`Self::kill_orchestrator`] comes after it.
    pub(crate) fn strike_orchestrator(&self) {
        if let Some(child) = &mut *lock(&self.orchestrator) {
            let _gone = child.kill();
        }
    }

    /// # Errors
    /// It had ended by itself.
    pub(crate) fn kill_orchestrator(&self) -> anyhow::Result<()> {
        kill(&self.orchestrator).context("orchestratord")
    }

    /// # Errors
    /// It had ended by itself.
    pub(crate) fn kill_manager(&self) -> anyhow::Result<()> {
        kill(&self.manager).context("pool-managerd")
    }

    /// The size that no file of orchestratord may exceed, in bytes; `None`: any.
    pub(crate) fn limit_files(&self, maximum: Option<u64>) -> anyhow::Result<()> {
        let place = lock(&self.orchestrator);
        let child = place.as_ref().context("orchestratord does not run")?;
        let limit = Rlimit { current: maximum, maximum: None };
        prlimit(pid(child), Resource::Fsize, limit)?;
        Ok(())
    }

    /// Engines that run now.
    pub(crate) fn engines(&self) -> Vec<Pid> {
        let is_engine =
            |line: &str| line.split('\0').next().is_some_and(|it| it.ends_with("/engine-sim"));
        self.processes(is_engine)
    }

    /// Everything that runs and names this run's folder.
    pub(crate) fn all_processes(&self) -> Vec<Pid> {
        self.processes(|_| true)
    }

    fn processes(&self, picks: impl Fn(&str) -> bool) -> Vec<Pid> {
        let folder = self.folder.path().display().to_string();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let found = entries.filter_map(|it| {
            let pid = Pid::from_raw(it.file_name().to_str()?.parse().ok()?)?;
            let line = std::fs::read(it.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line);
            (line.contains(&folder) && picks(&line)).then_some(pid)
        });
        found.collect()
    }

    /// Slots that somebody holds: as orchestratord counts them, and as the engines do.
    pub(crate) fn busy_slots(&self) -> anyhow::Result<(u64, u64)> {
        let pools = self.direct.get("/v1/pools")?.json()?;
        let counted = replicas(&pools).filter_map(|it| it["slots_busy"].as_u64()).sum();
        let managed = self.manager_direct.get("/v1/pools")?.json()?;
        let mut busy = 0;
        for replica in replicas(&managed) {
            let url = replica["endpoint"].as_str().context("an engine has an address")?;
            let address = url.trim_start_matches("http://").parse()?;
            let engine = Client::new(address, replica["engine_key"].as_str().unwrap_or_default());
            let slots = engine.get("/slots")?.json()?;
            let slots = slots.as_array().context("an engine has slots")?.iter();
            busy += slots.filter(|it| it["is_processing"] == true).count() as u64;
        }
        Ok((counted, busy))
    }

    /// SIGTERM to both; engines that were to be kept are ended as an operator does.
    ///
    /// # Errors
    /// A daemon did not end, or not well.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        for (name, place) in
            [("orchestratord", &self.orchestrator), ("pool-managerd", &self.manager)]
        {
            let Some(mut child) = lock(place).take() else { bail!("{name} does not run") };
            let status = terminate(&mut child)?;
            ensure!(status.success(), "{name} ended with {status}");
        }
        let mut command = Command::new(beside("pool-managerd")?);
        let config = self.folder.path().join("pool-managerd.json");
        let output = command.arg("--stop-engines").arg("--config").arg(config).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pool-managerd --stop-engines: {said}");
        Ok(())
    }

    /// Leaves logs and journal where they are, for whoever looks for a cause.
    pub(crate) fn keep_folder(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for place in [&self.orchestrator, &self.manager] {
            if let Some(mut child) = lock(place).take() {
                let _gone = child.kill();
                let _reaped = child.wait();
            }
        }
        for pid in self.all_processes() {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

fn replicas(pools: &Value) -> impl Iterator<Item = &Value> {
    let pools = pools["pools"].as_array().into_iter().flatten();
    pools.flat_map(|it| it["replicas"].as_array().into_iter().flatten())
}

fn lock(place: &Mutex<Option<Child>>) -> MutexGuard<'_, Option<Child>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id().cast_signed())
}

/// SIGKILL to a daemon that runs, or that was killed just now.
fn kill(place: &Mutex<Option<Child>>) -> anyhow::Result<()> {
    let mut child = lock(place).take().context("it does not run")?;
    let ended = child.try_wait()?;
    if let Some(status) = ended.filter(|it| it.signal() != Some(Signal::KILL.as_raw())) {
        bail!("it ended by itself: {status}");
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn terminate(child: &mut Child) -> anyhow::Result<ExitStatus> {
    let pid = pid(child).context("a child has a pid")?;
    kill_process(pid, Signal::TERM)?;
    let mut ended = None;
    wait_until("a daemon ends", PATIENCE, || {
        ended = child.try_wait().ok().flatten();
        ended.is_some()
    })?;
    ended.context("it has ended")
}

/// Polls; nothing wakes us.
pub(crate) fn wait_until(
    what: &str,
    patience: Duration,
    mut holds: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while !holds() {
        ensure!(Instant::now() < deadline, "waited in vain until {what}");
        pause(Duration::from_millis(20));
    }
    Ok(())
}

fn sha256(key: &str) -> String {
    sha2::Sha256::digest(key).iter().map(|it| format!("{it:02x}")).collect()
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("a program lies in a folder")?.join(name))
}

/// On an address of its own: no outgoing connection takes the port while the daemon is dead.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.2:0")?.local_addr()?)
}
