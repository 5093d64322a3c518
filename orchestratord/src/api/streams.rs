//! `GET /v1/tasks/{id}/stream`, and the stream as the answer to a submission.

use std::sync::Arc;

use api_types::{Admission, Detail, ErrorCode, Queued};
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::error::ApiError;
use super::extract::{Id, Parameters};
use super::{App, tasks};
use crate::stream::frame;
use crate::stream::reader::Reader;
use crate::task::TaskRecord;
use crate::tenants::Tenant;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const TASK_ID: HeaderName = HeaderName::from_static("x-task-id");
/// nginx and its kin would collect tokens otherwise.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    after: Option<String>,
}

/// Follows a task: before, during and after its run, from any event on.
#[utoipa::path(
    get, path = "/v1/tasks/{id}/stream", operation_id = "stream_task", tag = "data",
    params(
        ("id" = Uuid, Path, description = "The task."),
        ("after" = Option<u64>, Query, description = "Only events after this one."),
        ("Last-Event-ID" = Option<u64>, Header, description = "As `after`, and beats it."),
    ),
    responses(
        (status = 200, description = "`queued`, `started`, `token`, then `end` or `error`.",
            body = String,
            content_type = "text/event-stream"),
    ),
    extensions(("x-req-id" = json!([
        "ORCH-2002", "OC-CTRL-2020", "OC-CTRL-2022", "OC-CTRL-2027", "OC-CTRL-2028"
    ]))),
)]
pub(super) async fn read(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
    Id(id): Id,
    Parameters(query): Parameters<After>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let record = tasks::find(&app, &tenant, &id).await?;
    let after = last_seen(&headers, query.after.as_deref())?;
    let last = record.lock().log.last_shown();
    if last < after {
        let message = format!("event {after} is beyond this stream, whose last event is {last}");
        return Err(ApiError::new(ErrorCode::StreamDiverged, message));
    }
    Ok(response(&app, record, after, None))
}

/// The stream whose first event is the whole admission.
pub(super) fn from_start(app: &App, record: Arc<TaskRecord>, admission: &Admission) -> Response {
    let event = Queued::Admitted {
        admission: Box::new(admission.clone()),
        reason: record.lock().waiting_reason(),
    };
    let mut first = Vec::with_capacity(512);
    frame::write(&mut first, None, "queued", &event);
    response(app, record, 0, Some(first.into()))
}

fn response(
    app: &App,
    record: Arc<TaskRecord>,
    after: u64,
    first: Option<bytes::Bytes>,
) -> Response {
    let id = record.id.hyphenated().to_string();
    let subscribers = app.telemetry.subscribers();
    let reader = Reader::new(record, after, first, app.settings.reader, subscribers.clone());
    let mut response = Response::new(Body::new(reader));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.insert(TASK_ID, HeaderValue::try_from(id).expect("a UUID is plain ASCII"));
    response
}

/// The header beats the query, because a browser repeats the original query when it reconnects.
fn last_seen(headers: &HeaderMap, query: Option<&str>) -> Result<u64, ApiError> {
    let (text, pointer) = match (headers.get(LAST_EVENT_ID), query) {
        (Some(value), _) => (value.to_str().unwrap_or("not text"), "Last-Event-ID"),
        (None, Some(text)) => (text, "after"),
        (None, None) => return Ok(0),
    };
    text.parse().map_err(|_| {
        let expected = "the id of an event: a number".to_owned();
        let message = format!("{pointer}: found `{text}`, expected {expected}");
        let detail = Detail { pointer: pointer.into(), found: text.into(), expected };
        ApiError { details: vec![detail], ..ApiError::new(ErrorCode::InvalidParams, message) }
    })
}
