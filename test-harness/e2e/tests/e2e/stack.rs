//! Both daemons and their engine, for the length of a test.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::{Agent, BodyReader};

pub(crate) struct Stack {
    pub(crate) url: String,
    manager_url: String,
    config: PathBuf,
    pub(crate) manager: Child,
    pub(crate) orchestrator: Child,
    agent: Agent,
    folder: TempDir,
}

/// The tiny model under a name of its own, served by a real engine.
pub(crate) fn pool(id: &str, model: &str, slots: u32, context_tokens: u32) -> Value {
    json!({
        "id": id,
        "engine": "llamacpp",
        "bin": engine(),
        "slots": slots,
        "model": {
            "id": model,
            "path": root().join("models/tiny-scribe-q8_0.gguf"),
            "context_tokens": context_tokens,
        },
    })
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Of a journaled one.
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Stack {
    /// Returns once a replica is ready.
    pub(crate) fn start(slots: u32, context_tokens: u32) -> Self {
        let pool = pool("real", "tiny-scribe", slots, context_tokens);
        let stack = Self::with(&json!({"pools": [pool]}), &json!({}));
        stack.wait_ready();
        stack
    }

    /// `manager` and `swap` are those sections of the configuration.
    pub(crate) fn with(manager: &Value, swap: &Value) -> Self {
        Self::build(manager, swap, None)
    }

    /// Follows these managers instead of its own, which has nothing to do.
    pub(crate) fn following(managers: &Value) -> Self {
        Self::build(&json!({}), &json!({}), Some(managers))
    }

    fn build(manager: &Value, swap: &Value, followed: Option<&Value>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, manager_port) = free_ports();
        let config = folder.path().join("config.json");
        let mut document = json!({
            "bind": [format!("127.0.0.1:{port}")],
            "pool_managers": [{"url": format!("http://127.0.0.1:{manager_port}")}],
            "drain_ms": 2_000,
            "swap": swap,
            "pool_manager": manager,
        });
        document["pool_manager"]["bind"] = json!([format!("127.0.0.1:{manager_port}")]);
        if let Some(managers) = followed {
            document["pool_managers"] = managers.clone();
        }
        document["pool_manager"]["data_dir"] = json!(folder.path().join("data"));
        document["journal"]["data_dir"] = json!(folder.path().join("journal"));
        std::fs::write(&config, document.to_string()).unwrap();
        Self {
            url: format!("http://127.0.0.1:{port}"),
            manager_url: format!("http://127.0.0.1:{manager_port}"),
            manager: daemon("pool-managerd", &config, folder.path()),
            orchestrator: daemon("orchestratord", &config, folder.path()),
            config,
            agent: Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(60)))
                .build()
                .into(),
            folder,
        }
    }

    pub(crate) fn wait_ready(&self) {
        wait_until("a replica is ready", || {
            self.get("/readyz").is_some_and(|it| it["ready"] == true)
        });
    }

    pub(crate) fn restart_manager(&mut self) {
        self.manager = daemon("pool-managerd", &self.config, self.folder.path());
    }

    /// Kills it with SIGKILL and starts it again.
    pub(crate) fn restart_orchestrator(&mut self) {
        self.orchestrator.kill().unwrap();
        self.orchestrator.wait().unwrap();
        self.orchestrator = daemon("orchestratord", &self.config, self.folder.path());
        self.wait_ready();
    }

    /// A task's events after the one that was seen last.
    pub(crate) fn follow(&self, task: &str, last: u64) -> Events {
        let url = format!("{}/v1/tasks/{task}/stream?after={last}", self.url);
        let response = self.agent.get(url).call().unwrap();
        assert_eq!(response.status().as_u16(), 200);
        Events { lines: BufReader::new(response.into_body().into_reader()) }
    }

    pub(crate) fn manager_answers(&self) -> bool {
        self.agent.get(format!("{}/healthz", self.manager_url)).call().is_ok()
    }

    /// As an operator does who has stopped the manager.
    pub(crate) fn stop_kept_engines(&mut self) {
        self.manager.kill().unwrap();
        self.manager.wait().unwrap();
        let mut command = Command::new(program("pool-managerd"));
        let stopped = command.arg("--stop-engines").arg("--config").arg(&self.config).output();
        assert!(stopped.unwrap().status.success());
    }

    /// What a daemon has logged so far, as text and line by line.
    pub(crate) fn log(&self, name: &str) -> (String, Vec<Value>) {
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap();
        let lines = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        (text, lines)
    }

    /// `None` while nothing answers.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let mut response = self.agent.get(format!("{}{path}", self.url)).call().ok()?;
        response.body_mut().read_json().ok()
    }

    pub(crate) fn text(&self, path: &str) -> String {
        let mut response = self.agent.get(format!("{}{path}", self.url)).call().unwrap();
        response.body_mut().read_to_string().unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> u16 {
        let sent = self.agent.post(format!("{}{path}", self.url)).send_json(body);
        sent.unwrap().status().as_u16()
    }

    /// Submits what is refused: the status and the error.
    pub(crate) fn refused(&self, body: &Value) -> (u16, Value) {
        let request = self.agent.post(format!("{}/v1/tasks", self.url));
        let mut response = request.send_json(body).unwrap();
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    }

    /// Submits and hands out events as they come.
    pub(crate) fn open(&self, body: &Value) -> Events {
        let request = self.agent.post(format!("{}/v1/tasks", self.url));
        let mut response = request.header("accept", "text/event-stream").send_json(body).unwrap();
        let status = response.status().as_u16();
        assert!(status == 200, "{status}: {}", response.body_mut().read_to_string().unwrap());
        Events { lines: BufReader::new(response.into_body().into_reader()) }
    }

    /// Submits and waits for the end: the text and the last event.
    pub(crate) fn run(&self, body: &Value) -> (String, Event) {
        let mut text = String::new();
        let mut events = self.open(body);
        loop {
            let event = events.next().unwrap();
            match event.name.as_str() {
                "token" => text.push_str(event.data["t"].as_str().unwrap()),
                "end" | "error" => return (text, event),
                _ => {}
            }
        }
    }

    pub(crate) fn replica(&self) -> Value {
        self.get("/v1/pools").unwrap()["pools"][0]["replicas"][0].clone()
    }

    /// The replica as its manager knows it: with pid, endpoint and key.
    pub(crate) fn managed_replica(&self) -> Value {
        let url = format!("{}/v1/pools", self.manager_url);
        let pools: Value = self.agent.get(&url).call().unwrap().body_mut().read_json().unwrap();
        pools["pools"][0]["replicas"][0].clone()
    }

    /// Slots that the engine itself says are processing.
    pub(crate) fn engine_busy(&self) -> usize {
        let slots: Value = serde_json::from_str(&self.ask_engine("/slots")).unwrap();
        slots.as_array().unwrap().iter().filter(|it| it["is_processing"] == true).count()
    }

    /// Decode steps since the engine's start.
    pub(crate) fn engine_decodes(&self) -> u64 {
        let metrics = self.ask_engine("/metrics");
        let line = metrics.lines().find_map(|it| it.strip_prefix("llamacpp:n_decode_total "));
        line.unwrap().trim().parse().unwrap()
    }

    fn ask_engine(&self, path: &str) -> String {
        let replica = self.managed_replica();
        let url = format!("{}{path}", replica["endpoint"].as_str().unwrap());
        let key = format!("Bearer {}", replica["engine_key"].as_str().unwrap());
        let request = self.agent.get(&url).header("authorization", key);
        request.call().unwrap().body_mut().read_to_string().unwrap()
    }

    /// Processes whose command line names this test's own folder or engine port.
    pub(crate) fn engine_pids(&self) -> Vec<i32> {
        let endpoint = self.managed_replica()["endpoint"].as_str().unwrap().to_owned();
        let port = endpoint.rsplit(':').next().unwrap().to_owned();
        processes_with(&["--port", &port])
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for child in [&mut self.orchestrator, &mut self.manager] {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

pub(crate) struct Events {
    lines: BufReader<BodyReader<'static>>,
}

impl Events {
    pub(crate) fn next(&mut self) -> Option<Event> {
        let (mut id, mut name) = (None, String::new());
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("id: ") {
                id = value.parse().ok();
            } else if let Some(value) = line.strip_prefix("event: ") {
                value.clone_into(&mut name);
            } else if let Some(value) = line.strip_prefix("data: ") {
                return Some(Event { id, name, data: serde_json::from_str(value).unwrap() });
            }
        }
    }

    pub(crate) fn until(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("no `{name}` came"));
            if event.name == name {
                return event;
            }
        }
    }
}

