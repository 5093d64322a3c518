//! `/metrics`, `/healthz`, `/readyz`.

use api_types::Readiness;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_shell::Exposition;

use super::App;
use super::fleet::state;
use crate::fleet::Fleet;

pub(super) async fn metrics(State(app): State<App>) -> Response {
    let text = app.telemetry.render();
    ([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], text).into_response()
}

/// The process serves requests; nothing more.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 once a task would start at once, 503 with what is waited for until then.
pub(super) async fn readyz(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let fleet = app.fleet.now();
    let ready = fleet.models.values().any(|it| it.resident);
    let waiting_for = if ready { Vec::new() } else { waits(&fleet) };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, waiting_for }))
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
