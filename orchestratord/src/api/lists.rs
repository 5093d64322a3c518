//! `GET /v1/tasks`.

use api_types::{Priority, Task, TaskList, TaskState};
use axum::Json;
use axum::extract::{Extension, State};
use orchestrator_core::TaskId;
use serde::Deserialize;

use super::App;
use super::error::ApiError;
use super::extract::{Parameters, wrong};
use crate::task::TaskRecord;
use crate::tenants::Tenant;

/// Tasks of a page, and of one that names no limit.
const PAGE_MAX: usize = 100;
const PAGE_DEFAULT: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    state: Option<TaskState>,
    priority: Option<Priority>,
    /// The model's id.
    model: Option<String>,
    session: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// The caller's tasks, newest first.
#[utoipa::path(
    get, path = "/v1/tasks", operation_id = "list_tasks", tag = "data",
    params(
        ("state" = Option<TaskState>, Query, description = "Only these."),
        ("priority" = Option<Priority>, Query, description = "Only these."),
        ("model" = Option<String>, Query, description = "Only this model's, by its id."),
        ("session" = Option<String>, Query, description = "Only this session's."),
        ("cursor" = Option<String>, Query, description = "Goes on after a page: its `next_cursor`."),
        ("limit" = Option<u32>, Query, description = "1 to 100; left out: 20."),
    ),
    responses((status = 200, description = "Without their texts.", body = TaskList)),
    extensions(("x-req-id" = json!(["ORCH-2001", "ORCH-3076"]))),
)]
pub(super) async fn list(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<TaskList>, ApiError> {
    let limit = match &filter.limit {
        None => PAGE_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|it| (1..=PAGE_MAX).contains(it))
            .ok_or_else(|| wrong("limit", text, "1 to 100"))?,
    };
    let before = match &filter.cursor {
        None => TaskId(u64::MAX),
        Some(cursor) => u64::from_str_radix(cursor, 16)
            .map(TaskId)
            .map_err(|_| wrong("cursor", cursor, "the `next_cursor` of a page"))?,
    };
    // One more than asked for tells whether there is a next page.
    let wanted = |it: &TaskRecord| filter.admits(it);
    let mut records = app.driver.store.list(tenant.id, before, limit + 1, wanted);
    let more = limit < records.len();
    records.truncate(limit);
    let next_cursor = records.last().filter(|_| more).map(|it| format!("{:x}", it.core_id.0));
    let tasks = records.iter().map(|it| Task { text: None, ..it.view() }).collect();
    Ok(Json(TaskList { tasks, next_cursor }))
}

impl Filter {
    fn admits(&self, record: &TaskRecord) -> bool {
        let job = &record.job;
        self.priority.is_none_or(|it| it == job.priority())
            && self.model.as_ref().is_none_or(|it| *it == job.model_name)
            && (self.session.is_none() || self.session == job.canonical.session_id)
            && self.state.is_none_or(|it| it == record.lock().progress.state.wire())
    }
}
