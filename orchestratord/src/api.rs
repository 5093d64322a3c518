//! The HTTP surface: routes, and what stands around every handler.
//!
//! A handler extracts, converts, makes one call and converts back. Correlation ids, guards and the
//! error envelope are the middleware's.

mod artifacts;
mod convert;
mod error;
mod extract;
mod fleet;
mod front;
mod lists;
pub mod openapi;
mod operate;
mod queue;
mod sessions;
mod streams;
mod system;
mod tasks;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::{get, post};
use config_schema::{Config, SamplerProfile};
use http::Request;
use http_shell::Guard;
use hyper::body::Incoming;
use tower::{Service, ServiceBuilder};

use crate::artifacts::Artifacts;
use crate::driver::Handle;
use crate::fleet::FleetWatch;
use crate::journal::{Archive, Outbox};
use crate::stream::reader::ReaderConfig;
use crate::telemetry::Telemetry;
use crate::tenants::Tenants;

/// What handlers share. Cheap to clone, which axum does several times for each request.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) driver: Handle,
    pub(crate) fleet: FleetWatch,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) guard: Guard,
    pub(crate) tenants: Arc<Tenants>,
    /// Ended tasks that are no longer in memory; `None` where tasks are kept in memory only.
    pub(crate) archive: Option<Archive>,
    /// `None` where there is no journal.
    pub(crate) artifacts: Option<Artifacts>,
    /// Where new tasks are written.
    pub(crate) outbox: Option<Outbox>,
    pub(crate) settings: Settings,
    pub(crate) sampler_profiles: Vec<SamplerProfile>,
}

impl App {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    body_bytes: usize,
    header_bytes: usize,
    body_timeout: Duration,
    reader: ReaderConfig,
    queue_capacity: u32,
    unready_wait_ms: u64,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            body_bytes: config.limits.body_bytes,
            header_bytes: config.limits.header_bytes,
            body_timeout: Duration::from_millis(config.limits.body_timeout_ms),
            reader: ReaderConfig {
                heartbeat: Duration::from_millis(config.stream.heartbeat_ms),
                lag_bytes: usize::try_from(config.stream.reader_lag_bytes).unwrap_or(usize::MAX),
            },
            queue_capacity: config.queue.capacity.get(),
            unready_wait_ms: config.queue.unready_wait_ms,
        }
    }
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/tasks", post(tasks::create).get(lists::list))
        .route("/v1/tasks/{id}", get(tasks::show))
        .route("/v1/tasks/{id}/stream", get(streams::read))
        .route("/v1/tasks/{id}/explain", get(tasks::explain))
        .route("/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route("/v1/sessions/{id}", get(sessions::show).delete(sessions::end))
        .route("/v1/artifacts", post(artifacts::store))
        .route("/v1/artifacts/{id}", get(artifacts::show))
        .route("/v1/models", get(fleet::models))
        .route("/v1/pools", get(fleet::pools))
        .route("/v1/pools/{id}/health", get(fleet::pool_health))
        .route("/v1/pools/{id}/drain", post(operate::drain))
        .route("/v1/pools/{id}/undrain", post(operate::undrain))
        .route("/v1/pools/{id}/reload", post(operate::reload))
        .route("/v1/devices", get(fleet::devices))
        .route("/v1/replicasets", get(fleet::replica_sets))
        .route("/v1/queue", get(queue::show))
        .route("/v1/capabilities", get(fleet::capabilities))
        .route("/metrics", get(system::metrics))
        .route("/healthz", get(system::healthz))
        .route("/readyz", get(system::readyz))
        .route("/openapi.json", get(openapi::show))
        .fallback(front::not_found)
        .method_not_allowed_fallback(front::method_not_allowed)
        .with_state(app)
}

/// The routes with what every request passes around them: once around all of them, because a layer of
/// the router would be boxed and copied with each route.
pub(crate) fn service(
    app: App,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    ServiceBuilder::new()
        .map_request(|request: Request<Incoming>| request.map(Body::new))
        .layer(axum::middleware::from_fn_with_state(app.clone(), front::front))
        .service(router(app))
}
