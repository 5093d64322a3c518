//! The two sides: engine-sim, and orchestratord in front of it, with pool-managerd between as in
//! production.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use memchr::memmem;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Durability;
use crate::client::Side;

pub(crate) struct Stack {
    pub(crate) direct: Side,
    pub(crate) relay: Side,
    pub(crate) listening_ms: f64,
    orchestrator: Process,
    _others: [Process; 2],
    config: PathBuf,
    _folder: TempDir,
}

/// Ends with its value, also when the rest of the stack does not come up.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// More than any profile queues.
const QUEUE_CAPACITY: usize = 131_072;

impl Stack {
    pub(crate) async fn start(
        slots: usize,
        decode_us: usize,
        durability: Durability,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (engine, engine_address) = engine(slots, decode_us)?;
        let relay_address = free()?;
        let manager_address = free()?;
        let config = folder.path().join("config.json");
        let document = json!({
            "bind": [relay_address],
            "pool_managers": [{"url": format!("http://{manager_address}")}],
            "log": {"level": "warn"},
            "queue": {"capacity": QUEUE_CAPACITY},
            "journal": {
                "durability": format!("{durability:?}").to_lowercase(),
                "data_dir": folder.path().join("journal"),
            },
            "pool_manager": {
                "bind": [manager_address],
                "data_dir": folder.path().join("data"),
                "pools": [{
                    "id": "sim", "engine": "llamacpp", "model": {"id": "sim"},
                    "external": {"url": format!("http://{engine_address}")},
                }],
            },
        });
        std::fs::write(&config, document.to_string())?;
        let manager = daemon("pool-managerd", &config)?;
        let spawned = Instant::now();
        let orchestrator = daemon("orchestratord", &config)?;
        while TcpStream::connect(relay_address).await.is_err() {
            ensure!(spawned.elapsed() < Duration::from_secs(10), "orchestratord does not listen");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let listening_ms = spawned.elapsed().as_secs_f64() * 1e3;
        let stack = Self {
            direct: Side {
                address: engine_address,
                path: "/completion",
                prompt: "hello",
                marker: b"\"content\":\"",
                fields: r#""n_predict":{n},"stream":true"#,
            },
            relay: Side {
                address: relay_address,
                path: "/v1/tasks",
                prompt: "hello",
                marker: b"\"t\":\"",
                fields: r#""max_tokens":{n},"disconnect_grace_ms":0"#,
            },
            listening_ms,
            orchestrator,
            _others: [engine, manager],
            config,
            _folder: folder,
        };
        while !get(relay_address, "/readyz").await?.contains("\"ready\":true") {
            ensure!(spawned.elapsed() < Duration::from_secs(30), "orchestratord is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(stack)
    }

    /// SIGKILL.
    pub(crate) fn kill_orchestrator(&mut self) -> anyhow::Result<()> {
        self.orchestrator.0.kill()?;
        self.orchestrator.0.wait()?;
        Ok(())
    }

    pub(crate) fn start_orchestrator(&mut self) -> anyhow::Result<()> {
        self.orchestrator = daemon("orchestratord", &self.config)?;
        Ok(())
    }

    /// CPU time that orchestratord has used, in seconds.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.orchestrator.0.id()))?;
        let (_, fields) = stat.rsplit_once(") ").context("a name in brackets")?;
        // Fields 14 and 15 of proc(5): user and system time, in ticks of 1/100 s on Linux.
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / 100.)
    }

    /// Resident memory of orchestratord, in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.orchestrator.0.id()))?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// When the engine last saw a client leave, in µs of the wall clock.
    pub(crate) async fn last_disconnect_us(&self) -> anyhow::Result<u64> {
        let answer = get(self.direct.address, "/sim/stats").await?;
        let body = answer.split("\r\n\r\n").nth(1).context("a body")?;
        let stats: serde_json::Value = serde_json::from_str(body)?;
        stats["last_disconnect_unix_us"].as_u64().context("last_disconnect_unix_us")
    }
}

/// A keep-alive connection for calls that are answered at once.
pub(crate) struct Caller(TcpStream);

impl Caller {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self(socket))
    }

    /// Posts `body` and returns the answer's.
    pub(crate) async fn send(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            ensure!(self.0.read_buf(&mut answer).await? != 0, "the connection was closed");
            let Some(at) = memmem::find(&answer, b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&answer[..at])?.to_ascii_lowercase();
            let length = head.lines().find_map(|it| it.strip_prefix("content-length: "));
            let length: usize = length.context("a length")?.trim().parse()?;
            if at + 4 + length <= answer.len() {
                return Ok(serde_json::from_slice(&answer[at + 4..])?);
            }
        }
    }
}

/// The whole answer, head included.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn engine(slots: usize, decode_us: usize) -> anyhow::Result<(Process, SocketAddr)> {
    let mut child = Command::new(beside("engine-sim")?)
        .args(["--no-model-file", "--port", "0", "--slots", "--alias", "sim"])
        .args(["-np", &slots.to_string(), "-c", &(slots * 1_024).to_string()])
        .args(["--decode-us-per-token", &decode_us.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .context("starting engine-sim")?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let child = Process(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let address = line.trim().rsplit(' ').next().unwrap_or_default();
    Ok((child, address.parse().with_context(|| format!("an address in `{line}`"))?))
}

fn daemon(name: &str, config: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(beside(name)?);
    let child = command.arg("--config").arg(config).spawn();
    child.map(Process).with_context(|| format!("starting {name}"))
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("a program lies in a folder")?.join(name))
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
