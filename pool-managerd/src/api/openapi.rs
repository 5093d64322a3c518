//! The OpenAPI document of this daemon, generated from its types and handlers, and
//! `GET /openapi.json`.

use std::future::{Ready, ready};
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http_shell::contract::{Common, Facts, Header, complete};
use pool_api::{
    Determinism, Device, DeviceHealth, Engine, ErrorBody, Job, JobList, JobRequest, JobState,
    MemoryNeed, Order, Origin, Pool, Replica, ReplicaState, Residency, Snapshot, WatchEvent,
    Workload,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::OpenApi;

const COMMON: Common = Common {
    advised: &[],
    error_schema: "ErrorBody",
    error_example: refusal,
    refusals: &[(401, "UNAUTHENTICATED"), (403, "FORBIDDEN"), (405, "METHOD_NOT_ALLOWED")],
    requests: &[],
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "llama-orch pool manager",
        description = "What orchestratord and operators ask a manager. Both daemons ship together.",
        version = env!("CARGO_PKG_VERSION"),
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        super::watch, super::pools, super::jobs::put, super::jobs::show, super::jobs::list,
        super::metrics, super::healthz, super::readyz, show
    ),
    components(schemas(ErrorBody, WatchEvent)),
    tags((name = "control", description = "Pools and their replicas."))
)]
struct Document;

/// What `contracts/openapi/pool.yaml` holds.
///
/// # Panics
/// If a handler lacks facts; the first test that builds the document tells.
#[must_use]
pub fn openapi() -> Value {
    complete(json(&Document::openapi()), &COMMON, facts)
}

static TEXT: LazyLock<String> = LazyLock::new(|| openapi().to_string());

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "get_openapi", tag = "control",
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Value)),
    extensions(("x-req-id" = json!(["ORCH-3044", "OC-CTRL-2080"]))),
)]
pub(super) fn show() -> Ready<Response> {
    ready(([(CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response())
}

fn facts(operation: &str) -> Option<Facts> {
    let answering =
        |kind, example| Facts { answers: vec![(200, kind, example)], ..Facts::default() };
    let no_store = Header {
        status: 200,
        name: "Cache-Control",
        description: "A stream is never stored.",
        schema: json!({"const": "no-store"}),
        always: true,
    };
    Some(match operation {
        "watch_pools" => Facts {
            headers: vec![no_store],
            // Events have no `event:` field; what they are stands in their data.
            events: vec![("message", "WatchEvent")],
            ..answering("text/event-stream", frames())
        },
        "put_job" => Facts {
            request: Some(json(&order())),
            answers: vec![(202, "application/json", json(&job()))],
            refusals: vec![
                (400, "INVALID_PARAMS"),
                (404, "NOT_FOUND"),
                (404, "MODEL_NOT_FOUND"),
                (409, "STALE_EPOCH"),
                (409, "JOB_ID_CONFLICT"),
                (415, "UNSUPPORTED_MEDIA_TYPE"),
                (503, "SHUTTING_DOWN"),
                (503, "TOO_MANY_JOBS"),
            ],
            ..Facts::default()
        },
        "get_job" => Facts {
            refusals: vec![(404, "NOT_FOUND")],
            ..answering("application/json", json(&job()))
        },
        "list_jobs" => answering("application/json", json(&JobList { jobs: vec![job()] })),
        "list_pools" => answering("application/json", json(&snapshot())),
        "get_metrics" => answering(
            "text/plain",
            "# TYPE build_info gauge\nbuild_info{version=\"0.1.0\"} 1\n".into(),
        ),
        "get_liveness" => answering("text/plain", "ok\n".into()),
        "get_readiness" => Facts {
            refusals: vec![(503, "POOL_UNREADY")],
            ..answering("text/plain", "ready\n".into())
        },
        "get_openapi" => {
            answering("application/json", json!({"openapi": "3.1.0", "info": {}, "paths": {}}))
        }
        _ => return None,
    })
}

fn refusal(status: u16, code: &str) -> Value {
    json(&ErrorBody {
        code: code.into(),
        message: "What was found, what was expected, and the fix.".into(),
        retriable: status == 503,
        retry_after_ms: (status == 503).then_some(1_000),
        correlation_id: "4f1d2c3b4a596877".into(),
    })
}

fn frames() -> Value {
    let frame = |event: &WatchEvent| format!("data: {}\n\n", json(event));
    let events = [
        WatchEvent::Snapshot(snapshot()),
        WatchEvent::Devices(snapshot().devices),
        WatchEvent::Pool(snapshot().pools.remove(0)),
        WatchEvent::Heartbeat,
    ];
    events.iter().map(frame).collect::<String>().into()
}

fn order() -> JobRequest {
    let order = Order::Load { replica_id: "gpu0-0".into() };
    JobRequest { epoch: 1_763_700_000_000, order }
}

fn job() -> Job {
    Job {
        job_id: "0192d1f0-load-gpu0-0".into(),
        order: order().order,
        state: JobState::Running,
        error: None,
    }
}

fn snapshot() -> Snapshot {
    let replica = Replica {
        replica_id: "gpu0-0".into(),
        model_id: "qwen2.5-0.5b-instruct".into(),
        model_aliases: vec!["small".into()],
        incarnation: 1,
        state: ReplicaState::Ready,
        endpoint: Some("http://127.0.0.1:40001".into()),
        engine_key: None,
        engine_version: Some("b6500".into()),
        model_digest: None,
        slots: 4,
        context_tokens: 4_096,
        chat_template: true,
        last_error: None,
        restarts: 0,
        pid: Some(4_711),
        memory: vec![MemoryNeed { device_id: "nvidia0".into(), bytes: 8_589_934_592 }],
        load_ms: Some(4_200),
        load: None,
    };
    let device = Device {
        device_id: "nvidia0".into(),
        kind: "nvidia".into(),
        name: Some("NVIDIA GeForce RTX 4090".into()),
        uuid: Some("GPU-8f6d3c1e-52b7-4f0a-9c3d-1e2f3a4b5c6d".into()),
        memory_total_bytes: 25_769_803_776,
        memory_usable_bytes: 25_501_368_320,
        health: DeviceHealth::Healthy,
        last_error: None,
    };
    let pool = Pool {
        pool_id: "gpu0".into(),
        engine: Engine::Llamacpp,
        workload: Workload::Completion,
        determinism: Determinism::Unproved {
            reason: "no recipe is proved on GPUs, and it runs on nvidia0".into(),
        },
        origin: Origin::Managed,
        model_id: "qwen2.5-0.5b-instruct".into(),
        devices: vec!["nvidia0".into()],
        spread: 0,
        residency: Residency::OnDemand,
        idle_ttl_ms: None,
        draining: false,
        replicas: vec![replica],
    };
    Snapshot {
        manager_instance: "1f0c9e5a7b3d2468".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        devices: vec![device],
        pools: vec![pool],
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("wire types always serialise")
}

#[cfg(test)]
mod tests;
