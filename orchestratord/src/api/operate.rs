//! `POST /v1/pools/{id}/drain`, `/undrain` and `/reload`: what an operator does to a pool.

use std::sync::Arc;
use std::time::Duration;

use api_types::{Detail, DrainRequest, DrainStatus, ErrorCode, ReloadRequest, ReloadStatus};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::StatusCode;
use orchestrator_core::PoolId;
use pool_api::{Job, Order};

use super::App;
use super::error::ApiError;
use super::extract::Id;
use super::tasks::read;
use crate::admission::parse;
use crate::driver::Command;
use crate::fleet::Commander;

/// A day: longer is no drain.
const DEADLINE_MS_MAX: u64 = 86_400_000;

/// The pool takes no new work; what runs may finish until the deadline, and then goes on elsewhere.
#[utoipa::path(
    post, path = "/v1/pools/{id}/drain", operation_id = "drain_pool", tag = "control",
    params(("id" = String, Path, description = "The pool.")),
    request_body = DrainRequest,
    responses((status = 202, description = "Its manager has taken the order.", body = DrainStatus)),
    extensions(("x-req-id" = json!(["OC-CTRL-2002"]))),
)]
pub(super) async fn drain(
    State(app): State<App>,
    Id(id): Id,
    body: Body,
) -> Result<(StatusCode, Json<DrainStatus>), ApiError> {
    let DrainRequest { deadline_ms } = parse(&read(&app, body).await?)?;
    check(deadline_ms)?;
    let (pool, commander) = find(&app, &id)?;
    let pool_id = id.clone();
    give(&commander, Order::Drain { pool_id, patience_ms: deadline_ms }).await?;
    let hand_back_in = Some(Duration::from_millis(deadline_ms));
    app.driver.send(Command::Drain { pool, hand_back_in }).await;
    Ok((StatusCode::ACCEPTED, Json(DrainStatus { pool_id: id, draining: true })))
}

/// The pool takes work again.
#[utoipa::path(
    post, path = "/v1/pools/{id}/undrain", operation_id = "undrain_pool", tag = "control",
    params(("id" = String, Path, description = "The pool.")),
    responses((status = 202, description = "Its manager has taken the order.", body = DrainStatus)),
    extensions(("x-req-id" = json!(["OC-CTRL-2002"]))),
)]
pub(super) async fn undrain(
    State(app): State<App>,
    Id(id): Id,
) -> Result<(StatusCode, Json<DrainStatus>), ApiError> {
    let (pool, commander) = find(&app, &id)?;
    app.driver.send(Command::Drain { pool, hand_back_in: None }).await;
    give(&commander, Order::Undrain { pool_id: id.clone() }).await?;
    Ok((StatusCode::ACCEPTED, Json(DrainStatus { pool_id: id, draining: false })))
}

/// The pool serves another model, or its own read anew; the present one serves on if that fails.
#[utoipa::path(
    post, path = "/v1/pools/{id}/reload", operation_id = "reload_pool", tag = "control",
    params(("id" = String, Path, description = "The pool.")),
    request_body = ReloadRequest,
    responses((status = 202, description = "Its manager has taken the order.", body = ReloadStatus)),
    extensions(("x-req-id" = json!(["OC-CTRL-2003"]))),
)]
pub(super) async fn reload(
    State(app): State<App>,
    Id(id): Id,
    body: Body,
) -> Result<(StatusCode, Json<ReloadStatus>), ApiError> {
    let ReloadRequest { model_ref, deadline_ms } = parse(&read(&app, body).await?)?;
    check(deadline_ms)?;
    let (_, commander) = find(&app, &id)?;
    let pool_id = id.clone();
    let order = Order::Reload { pool_id, model_ref, patience_ms: deadline_ms };
    let job = give(&commander, order).await?;
    Ok((StatusCode::ACCEPTED, Json(ReloadStatus { pool_id: id, job_id: job.job_id })))
}

fn check(deadline_ms: u64) -> Result<(), ApiError> {
    if deadline_ms <= DEADLINE_MS_MAX {
        return Ok(());
    }
    let details = vec![Detail {
        pointer: "/deadline_ms".into(),
        found: deadline_ms.to_string(),
        expected: format!("0 to {DEADLINE_MS_MAX}"),
    }];
    let message = format!("/deadline_ms: found {deadline_ms}, expected 0 to {DEADLINE_MS_MAX}");
    Err(ApiError { details, ..ApiError::new(ErrorCode::InvalidParams, message) })
}

fn find(app: &App, id: &str) -> Result<(PoolId, Arc<Commander>), ApiError> {
    let fleet = app.fleet.now();
    let view = fleet.pools.iter().find(|it| it.pool.pool_id == id);
    let view =
        view.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("there is no pool `{id}`")))?;
    Ok((view.core_id, Arc::clone(&view.commander)))
}

async fn give(commander: &Commander, order: Order) -> Result<Job, ApiError> {
    let given = commander.give(order).await;
    given.map_err(|it| ApiError::new(it.code(), it.to_string()))
}
