//! `POST /v1/tasks`, `GET /v1/tasks/{id}`, `POST /v1/tasks/{id}/cancel`.

use std::sync::Arc;

use api_types::{Admission, Detail, ErrorCode, Explanation, Task, TaskRequest};
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use uuid::Uuid;

use super::error::ApiError;
use super::extract::Id;
use super::front::CorrelationId;
use super::{App, artifacts, convert, streams};
use crate::admission::{Refusal, parse, prepare, validate};
use crate::attempt::millis;
use crate::driver::{Submission, SubmitReply};
use crate::sessions::Remaining;
use crate::task::TaskRecord;
use crate::tenants::Tenant;
use crate::wire::STORAGE_FULL;

const POSITION_HEADER: HeaderName = HeaderName::from_static("x-queue-position");
const TOKENS_HEADER: HeaderName = HeaderName::from_static("x-budget-tokens-remaining");
const TIME_HEADER: HeaderName = HeaderName::from_static("x-budget-time-remaining-ms");
const COST_HEADER: HeaderName = HeaderName::from_static("x-budget-cost-remaining");
const ETA_HEADER: HeaderName = HeaderName::from_static("x-queue-eta-ms");

/// Admits a task, or answers for one that was submitted before with the same id.
#[utoipa::path(
    post, path = "/v1/tasks", operation_id = "submit_task", tag = "data",
    request_body = TaskRequest,
    responses(
        (status = 202, description = "Admitted; where it stands.", body = Admission),
        (status = 200, description = "The stream, where `text/event-stream` is accepted.",
            body = String, content_type = "text/event-stream"),
    ),
    extensions(("x-req-id" = json!(["ORCH-2001", "ORCH-2002", "ORCH-3024", "OC-CTRL-2010"]))),
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(CorrelationId(correlation_id)): Extension<CorrelationId>,
    Extension(tenant): Extension<Tenant>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = read(&app, body).await?;
    let streams = wants_stream(&headers);
    let valid = validate(parse(&body)?, streams)?;
    drop(body);
    // Nobody has submitted an id before that was made just now.
    if valid.id_named
        && let Some(known) = look_up(&app, &tenant, valid.id).await?
    {
        // A repetition is answered even if the fleet could not take the task now.
        if known.job.canonical != valid.request {
            return Err(conflict());
        }
        stored(&known).await?;
        return Ok(answer(&app, known, streams, None).await);
    }
    app.durable(&valid.request)?;
    app.transcribable(&valid.request, &tenant)?;
    let id = valid.id;
    let job = prepare(valid, &app.fleet.now(), &app.sampler_profiles).await?;
    match app.driver.submit(Submission { id, tenant, job, correlation_id }).await {
        SubmitReply::Admitted { record, admission, remaining } => {
            stored(&record).await?;
            Ok(answer(&app, record, streams, Some((admission, remaining))).await)
        }
        SubmitReply::Known(record) => {
            stored(&record).await?;
            Ok(answer(&app, record, streams, None).await)
        }
        SubmitReply::Conflict => Err(conflict()),
        SubmitReply::Rejected(rejection) => Err(convert::rejection(rejection)),
        SubmitReply::ShuttingDown => {
            Err(ApiError::new(ErrorCode::ShuttingDown, "the server shuts down"))
        }
    }
}

/// What is known of a task.
#[utoipa::path(
    get, path = "/v1/tasks/{id}", operation_id = "get_task", tag = "data",
    params(("id" = Uuid, Path, description = "The task.")),
    responses((status = 200, description = "The task as it stands.", body = Task)),
    extensions(("x-req-id" = json!(["ORCH-2008"]))),
)]
pub(super) async fn show(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
    Id(id): Id,
) -> Result<Json<Task>, ApiError> {
    let record = find(&app, &tenant, &id).await?;
    let task = record.view().await?.ok_or_else(|| unknown(&id))?;
    let transcript = app.artifacts.as_ref().and_then(|it| it.transcript_of(&tenant, record.id));
    let transcript_id = transcript.map(|it| it.to_string());
    Ok(Json(Task { transcript_id, ..task }))
}

/// Why a task waits, or where it went.
#[utoipa::path(
    get, path = "/v1/tasks/{id}/explain", operation_id = "explain_task", tag = "data",
    params(("id" = Uuid, Path, description = "The task.")),
    responses((status = 200, description = "What was decided, and why.", body = Explanation)),
    extensions(("x-req-id" = json!(["ORCH-4005", "OC-CORE-1016"]))),
)]
pub(super) async fn explain(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
    Id(id): Id,
) -> Result<Json<Explanation>, ApiError> {
    let record = find(&app, &tenant, &id).await?;
    let explained = app.driver.explain(record).await;
    explained.map(Json).ok_or_else(|| unknown(&id))
}

