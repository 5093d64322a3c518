//! A daemon for the length of a test, and what is needed to ask it things.

mod client;
mod process;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pool_api::{Pool, Replica, ReplicaState, Snapshot};
use tempfile::TempDir;

pub(crate) use client::{Answer, Watch, address, ask, ask_engine, ask_raw, fault};
pub(crate) use process::{Pid, children, kill};

/// A GGUF file with neither metadata nor tensors.
pub(crate) const MODEL_BYTES: &[u8] = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// A folder with a model, an engine and a configuration; gone with the test.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: TempDir::new().unwrap() };
        std::fs::write(place.model(), MODEL_BYTES).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.path("model.gguf")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// A program that runs `script` in a shell; `$ENGINE` in it is engine-sim.
    pub(crate) fn script(&self, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let engine = engine_sim::binary_path().unwrap();
        let text = format!("#!/bin/sh\nENGINE='{}'\n{script}\n", engine.display());
        let path = self.write("engine.sh", &text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// A pool of one engine-sim; `more` are further keys of it, indented by six.
    pub(crate) fn pool(&self, more: &str) -> String {
        self.pool_with(engine_sim::binary_path().unwrap(), more)
    }

    pub(crate) fn pool_with(&self, bin: &Path, more: &str) -> String {
        format!(
            "  pools:\n    - id: p\n      engine: llamacpp\n      bin: '{}'\n      model: {{id: m, \
             path: '{}', context_tokens: 512}}\n      restart: {{backoff_ms: 100, \
             backoff_max_ms: 400}}\n{more}",
            bin.display(),
            self.model().display()
        )
    }

    /// `manager` are keys of `pool_manager`, indented by two; `more` are further top-level keys.
    pub(crate) fn config(&self, manager: &str, more: &str) -> PathBuf {
        let data_dir = self.path("data");
        let text = format!(
            "{more}\npool_manager:\n  bind: ['127.0.0.1:0']\n  data_dir: '{}'\n{manager}",
            data_dir.display()
        );
        self.write("config.yaml", &text)
    }

    pub(crate) fn start(&self, manager: &str) -> Daemon {
        self.start_with(manager, "drain_ms: 100")
    }

    pub(crate) fn start_with(&self, manager: &str, more: &str) -> Daemon {
        Daemon::start(&self.config(manager, more))
    }
}

/// Kills what a failed test has left, which is whatever has this place on its command line; nothing
/// after a passed one.
impl Drop for Place {
    fn drop(&mut self) {
        for pid in process::mentioning(self.folder.path()) {
            kill(pid, rustix::process::Signal::KILL);
        }
    }
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pool-managerd"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A running pool-managerd. Dropping it kills the daemon; see [`Place`] for what it may leave.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    fn start(config: &Path) -> Self {
        let machine = config.with_file_name("machine.json");
        let mut command = program();
        command.arg("--config").arg(config).env(fake_nvml::FILE, machine);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let start = seen.len();
            assert_ne!(stderr.read_line(&mut seen).unwrap(), 0, "the daemon ended: {seen}");
            let line: serde_json::Value = serde_json::from_str(&seen[start..]).unwrap();
            if line["message"] == "serving" {
                let listen = line["listen"].as_str().unwrap();
                break listen.trim_matches(['[', ']']).parse().unwrap();
            }
        };
        let log = Arc::new(Mutex::new(seen));
        let shared = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = shared.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, address, log, reader: Some(reader) }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until the daemon serves for the `nth` time, after changes of its configuration.
    pub(crate) fn renewed(&mut self, nth: usize) {
        let serving = |log: &str| -> Vec<String> {
            let lines = log.lines().filter(|it| it.contains("\"serving\""));
            lines.map(str::to_owned).collect()
        };
        wait_until("it serves anew", || nth <= serving(&self.log()).len());
        let last = serving(&self.log()).pop().unwrap();
        let line: serde_json::Value = serde_json::from_str(&last).unwrap();
        let listen = line["listen"].as_str().unwrap();
        self.address = listen.trim_matches(['[', ']']).parse().unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        ask(self.address, "GET", path, &[], "")
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch::open(self.address)
    }

    pub(crate) fn pools(&self) -> Vec<Pool> {
        let snapshot: Snapshot = serde_json::from_str(&self.get("/v1/pools").body).unwrap();
        snapshot.pools
    }

    /// The first replica of the first pool.
    pub(crate) fn replica(&self) -> Replica {
        self.pools().remove(0).replicas.remove(0)
    }

    /// Follows the watch stream until that replica is ready.
    pub(crate) fn ready(&self) -> Replica {
        self.watch().until(|it| it.state == ReplicaState::Ready)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    /// Waits until the daemon ends by itself.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.pid().wait_gone("the daemon");
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// Its log so far; whole after [`Self::end`].
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The value of a sample of `/metrics`, `None` where there is no such series.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|it| it.strip_prefix(series)?.strip_prefix(' '));
        line.map(|it| it.parse().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Polls, for at most 30 s.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        pause(Duration::from_millis(20));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "real processes are polled; there is nothing to await"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}
