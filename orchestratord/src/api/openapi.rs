//! The OpenAPI documents of this daemon, generated from its types and handlers, and
//! `GET /openapi.json`.
//!
//! A handler's attribute says where it is, what it takes and how it succeeds; `facts.rs` adds its
//! codes, headers and events, `examples.rs` its examples, `http_shell::contract` what all share.

mod examples;
mod facts;

use std::sync::LazyLock;

use api_types::{
    Admission, Disconnected, End, ErrorCode, ErrorEnvelope, Metrics, Preempted, Queued, Resumed,
    Started, TaskRequest, TaskResult, Token,
};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_shell::contract::{Common, complete};
use serde_json::Value;
use utoipa::OpenApi;

use super::{artifacts, fleet, lists, operate, queue, sessions, streams, system, tasks};

const COMMON: Common = Common {
    advised: &[ErrorCode::SessionBusy.as_str()],
    error_schema: "ErrorEnvelope",
    error_example: examples::error,
    refusals: &[
        (401, ErrorCode::Unauthenticated.as_str()),
        (403, ErrorCode::Forbidden.as_str()),
        (405, ErrorCode::MethodNotAllowed.as_str()),
        (431, ErrorCode::HeadersTooLarge.as_str()),
    ],
    requests: &["TaskRequest", "ArtifactRequest", "ChatMessage", "Sampling", "Output", "Placement"],
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "llama-orch data plane",
        description = "Tasks and their streams. Durations are milliseconds and end in `_ms`.",
        version = api_types::API_VERSION,
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        tasks::create, lists::list, tasks::show, tasks::explain, tasks::cancel, streams::read, sessions::show,
        sessions::end, artifacts::store, artifacts::show, fleet::models
    ),
    components(schemas(
        Admission, Disconnected, End, ErrorEnvelope, Metrics, Preempted, Queued, Resumed, Started,
        TaskRequest, TaskResult, Token
    )),
    tags((name = "data", description = "Submit tasks, follow and cancel them."))
)]
struct Data;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "llama-orch control plane",
        description = "What the fleet is and how it fares.",
        version = api_types::API_VERSION,
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        fleet::pools, fleet::pool_health, operate::drain, operate::undrain, operate::reload, fleet::devices,
        fleet::replica_sets, fleet::capabilities, queue::show, system::metrics,
        system::healthz, system::readyz, show
    ),
    components(schemas(ErrorEnvelope)),
    tags((name = "control", description = "Pools, queue, capabilities, health and metrics."))
)]
struct Control;

/// What `contracts/openapi/data.yaml` holds.
///
/// # Panics
/// If a handler lacks facts; the first test that builds the document tells.
#[must_use]
pub fn data() -> Value {
    document(&Data::openapi())
}

/// What `contracts/openapi/control.yaml` holds.
///
/// # Panics
/// As [`data`].
#[must_use]
pub fn control() -> Value {
    document(&Control::openapi())
}

fn document(document: &utoipa::openapi::OpenApi) -> Value {
    let document = serde_json::to_value(document).expect("a document is plain JSON");
    complete(document, &COMMON, facts::of)
}

static MERGED: LazyLock<Bytes> = LazyLock::new(|| {
    let mut merged = Control::openapi();
    merged.info.title = "llama-orch".into();
    merged.info.description = Some("Data plane and control plane of orchestratord.".into());
    merged.merge(Data::openapi());
    document(&merged).to_string().into()
});

/// This document: both planes in one.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "get_openapi", tag = "control",
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Value)),
    extensions(("x-req-id" = json!(["ORCH-3044", "OC-CTRL-2080"]))),
)]
pub(super) async fn show() -> Response {
    ([(CONTENT_TYPE, "application/json")], MERGED.clone()).into_response()
}

#[cfg(test)]
mod tests;