/// Ends a task at any point; harmless after its end.
#[utoipa::path(
    post, path = "/v1/tasks/{id}/cancel", operation_id = "cancel_task", tag = "data",
    params(("id" = Uuid, Path, description = "The task.")),
    responses((status = 204, description = "No token follows.")),
    extensions(("x-req-id" = json!(["ORCH-2003", "ORCH-3026", "OC-CTRL-2012"]))),
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    let record = find(&app, &tenant, &id).await?;
    app.driver.cancel(record.core_id).await;
    record.over().await;
    Ok(StatusCode::NO_CONTENT)
}

/// Another tenant's task is as unknown as one that there never was.
pub(super) async fn find(
    app: &App,
    tenant: &Tenant,
    id: &str,
) -> Result<Arc<TaskRecord>, ApiError> {
    let Ok(uuid) = id.parse::<Uuid>() else { return Err(unknown(id)) };
    look_up(app, tenant, uuid).await?.ok_or_else(|| unknown(id))
}

/// In memory, then in the journal.
async fn look_up(
    app: &App,
    tenant: &Tenant,
    id: Uuid,
) -> Result<Option<Arc<TaskRecord>>, ApiError> {
    match (app.driver.store.find(tenant.id, id), &app.archive) {
        (Some(record), _) => Ok(Some(record)),
        (None, Some(archive)) => Ok(archive.find(tenant, id).await?),
        (None, None) => Ok(None),
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no task `{id}`"))
}

/// The stream if it was asked for, else the admission; `fresh` when the task was admitted just now.
async fn answer(
    app: &App,
    record: Arc<TaskRecord>,
    streams: bool,
    fresh: Option<(Admission, Remaining)>,
) -> Response {
    let (admission, remaining) = match fresh {
        Some(fresh) => fresh,
        None => {
            let standing = app.driver.standing(record.core_id).await;
            let time_ms = record.until_deadline().map(millis);
            let remaining = Remaining { time_ms, ..Remaining::default() };
            (convert::admission_now(&record, standing, app), remaining)
        }
    };
    let mut response = if streams {
        streams::from_start(app, record, &admission)
    } else {
        (StatusCode::ACCEPTED, Json(&admission)).into_response()
    };
    let headers = response.headers_mut();
    let location = HeaderValue::try_from(&admission.links.this).expect("a path of hex digits");
    headers.insert(LOCATION, location);
    headers.insert(POSITION_HEADER, HeaderValue::from(admission.queue_position));
    headers.insert(ETA_HEADER, HeaderValue::from(admission.predicted_start_ms));
    let budgets = [
        (TOKENS_HEADER, remaining.tokens),
        (TIME_HEADER, remaining.time_ms),
        (COST_HEADER, remaining.cost),
    ];
    for (name, left) in budgets {
        if let Some(left) = left {
            headers.insert(name, HeaderValue::from(left));
        }
    }
    response
}

/// What is acknowledged is in the journal.
async fn stored(record: &TaskRecord) -> Result<(), ApiError> {
    if record.stored().await { Ok(()) } else { Err(storage_full()) }
}

pub(super) fn storage_full() -> ApiError {
    ApiError::new(ErrorCode::StorageFull, STORAGE_FULL)
}

impl App {
    /// Whether the request can be kept as it wants to be.
    fn durable(&self, request: &TaskRequest) -> Result<(), ApiError> {
        match (&self.outbox, request.ephemeral) {
            (None, Some(false)) => Err(Refusal::invalid(vec![Detail {
                pointer: "/ephemeral".into(),
                found: "false".into(),
                expected: "true or nothing: this server keeps tasks in memory only".into(),
            }])
            .into()),
            (Some(outbox), None | Some(false)) if outbox.is_full() => Err(storage_full()),
            (None | Some(_), _) => Ok(()),
        }
    }
}

impl App {
    /// Whether a transcript can be kept, if one is wanted.
    fn transcribable(&self, request: &TaskRequest, tenant: &Tenant) -> Result<(), ApiError> {
        match &self.artifacts {
            _ if !request.transcript => Ok(()),
            Some(it) => it.check_room(tenant).map_err(artifacts::refused),
            None => Err(Refusal::invalid(vec![Detail {
                pointer: "/transcript".into(),
                found: "true".into(),
                expected: "false or nothing: this server keeps tasks in memory only".into(),
            }])
            .into()),
        }
    }
}

fn conflict() -> ApiError {
    ApiError::new(ErrorCode::TaskIdConflict, "another task with other contents has this task_id")
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .any(|it| it.split(';').next().unwrap_or_default().trim() == "text/event-stream")
}

pub(super) async fn read(app: &App, body: Body) -> Result<bytes::Bytes, ApiError> {
    let limit = app.settings.body_bytes;
    let collected = Limited::new(body, limit).collect();
    match tokio::time::timeout(app.settings.body_timeout, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body exceeds {limit} bytes");
            Err(ApiError::new(ErrorCode::PayloadTooLarge, message))
        }
        Ok(Err(error)) => {
            let message = format!("the body broke off: {error}");
            Err(ApiError::new(ErrorCode::InvalidParams, message))
        }
        Err(_) => {
            let ms = app.settings.body_timeout.as_millis();
            let message = format!("the body was not complete within {ms} ms");
            Err(ApiError::new(ErrorCode::InvalidParams, message))
        }
    }
}
