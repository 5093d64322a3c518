//! `GET /v1/tasks`.

use std::cmp::Reverse;

use api_types::{Priority, TaskList, TaskState};
use axum::Json;
use axum::extract::{Extension, State};
use orchestrator_core::TaskId;
use serde::Deserialize;

use super::App;
use super::error::ApiError;
use super::extract::{Parameters, wrong};
use crate::task::Listed;
use crate::tenants::Tenant;

/// Tasks of a page, and of one that names no limit.
const PAGE_MAX: usize = 100;
const PAGE_DEFAULT: usize = 20;
/// Pages of the journal that are looked through for one answer.
const SCANS_MAX: usize = 20;

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
    let (mut found, end) = collect(&app, &tenant, &filter, before, limit).await?;
    // One more than asked for tells whether there is a next page.
    let next_cursor = if limit < found.len() {
        found.truncate(limit);
        found.last().map(|it| it.number)
    } else {
        end
    };
    Ok(Json(TaskList {
        tasks: found.into_iter().map(|it| it.task).collect(),
        next_cursor: next_cursor.map(|it| format!("{:x}", it.0)),
    }))
}

/// One more than `limit` of the tasks that are asked for, from memory and from the journal. Where
/// that has more than is looked through for one page: the task to go on after.
async fn collect(
    app: &App,
    tenant: &Tenant,
    filter: &Filter,
    before: TaskId,
    limit: usize,
) -> Result<(Vec<Listed>, Option<TaskId>), ApiError> {
    let store = &app.driver.store;
    let mut found = store.list(tenant.id, before, limit + 1, |it| filter.admits(it));
    let Some(archive) = &app.archive else { return Ok((found, None)) };
    let mut at = before;
    let mut end = None;
    for _ in 0..SCANS_MAX {
        let page = archive.list(tenant, filter.session.clone(), at, PAGE_MAX).await?;
        end = page.last().map(|it| it.number);
        let wanted = |it: &Listed| filter.admits(it) && !store.knows(tenant.id, it.number);
        found.extend(page.into_iter().filter(wanted));
        found.sort_by_key(|it| Reverse(it.number));
        let enough = found.get(limit).is_some_and(|it| end.is_none_or(|end| end <= it.number));
        match end {
            Some(end) if !enough => at = end,
            Some(_) | None => break,
        }
    }
    Ok((found, end))
}

impl Filter {
    fn admits(&self, it: &Listed) -> bool {
        self.priority.is_none_or(|priority| priority == it.priority)
            && self.model.as_ref().is_none_or(|model| *model == it.task.model_id)
            && (self.session.is_none() || self.session == it.session)
            && self.state.is_none_or(|state| state == it.task.state)
    }
}
