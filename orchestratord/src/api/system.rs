//! `/metrics`, `/healthz`, `/readyz`.

use api_types::Readiness;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_shell::Exposition;

use super::App;
use super::error::{RETRY_AFTER_DEFAULT_MS, advise};
use super::fleet::state;
use crate::fleet::Fleet;

/// Series in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "get_metrics", tag = "control",
    responses(
        (status = 200, description = "Moves with traffic only.", body = String,
            content_type = "text/plain"),
    ),
    extensions(("x-req-id" = json!(["ORCH-3028", "OC-CTRL-2051"]))),
)]
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let text = app.telemetry.render();
    ([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], text).into_response()
}

/// The process serves requests; nothing more.
#[utoipa::path(
    get, path = "/healthz", operation_id = "get_liveness", tag = "control",
    responses((status = 200, description = "`ok`", body = String, content_type = "text/plain")),
    extensions(("x-req-id" = json!(["OC-CTRL-2052"]))),
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 once a task would start at once, 503 with what is waited for until then.
#[utoipa::path(
    get, path = "/readyz", operation_id = "get_readiness", tag = "control",
    responses(
        (status = 200, description = "A task would start at once.", body = Readiness),
        (status = 503, description = "What is waited for.", body = Readiness),
    ),
    extensions(("x-req-id" = json!(["OC-CTRL-2032"]))),
)]
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let fleet = app.fleet.now();
    let ready = fleet.models.values().any(|it| it.resident);
    let waiting_for = if ready { Vec::new() } else { waits(&fleet) };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, Json(Readiness { ready, waiting_for })).into_response();
    if !ready {
        advise(response.headers_mut(), RETRY_AFTER_DEFAULT_MS);
    }
    response
}

fn waits(fleet: &Fleet) -> Vec<String> {
    let managers = (fleet.managers_awaited > 0).then(|| "pool manager".to_owned());
    let replicas = fleet.pools.iter().flat_map(|view| {
        view.pool.replicas.iter().map(move |it| {
            let cause = it.last_error.as_ref().map_or(String::new(), |it| format!(": {it}"));
            let reachable = if view.reachable { "" } else { " (its manager does not answer)" };
            format!("{} is {}{reachable}{cause}", it.replica_id, state(it.state))
        })
    });
    managers.into_iter().chain(replicas).collect()
}
