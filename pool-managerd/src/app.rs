//! Puts the parts together: build → bind → log what was bound → serve → drain.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use config_schema::{Config, EngineSource, ManagerConfig};
use http_shell::{Credentials, Guard, ServeLimits};
use pool_api::ReplicaState;
use sha2::{Digest, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, App};
use crate::digest;
use crate::engine::Environment;
use crate::host::Host;
use crate::replica::{ReplicaTask, Site};
use crate::telemetry::Telemetry;

/// After the engines are gone: how long connections may take to notice.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs until a signal, then drains and stops every engine.
pub(crate) async fn run(config: Config, environment: Environment) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let manager = config.pool_manager.clone();
    make_data_dir(&manager)?;
    let credentials = credentials(&manager)?;
    let listeners = http_shell::bind(&manager.bind.addresses()).await?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|it| it.local_addr().ok()).collect();
    let site = Arc::new(Site {
        host: Host::new(&manager, instance()),
        config: manager,
        telemetry: Telemetry::new(),
        environment,
        drain: CancellationToken::new(),
        stop: CancellationToken::new(),
    });
    let guard = guard(&site.config, &addresses, credentials);
    let app = App { site: Arc::clone(&site), guard: Arc::new(guard) };
    let stop_serving = CancellationToken::new();
    let limits = ServeLimits {
        header_bytes: config.limits.header_bytes,
        header_timeout: Duration::from_millis(config.limits.header_timeout_ms),
        connections: config.limits.connections,
        write_stall: Duration::from_millis(config.stream.write_stall_ms),
    };
    let tracker = TaskTracker::new();
    let router = api::router(app);
    tracker.spawn(http_shell::serve(listeners, router, limits, stop_serving.clone(), FAREWELL));
    let replicas = start_replicas(&site);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), profile = ?config.profile, listen = ?addresses,
        metrics = "/metrics", pools = site.config.pools.len(), "serving"
    );

    let name = signals.next().await;
    tracing::info!(signal = name, "draining; a second signal skips the wait");
    site.drain.cancel();
    tokio::select! {
        () = idle(&site) => {}
        () = tokio::time::sleep(Duration::from_millis(config.drain_ms)) => {}
        _ = signals.next() => {}
    }
    site.stop.cancel();
    replicas.wait().await;
    stop_serving.cancel();
    tracker.close();
    tracker.wait().await;
    tracing::info!("stopped");
    Ok(())
}

/// One task per replica, and one per model file for its digest.
fn start_replicas(site: &Arc<Site>) -> TaskTracker {
    let replicas = TaskTracker::new();
    for (pool_index, pool) in site.config.pools.iter().enumerate() {
        for index in 0..pool.replicas.get() as usize {
            replicas.spawn(ReplicaTask::new(Arc::clone(site), pool_index, index).run());
        }
        if let EngineSource::Managed { model_path, .. } = &pool.source {
            let (site, model) = (Arc::clone(site), model_path.clone());
            replicas.spawn_blocking(move || publish_digest(&site, pool_index, &model));
        }
    }
    replicas.close();
    replicas
}

/// A file that cannot be read is the replica's to report.
fn publish_digest(site: &Site, pool_index: usize, model: &std::path::Path) {
    let memory = site.config.data_dir.join("digests.json");
    let Ok(digest) = digest::of_file(model, &memory) else { return };
    for index in 0..site.config.pools[pool_index].replicas.get() as usize {
        site.host.update(pool_index, index, |it| it.model_digest = Some(digest.clone()));
    }
}

/// Resolves when no engine runs a sequence any more; orchestratord holds the connections.
async fn idle(site: &Site) {
    use adapter_api::Adapter;
    loop {
        let mut running = 0;
        for pool in site.host.snapshot().pools {
            for replica in pool.replicas.iter().filter(|it| it.state == ReplicaState::Draining) {
                let Some(url) = &replica.endpoint else { continue };
                let engine = llamacpp::LlamaCpp::new(url, replica.engine_key.as_deref());
                running += engine.load().await.map_or(0, |it| it.running);
            }
        }
        if running == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
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

fn credentials(config: &ManagerConfig) -> anyhow::Result<Credentials> {
    let Some(path) = &config.token_file else { return Ok(Credentials::Open) };
    let token = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token file `{}`", path.display()))?;
    let digest = Sha256::digest(token.trim()).into();
    Ok(Credentials::Digests(vec![("token_file".into(), digest)]))
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
