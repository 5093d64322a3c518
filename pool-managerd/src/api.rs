//! What orchestratord and operators ask a manager.

mod jobs;
pub(crate) mod openapi;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use http_shell::{CORRELATION_HEADER, Exposition, Guard, Refusal, correlation_id};
use pool_api::{ErrorBody, HEARTBEAT_MS, Snapshot, WatchEvent};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::replica::Site;

const BACKOFF_HEADER: HeaderName = HeaderName::from_static("x-backoff-ms");

/// An order is a few names.
const BODY_BYTES_MAX: usize = 64 << 10;

/// An engine that loads is asked again at this pace, in ms.
const RETRY_AFTER_MS: u64 = 1_000;

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) site: Arc<Site>,
    pub(crate) guard: Arc<Guard>,
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/watch", get(watch))
        .route("/v1/pools", get(pools))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show).put(jobs::put))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/openapi.json", get(openapi::show))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(app.clone(), front))
        .with_state(app)
}

/// Guard and correlation id around every handler.
async fn front(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = correlation_id(request.headers());
    let checked = app.guard.check(request.method(), request.uri(), request.headers());
    let mut response = match checked {
        Ok(_) => next.run(request).await,
        Err(refusal) => refused(&refusal),
    };
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = failure.render(&id);
    }
    let value = HeaderValue::try_from(id).expect("a correlation id is plain ASCII");
    response.headers_mut().insert(CORRELATION_HEADER, value);
    response
}

fn refused(refusal: &Refusal) -> Response {
    let (status, code) = match refusal {
        Refusal::ForeignHost { .. } | Refusal::ForeignOrigin { .. } => {
            (StatusCode::FORBIDDEN, "FORBIDDEN")
        }
        Refusal::UnsupportedMediaType { .. } => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE")
        }
        Refusal::Unauthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
    };
    error(status, code, refusal.to_string())
}

/// An error on its way out; [`front`] renders it, because it alone knows the correlation id.
#[derive(Clone)]
struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

fn error(status: StatusCode, code: &'static str, message: String) -> Response {
    let mut response = status.into_response();
    response.extensions_mut().insert(Failure { status, code, message });
    response
}

impl Failure {
    /// 503 says when to come back.
    fn render(self, correlation_id: &str) -> Response {
        let retriable = self.status == StatusCode::SERVICE_UNAVAILABLE;
        let retry_after_ms = retriable.then_some(RETRY_AFTER_MS);
        let body = ErrorBody {
            code: self.code.into(),
            message: self.message,
            retriable,
            retry_after_ms,
            correlation_id: correlation_id.into(),
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(ms) = retry_after_ms {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
            headers.insert(BACKOFF_HEADER, HeaderValue::from(ms));
        }
        response
    }
}

fn not_found(request: Request) -> Ready<Response> {
    let message = format!("there is no {}", request.uri().path());
    ready(error(StatusCode::NOT_FOUND, "NOT_FOUND", message))
}

fn method_not_allowed(request: Request) -> Ready<Response> {
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    ready(error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message))
}

/// The snapshot, then changes, then heartbeats. A watcher that fell behind gets a new snapshot.
#[utoipa::path(
    get, path = "/v1/watch", operation_id = "watch_pools", tag = "control",
    responses(
        (status = 200, description = "Events until the manager stops.", body = String,
            content_type = "text/event-stream"),
    ),
    extensions(("x-req-id" = json!(["ORCH-3002", "ORCH-3038"]))),
)]
fn watch(State(app): State<App>) -> Ready<Response> {
    let (snapshot, changes) = app.site.host.watch();
    let state = Watching { site: app.site, changes, first: Some(snapshot) };
    let body = Body::from_stream(stream::unfold(state, next_event));
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    ready((headers, body).into_response())
}

struct Watching {
    site: Arc<Site>,
    changes: Receiver<WatchEvent>,
    first: Option<Snapshot>,
}

async fn next_event(mut state: Watching) -> Option<(Result<String, Infallible>, Watching)> {
    let event = match state.first.take() {
        Some(snapshot) => WatchEvent::Snapshot(snapshot),
        None => {
            let heartbeat = Duration::from_millis(HEARTBEAT_MS);
            let stopped = state.site.stop.clone();
            tokio::select! {
                change = tokio::time::timeout(heartbeat, state.changes.recv()) => match change {
                    Ok(Ok(change)) => change,
                    Ok(Err(RecvError::Lagged(_))) => {
                        // A new receiver too: what the old one still holds is older than this.
                        let (snapshot, changes) = state.site.host.watch();
                        state.changes = changes;
                        WatchEvent::Snapshot(snapshot)
                    }
                    Ok(Err(RecvError::Closed)) => return None,
                    Err(_) => WatchEvent::Heartbeat,
                },
                () = stopped.cancelled() => return None,
            }
        }
    };
    let data = serde_json::to_string(&event).expect("wire types always serialise");
    Some((Ok(format!("data: {data}\n\n")), state))
}

/// Everything that this manager runs.
#[utoipa::path(
    get, path = "/v1/pools", operation_id = "list_pools", tag = "control",
    responses((status = 200, description = "As `snapshot` of the watch.", body = Snapshot)),
    extensions(("x-req-id" = json!(["ORCH-3032"]))),
)]
fn pools(State(app): State<App>) -> Ready<Json<Snapshot>> {
    ready(Json(app.site.host.snapshot()))
}

/// Series in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "get_metrics", tag = "control",
    responses(
        (status = 200, description = "Moves with events only.", body = String,
            content_type = "text/plain"),
    ),
    extensions(("x-req-id" = json!(["OC-METRICS-7120"]))),
)]
fn metrics(State(app): State<App>) -> Ready<Response> {
    let text = app.site.telemetry.render();
    ready(([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], text).into_response())
}

/// The process serves requests; nothing more.
#[utoipa::path(
    get, path = "/healthz", operation_id = "get_liveness", tag = "control",
    responses((status = 200, description = "`ok`", body = String, content_type = "text/plain")),
    extensions(("x-req-id" = json!(["OC-CTRL-2052"]))),
)]
fn healthz() -> Ready<&'static str> {
    ready("ok\n")
}

/// 200 when every managed pool has a ready replica, else 503 with what is the matter.
#[utoipa::path(
    get, path = "/readyz", operation_id = "get_readiness", tag = "control",
    responses((status = 200, description = "`ready`", body = String, content_type = "text/plain")),
    extensions(("x-req-id" = json!(["ORCH-3002"]))),
)]
fn readyz(State(app): State<App>) -> Ready<Response> {
    let unready = app.site.host.unready();
    ready(if unready.is_empty() {
        "ready\n".into_response()
    } else {
        error(StatusCode::SERVICE_UNAVAILABLE, "POOL_UNREADY", unready.join("; "))
    })
}

#[cfg(test)]
mod tests;
