//! `/v1/jobs`: orders to replicas and pools.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use config_schema::{ManagerConfig, PoolConfig};
use http::StatusCode;
use pool_api::{Job, JobList, JobRequest, Order};

use super::{App, error};
use crate::jobs::{self, Refused};
use crate::replica::{NewModel, Place, Wished};
use crate::{drain, roll};

/// Longest id of a job, in bytes.
const ID_MAX: usize = 128;

/// Orders something; repeating the request is harmless and tells how far it has come.
#[utoipa::path(
    put, path = "/v1/jobs/{id}", operation_id = "put_job", tag = "control",
    params(("id" = String, Path, description = "Chosen by the caller: 1 to 128 of A-Z a-z 0-9 . _ -")),
    request_body = JobRequest,
    responses((status = 202, description = "It runs, or has ended.", body = Job)),
    extensions(("x-req-id" = json!(["OC-POOL-3043"]))),
)]
pub(super) async fn put(
    State(app): State<App>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let fit = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
    if id.is_empty() || ID_MAX < id.len() || !id.bytes().all(fit) {
        let message = "found a job id with other characters or another length, expected 1 to 128 \
                       of A-Z a-z 0-9 . _ -";
        return error(StatusCode::BAD_REQUEST, "INVALID_PARAMS", message.into());
    }
    let request = match body.map_err(|it| it.body_text()).and_then(|it| parse(&it)) {
        Ok(request) => request,
        Err(message) => return error(StatusCode::BAD_REQUEST, "INVALID_PARAMS", message),
    };
    if app.site.drain.is_cancelled() || app.site.stop.is_cancelled() {
        let message = "the manager stops and takes no more orders";
        return error(StatusCode::SERVICE_UNAVAILABLE, "SHUTTING_DOWN", message.into());
    }
    let Some(target) = target(&app, &request.order) else {
        let message = format!("there is no {}", described(&request.order));
        return error(StatusCode::NOT_FOUND, "NOT_FOUND", message);
    };
    if let Order::Reload { model_ref, .. } = &request.order
        && let Err(message) = model(&app.site.config, target.0, model_ref.as_deref())
    {
        return error(StatusCode::NOT_FOUND, "MODEL_NOT_FOUND", message);
    }
    match app.site.jobs.put(&id, request) {
        Ok(taken) => {
            if taken.is_new {
                begin(&app, &taken.job, target);
            }
            let job = app.site.jobs.get(&id).unwrap_or(taken.job);
            (StatusCode::ACCEPTED, Json(job)).into_response()
        }
        Err(refused) => {
            let (status, code) = match refused {
                Refused::StaleEpoch { .. } => (StatusCode::CONFLICT, "STALE_EPOCH"),
                Refused::Conflict { .. } => (StatusCode::CONFLICT, "JOB_ID_CONFLICT"),
                Refused::TooMany => (StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_JOBS"),
            };
            error(status, code, refused.to_string())
        }
    }
}

fn parse(body: &[u8]) -> Result<JobRequest, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = serde_path_to_error::deserialize(&mut json)
        .map_err(|it| format!("{}: {}", config_schema::pointer(it.path()), it.inner()))?;
    json.end().map_err(|it| format!("after the order: {it}"))?;
    Ok(request)
}

fn target(app: &App, order: &Order) -> Option<Place> {
    match order {
        Order::Load { replica_id } | Order::Unload { replica_id, .. } => {
            app.site.host.find_replica(replica_id)
        }
        Order::Drain { pool_id, .. }
        | Order::Undrain { pool_id }
        | Order::Reload { pool_id, .. } => app.site.host.find_pool(pool_id).map(|it| (it, 0)),
    }
}

fn described(order: &Order) -> String {
    match order {
        Order::Load { replica_id } | Order::Unload { replica_id, .. } => {
            format!("replica `{replica_id}`")
        }
        Order::Drain { pool_id, .. }
        | Order::Undrain { pool_id }
        | Order::Reload { pool_id, .. } => format!("pool `{pool_id}`"),
    }
}

fn begin(app: &App, job: &Job, (pool, index): Place) {
    tracing::info!(job_id = job.job_id, order = ?job.order, "job");
    let (site, id) = (Arc::clone(&app.site), job.job_id.clone());
    let wish = match &job.order {
        Order::Load { .. } => Wished::Load,
        Order::Unload { patience_ms, .. } => Wished::Unload { patience_ms: *patience_ms },
        Order::Drain { patience_ms, .. } => {
            drain::pool(&site, pool, id, *patience_ms);
            return;
        }
        Order::Undrain { .. } => {
            drain::end(&site, pool, id);
            return;
        }
        Order::Reload { model_ref, patience_ms, .. } => {
            match model(&site.config, pool, model_ref.as_deref()) {
                Ok(model) => roll::pool(&site, pool, id, model, *patience_ms),
                Err(message) => {
                    site.jobs.finish(&id, Err(jobs::error("RELOAD_FAILED", &message)));
                }
            }
            return;
        }
    };
    let ended = site.order((pool, index), wish);
    site.tracker.clone().spawn(async move {
        let result = ended.await;
        site.jobs.finish(&id, result);
    });
}

/// What a pool is to be reloaded with.
fn model(config: &ManagerConfig, pool: usize, model_ref: Option<&str>) -> Result<NewModel, String> {
    let known = |it: &PoolConfig| {
        let (id, aliases) = (it.model_id.clone(), it.model_aliases.clone());
        it.model_path().map(|path| NewModel { id, aliases, path: path.to_owned() })
    };
    let own = known(&config.pools[pool]).ok_or("somebody else runs that server")?;
    let Some(name) = model_ref else { return Ok(own) };
    if name.starts_with('/') {
        return Ok(NewModel { path: name.into(), ..own });
    }
    let named =
        |it: &&PoolConfig| it.model_id == name || it.model_aliases.iter().any(|it| it == name);
    let found = config.pools.iter().filter(named).find_map(known);
    found.ok_or_else(|| {
        let models: Vec<&str> = config.pools.iter().map(|it| it.model_id.as_str()).collect();
        format!(
            "no pool of this manager has a model `{name}`: expected one of {}, or the absolute path \
             of a file",
            models.join(", ")
        )
    })
}

/// What has become of an order.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "get_job", tag = "control",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, description = "As of now.", body = Job)),
    extensions(("x-req-id" = json!(["OC-POOL-3043"]))),
)]
pub(super) async fn show(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.site.jobs.get(&id) {
        Some(job) => Json(job).into_response(),
        None => error(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is no job `{id}`")),
    }
}

/// The latest orders.
#[utoipa::path(
    get, path = "/v1/jobs", operation_id = "list_jobs", tag = "control",
    responses((status = 200, description = "At most 256, newest last.", body = JobList)),
    extensions(("x-req-id" = json!(["OC-POOL-3043"]))),
)]
pub(super) async fn list(State(app): State<App>) -> Json<JobList> {
    Json(JobList { jobs: app.site.jobs.all() })
}
