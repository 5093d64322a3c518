//! Puts the parts together: build → bind → log what was bound → serve → drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::journal::Retention;
use config_schema::{Config, ManagerRef};
use http_shell::{BindError, Credentials, Guard, ServeLimits};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, App, Settings, Shared};
use crate::artifacts::Artifacts;
use crate::clock::Clock;
use crate::driver::{self, Command, Handle};
use crate::fleet::{Commander, Directory, follow};
use crate::journal::{JournalStartError, Opened, WriterConfig, Writing, epoch};
use crate::telemetry::Telemetry;
use crate::tenants::Tenants;

/// After the drain: how long connections may take to write their last event.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Journal(#[from] JournalStartError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot read the token of {url} from `{path}`")]
    Token { url: String, path: PathBuf, source: std::io::Error },
}

/// A running daemon.
pub struct Server {
    /// What was really bound, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    handle: Handle,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    followers: Vec<tokio::task::JoinHandle<()>>,
    driver: tokio::task::JoinHandle<()>,
    tracker: TaskTracker,
    writing: Option<Writing>,
    drain: Duration,
}

/// Binds and serves. Must be called inside a tokio runtime.
///
/// # Errors
/// A token file that cannot be read, then an address that cannot be bound; nothing runs then.
pub async fn start(config: &Config) -> Result<Server, StartError> {
    let tokens = config.pool_managers.iter().map(token).collect::<Result<Vec<_>, _>>()?;
    let mut opened = Opened::open(&config.journal)?;
    let listeners = http_shell::bind(&config.bind.addresses()).await?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|it| it.local_addr().ok()).collect();

    let telemetry = Arc::new(Telemetry::new());
    let (tracker, stop, clock) = (TaskTracker::new(), CancellationToken::new(), Clock::start());
    let epoch = match &mut opened {
        Some(opened) => opened.next_epoch(clock)?,
        None => epoch(clock, 0),
    };
    let tenants = Arc::new(Tenants::new(config));
    let (outbox, inbox) = opened.as_ref().map(|it| it.boxes(config.stream)).transpose()?.unzip();
    let artifacts = opened.as_mut().zip(outbox.clone()).map(|(opened, outbox)| {
        Artifacts::open(opened, config, &tenants, (outbox, clock, tracker.clone()))
    });
    let artifacts = artifacts.transpose()?;
    let (mut driver, handle) = driver::build(
        config,
        directory(config, &tokens, epoch),
        Arc::clone(&telemetry),
        (tracker.clone(), clock),
        (Arc::clone(&tenants), outbox.clone(), artifacts.clone()),
    );
    if let Some(opened) = &mut opened {
        driver.restore(opened)?;
    }
    let writer = WriterConfig {
        retention: Retention { age_ms: config.retention.ttl_ms, bytes: config.retention.bytes },
        clock,
        fleet: driver.fleet(),
        driver: handle.clone(),
        telemetry: Arc::clone(&telemetry),
    };
    let writing = opened.zip(outbox.clone().zip(inbox));
    let (archive, writing) = writing
        .map(|(opened, box_)| opened.start(box_, writer, Arc::clone(&tenants), &tracker))
        .unzip();
    if let (Some(artifacts), Some(archive)) = (&artifacts, &archive) {
        artifacts.start(archive, &handle.store, stop.clone());
    }
    let app = App::new(Shared {
        driver: handle.clone(),
        fleet: driver.fleet(),
        telemetry,
        guard: guard(config, &addresses),
        tenants,
        archive,
        artifacts,
        outbox,
        settings: Settings::new(config),
        sampler_profiles: config.sampler_profiles.clone(),
    });
    let driver = tracker.spawn(driver.run());
    let followers = followers(config, tokens, &handle, &tracker);
    let serving =
        http_shell::serve(listeners, api::service(app), limits(config), stop.clone(), FAREWELL);
    Ok(Server {
        addresses,
        followers,
        serving: tracker.spawn(serving),
        driver,
        handle,
        stop,
        tracker,
        writing,
        drain: Duration::from_millis(config.drain_ms),
    })
}

impl Server {
    /// Resolves if the driver ends by itself, which only a panic can do. Without it nothing is decided
    /// any more: the process must end.
    pub async fn broken(&mut self) {
        let _panicked = (&mut self.driver).await;
    }

    /// Admits nothing more, lets what runs finish for at most the configured drain time or until
    /// `hurry` resolves, then closes connections. What the journal has goes on in the next life; what
    /// is in memory only may finish, too, and is ended with `SHUTTING_DOWN` in the end.
    pub async fn shut_down(self, hurry: impl Future<Output = ()>) {
        self.handle.send(Command::ShutDown).await;
        tokio::select! {
            () = self.idle() => {}
            () = tokio::time::sleep(self.drain) => {}
            () = hurry => {}
        }
        self.handle.send(Command::EndAll).await;
        self.stop.cancel();
        let _served = self.serving.await;
        self.followers.iter().for_each(tokio::task::JoinHandle::abort);
        self.handle.send(Command::Stop).await;
        self.tracker.close();
        // Attempts that still confirm a slot have nobody to tell.
        let _driven = self.driver.await;
        if let Some(writing) = self.writing {
            writing.finish().await;
        }
    }

    async fn idle(&self) {
        while !self.handle.is_idle().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn directory(config: &Config, tokens: &[Option<String>], epoch: u64) -> Directory {
    let commanders =
        config.pool_managers.iter().zip(tokens).map(|(manager, token)| {
            Arc::new(Commander::new(&manager.url, token.as_deref(), epoch))
        });
    let models = config.model_costs.iter().map(|it| it.id.clone());
    Directory::new(commanders.collect(), models, config.swap.idle_ttl_ms)
}

fn followers(
    config: &Config,
    tokens: Vec<Option<String>>,
    driver: &Handle,
    tracker: &TaskTracker,
) -> Vec<tokio::task::JoinHandle<()>> {
    let managers = config.pool_managers.iter().zip(tokens).enumerate();
    let followed = managers.map(|(index, (manager, token))| {
        tracker.spawn(follow(index, manager.url.clone(), token, driver.clone()))
    });
    followed.collect()
}

fn limits(config: &Config) -> ServeLimits {
    ServeLimits {
        // Some room above the limit, so that a head just over it gets our own answer.
        header_bytes: config.limits.header_bytes * 2,
        header_timeout: Duration::from_millis(config.limits.header_timeout_ms),
        connections: config.limits.connections,
        write_stall: Duration::from_millis(config.stream.write_stall_ms),
    }
}

fn token(manager: &ManagerRef) -> Result<Option<String>, StartError> {
    let Some(path) = &manager.token_file else { return Ok(None) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(source) => {
            Err(StartError::Token { url: manager.url.clone(), path: path.clone(), source })
        }
    }
}

fn guard(config: &Config, addresses: &[SocketAddr]) -> Guard {
    let credentials = if config.keys.is_empty() {
        Credentials::Open
    } else {
        let keys = config.keys.iter().map(|it| (it.name.clone(), it.sha256));
        Credentials::Digests(keys.collect())
    };
    let guard = Guard::new(addresses, &config.allowed_hosts, credentials);
    if addresses.iter().all(|it| it.ip().is_loopback()) {
        guard.with_open_paths(&["/healthz", "/readyz", "/metrics"])
    } else {
        guard
    }
}
