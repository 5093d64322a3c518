//! `GET` and `DELETE /v1/sessions/{id}`.

use api_types::{ErrorCode, Session};
use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;

use super::App;
use super::error::ApiError;
use super::extract::Id;
use super::tasks::storage_full;
use crate::tenants::Tenant;

/// How a session stands.
#[utoipa::path(
    get, path = "/v1/sessions/{id}", operation_id = "get_session", tag = "data",
    params(("id" = String, Path, description = "Its `session_id`.")),
    responses((status = 200, description = "The session as it stands.", body = Session)),
    extensions(("x-req-id" = json!(["ORCH-2004", "ORCH-3021"]))),
)]
pub(super) async fn show(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
    Id(id): Id,
) -> Result<Json<Session>, ApiError> {
    let found = app.driver.session((tenant.id, id.clone())).await;
    found.map(Json).ok_or_else(|| unknown(&id))
}

/// Ends a session: what comes next under its name begins anew, with its budgets and without a warm
/// cache. Its open turns go on to their ends. Engines are told nothing: none lets a cache go by name, and
/// each overwrites what nobody asks for.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", operation_id = "end_session", tag = "data",
    params(("id" = String, Path, description = "Its `session_id`.")),
    responses((status = 204, description = "It has ended.")),
    extensions(("x-req-id" = json!(["ORCH-2005"]))),
)]
pub(super) async fn end(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    let ended = app.driver.end_session((tenant.id, id.clone())).await;
    if let Some(written) = ended.ok_or_else(|| unknown(&id))? {
        written.await.map_err(|_| storage_full())?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn unknown(id: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no session `{id}`"))
}