/// Pids of processes whose arguments contain `words` in a row.
pub(crate) fn processes_with(words: &[&str]) -> Vec<i32> {
    let needle = words.join("\0") + "\0";
    let entries = std::fs::read_dir("/proc").unwrap();
    let pid = |it: std::io::Result<std::fs::DirEntry>| -> Option<i32> {
        let entry = it.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(&needle).then_some(pid)
    };
    entries.filter_map(pid).collect()
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
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
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// A program of ours, beside this test.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join(name);
    assert!(path.exists(), "`{}` is missing: run `cargo xtask test`", path.display());
    path
}

fn daemon(name: &str, config: &Path, logs: &Path) -> Child {
    let log = File::options().create(true).append(true).open(logs.join(name)).unwrap();
    let mut command = Command::new(program(name));
    command.arg("--config").arg(config).stdin(Stdio::null()).stderr(log);
    command.spawn().unwrap()
}

/// From `cargo xtask test`, or installed here when a test is run by hand.
#[expect(clippy::disallowed_methods, reason = "the test runner passes the engine's path this way")]
fn engine() -> &'static Path {
    static ENGINE: OnceLock<PathBuf> = OnceLock::new();
    ENGINE.get_or_init(|| {
        if let Ok(path) = std::env::var("LLAMA_ORCH_ENGINE_BIN") {
            return path.into();
        }
        let script = root().join("ci/scripts/llamacpp/install.sh");
        let output = Command::new(script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().last().unwrap().into()
    })
}

fn free_ports() -> (u16, u16) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [first, second] = listeners.map(|it| it.local_addr().unwrap().port());
    (first, second)
}
