//! Puts the parts together: build → bind → log what was bound → serve → drain.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use adapter_api::Adapter;
use anyhow::Context;
use config_schema::{Config, ManagerConfig};
use http_shell::{Credentials, Guard, ServeLimits};
use llamacpp::LlamaCpp;
use pool_api::{Origin, Replica, ReplicaState};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, App};
use crate::digest::Digests;
use crate::engine::{Environment, Ports};
use crate::host::Host;
use crate::replica::{ReplicaTask, Site};
use crate::telemetry::Telemetry;

/// After the engines are gone: how long connections may take to notice.
const FAREWELL: Duration = Duration::from_secs(1);
/// 128 bits in the densest text there is take 22 characters; hex takes 32.
const TOKEN_BYTES_MIN: usize = 22;
const IDLE_POLL: Duration = Duration::from_millis(250);
/// Twice, because what was sent just before orchestratord saw the drain may still be on its way.
const IDLE_POLLS: u32 = 2;

/// Reads what the configuration points to, which is as much part of it.
///
/// # Errors
/// The token file cannot be read or holds no fit token.
pub fn credentials(config: &ManagerConfig) -> anyhow::Result<Credentials> {
    let Some(path) = &config.token_file else { return Ok(Credentials::Open) };
    let token = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token file `{}`", path.display()))?;
    let token = token.trim();
    anyhow::ensure!(
        TOKEN_BYTES_MIN <= token.len(),
        "the token file `{}` holds {} characters: expected a random token of at least {} (`llorch \
         key new` makes one)",
        path.display(),
        token.len(),
        TOKEN_BYTES_MIN
    );
    let digest = Sha256::digest(token).into();
    Ok(Credentials::Digests(vec![("token_file".into(), digest)]))
}

/// Runs until a signal, then drains and stops every engine.
pub async fn run(
    config: Config,
    credentials: Credentials,
    environment: Environment,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let manager = config.pool_manager.clone();
    make_data_dir(&manager)?;
    let listeners = http_shell::bind(&manager.bind.addresses()).await?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|it| it.local_addr().ok()).collect();
    let guard = guard(&manager, &addresses, credentials);
    let site = Arc::new(site(manager, environment));
    let app = App { site: Arc::clone(&site), guard: Arc::new(guard) };
    let stop_serving = CancellationToken::new();
    let limits = ServeLimits {
        header_bytes: config.limits.header_bytes,
        header_timeout: Duration::from_millis(config.limits.header_timeout_ms),
        connections: config.limits.connections,
        write_stall: Duration::from_millis(config.stream.write_stall_ms),
    };
    let server = TaskTracker::new();
    let router = api::router(app);
    server.spawn(http_shell::serve(listeners, router, limits, stop_serving.clone(), FAREWELL));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), profile = ?config.profile, listen = ?addresses,
        metrics = "/metrics", pools = site.config.pools.len(), "serving"
    );
    let replicas = TaskTracker::new();
    for (pool_index, pool) in site.config.pools.iter().enumerate() {
        for index in 0..pool.replicas.get() as usize {
            replicas.spawn(ReplicaTask::new(Arc::clone(&site), pool_index, index).run());
        }
    }

    let name = signals.next().await;
    tracing::info!(signal = name, "draining; a second signal skips the wait");
    drain(&site, Duration::from_millis(config.drain_ms), &mut signals).await;
    stop(&site, &replicas, &mut signals).await;
    stop_serving.cancel();
    server.close();
    server.wait().await;
    tracing::info!("stopped");
    Ok(())
}

/// Nothing runs yet.
pub(crate) fn site(config: ManagerConfig, environment: Environment) -> Site {
    Site {
        host: Host::new(&config, instance()),
        telemetry: Telemetry::new(),
        environment,
        ports: Ports::new(config.port_range),
        digests: Digests::new(config.data_dir.join("digests.json")),
        drain: CancellationToken::new(),
        stop: CancellationToken::new(),
        hurry: CancellationToken::new(),
        config,
    }
}

/// Takes nothing new and lets running sequences end, for at most `wait` or until another signal.
async fn drain(site: &Site, wait: Duration, signals: &mut Signals) {
    site.host.drain();
    site.drain.cancel();
    tokio::select! {
        () = idle(site) => {}
        () = tokio::time::sleep(wait) => {}
        _ = signals.next() => {}
    }
}

/// Stops every engine; another signal skips their grace.
async fn stop(site: &Site, replicas: &TaskTracker, signals: &mut Signals) {
    site.stop.cancel();
    replicas.close();
    tokio::select! {
        () = replicas.wait() => return,
        _ = signals.next() => site.hurry.cancel(),
    }
    replicas.wait().await;
}

/// Resolves when no engine of ours runs a sequence any more; orchestratord holds the connections.
async fn idle(site: &Site) {
    let mut idle_polls = 0;
    while idle_polls < IDLE_POLLS {
        idle_polls = if running(site).await == 0 { idle_polls + 1 } else { 0 };
        tokio::time::sleep(IDLE_POLL).await;
    }
}

async fn running(site: &Site) -> u32 {
    let mut running = 0;
    let pools = site.host.snapshot().pools;
    for pool in pools.iter().filter(|it| it.origin == Origin::Managed) {
        let serves =
            |it: &&Replica| matches!(it.state, ReplicaState::Ready | ReplicaState::Draining);
        for replica in pool.replicas.iter().filter(serves) {
            let Some(url) = &replica.endpoint else { continue };
            let engine = LlamaCpp::new(url, replica.engine_key.as_deref());
            // An engine that does not answer is not waited for.
            running += engine.load().await.map_or(0, |it| it.running);
        }
    }
    running
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn make_data_dir(config: &ManagerConfig) -> anyhow::Result<()> {
    let logs = config.data_dir.join("logs");
    DirBuilder::new().recursive(true).mode(0o700).create(&logs).with_context(|| {
        format!(
            "cannot create `{}`: choose a writable `data_dir` in `pool_manager`",
            logs.display()
        )
    })
}

fn guard(config: &ManagerConfig, addresses: &[SocketAddr], credentials: Credentials) -> Guard {
    let guard = Guard::new(addresses, &config.allowed_hosts, credentials);
    if addresses.iter().all(|it| it.ip().is_loopback()) {
        guard.with_open_paths(&["/healthz", "/readyz", "/metrics"])
    } else {
        guard.with_open_paths(&["/healthz"])
    }
}

fn instance() -> String {
    let number = getrandom::u64().expect("the operating system has a random source");
    format!("{number:016x}")
}
