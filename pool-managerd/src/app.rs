//! Puts the parts together: build → bind → log what was bound → serve → drain.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use config_schema::{Config, ManagerConfig, OnManagerExit};
use http_shell::{Credentials, Guard, ServeLimits};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, App};
use crate::devices::{self, Devices};
use crate::digest::Digests;
use crate::drain;
use crate::drained::Drained;
use crate::engine::{Environment, Ports};
use crate::host::Host;
use crate::jobs::{JOBS_MAX, Jobs};
use crate::kept::{self, Kept};
use crate::measured::Measured;
use crate::memory::Memory;
use crate::reconfigure::{self, Next, Source};
use crate::replica::{Inbox, Place, ReplicaTask, Site, end_strays};
use crate::succession::Succession;
use crate::telemetry::Telemetry;

/// After the engines are gone: how long connections may take to notice.
const FAREWELL: Duration = Duration::from_secs(1);
/// 128 bits in the densest text there is take 22 characters; hex takes 32.
const TOKEN_BYTES_MIN: usize = 22;
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

/// Why a manager does not run any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Stopped,
    /// The configuration has changed, and the engines wait for who takes them over.
    Succeeded,
}

/// Runs until a signal, then drains and stops every engine, or hands them over.
pub async fn run(
    config: Config,
    source: Source,
    credentials: Credentials,
    environment: Environment,
) -> anyhow::Result<Ended> {
    let mut signals = Signals::new()?;
    let manager = config.pool_manager.clone();
    make_data_dir(&manager)?;
    let _lock = kept::lock(&manager.data_dir)?;
    let listeners = http_shell::bind(&manager.bind.addresses()).await?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|it| it.local_addr().ok()).collect();
    let guard = guard(&manager, &addresses, credentials);
    let (site, inboxes) = site(manager, environment);
    let site = Arc::new(site);
    end_strays(&site).await;
    let mut tasks = Vec::new();
    for (place, inbox) in inboxes {
        let mut task = ReplicaTask::new(Arc::clone(&site), place, inbox);
        task.adopt().await;
        tasks.push(task);
    }
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
    devices::watch(&site).context("starting the thread that watches GPUs")?;
    let replicas = TaskTracker::new();
    tasks.into_iter().for_each(|it| drop(replicas.spawn(it.run())));

    let name = loop {
        match signals.next().await {
            HANGUP => {
                if let Some(next) = read_again(&source, &config).await {
                    hand_over(&site, &next, config.drain_ms, &mut signals).await;
                    replicas.close();
                    replicas.wait().await;
                    site.succession.close();
                    break HANGUP;
                }
            }
            name => break name,
        }
    };
    if name == HANGUP {
        tracing::info!("becoming a manager with the new configuration");
        site.stop.cancel();
    } else if site.config.on_manager_exit == OnManagerExit::Keep {
        // The engines serve on; the next manager takes them over.
        tracing::info!(signal = name, "stopping; the engines are kept");
        site.stop.cancel();
    } else {
        tracing::info!(signal = name, "draining; a second signal skips the wait");
        finish(&site, Duration::from_millis(config.drain_ms), &mut signals).await;
        stop(&site, &replicas, &mut signals).await;
    }
    site.tracker.close();
    site.tracker.wait().await;
    stop_serving.cancel();
    server.close();
    server.wait().await;
    tracing::info!("stopped");
    Ok(if name == HANGUP { Ended::Succeeded } else { Ended::Stopped })
}

/// The configuration file as it is now; what becomes of it is logged.
async fn read_again(source: &Source, config: &Config) -> Option<Next> {
    let (source, config) = (source.clone(), config.clone());
    let judged = tokio::task::spawn_blocking(move || reconfigure::judge(&source, &config)).await;
    match judged.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(Some(next)) => {
            for change in &next.changes {
                tracing::info!(%change, "configuration changes");
            }
            tracing::info!(previous = %next.previous.display(), "the configuration before is kept; copy it back to revert");
            Some(next)
        }
        Ok(None) => {
            tracing::info!("the configuration has not changed");
            None
        }
        Err(cause) => {
            tracing::error!(cause, "the new configuration is refused; the old one serves on");
            None
        }
    }
}

/// Lets pools that end finish their work, for a bounded time or until another signal, then every
/// replica leave its engine to a successor.
async fn hand_over(site: &Site, next: &Next, drain_ms: u64, signals: &mut Signals) {
    for pool in &next.ending {
        site.host.set_draining(*pool, true);
    }
    if !next.ending.is_empty() {
        tokio::select! {
            () = drain::idle(site, |it| next.ending.contains(&it)) => {}
            () = tokio::time::sleep(Duration::from_millis(drain_ms)) => {}
            _ = signals.next() => {}
        }
    }
    site.hand_over.cancel();
}

/// Nothing runs yet. With where each replica, by pool and index, takes its orders.
pub(crate) fn site(config: ManagerConfig, environment: Environment) -> (Site, Vec<(Place, Inbox)>) {
    let mut inboxes = Vec::new();
    let mut outboxes = Vec::new();
    for (pool, it) in config.pools.iter().enumerate() {
        let mut boxes = Vec::new();
        for index in 0..it.replicas.get() as usize {
            let (outbox, inbox) = mpsc::channel(JOBS_MAX);
            boxes.push(outbox);
            inboxes.push(((pool, index), inbox));
        }
        outboxes.push(boxes);
    }
    let memory = Arc::<Memory>::default();
    let devices = Arc::new(Devices::new(&config, Arc::clone(&memory)));
    let drained = Drained::new(config.data_dir.join("drained.json"), &config.pools);
    let site = Site {
        host: Host::new(&config, &devices, &drained, instance()),
        telemetry: Telemetry::new(),
        environment,
        ports: Ports::new(config.engine_address, config.port_range),
        digests: Digests::new(config.data_dir.join("digests.json")),
        devices,
        memory,
        measured: Measured::new(config.data_dir.join("measured.json")),
        jobs: Jobs::default(),
        kept: Kept::new(&config.data_dir),
        drained,
        succession: Succession::take(&config.data_dir),
        outboxes,
        tracker: TaskTracker::new(),
        hand_over: CancellationToken::new(),
        drain: CancellationToken::new(),
        stop: CancellationToken::new(),
        hurry: CancellationToken::new(),
        config,
    };
    (site, inboxes)
}

/// Takes nothing new and lets running sequences end, for at most `wait` or until another signal.
async fn finish(site: &Site, wait: Duration, signals: &mut Signals) {
    site.host.drain();
    site.drain.cancel();
    tokio::select! {
        () = drain::idle(site, |_| true) => {}
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

const HANGUP: &str = "SIGHUP";

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => HANGUP,
        }
    }
}

pub(crate) fn make_data_dir(config: &ManagerConfig) -> anyhow::Result<()> {
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
