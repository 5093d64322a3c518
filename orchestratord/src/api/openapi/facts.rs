//! What each operation's attribute leaves out: its codes, its headers, the events of its stream.

use api_types::ErrorCode;
use http_shell::contract::{Facts, Header};
use serde_json::{Value, json};

use super::examples;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const STREAM: &str = "text/event-stream";

/// Codes of the `error` event: what can befall a task after it was admitted.
const STREAM_CODES: [ErrorCode; 11] = [
    ErrorCode::InvalidParams,
    ErrorCode::ContextOverflow,
    ErrorCode::AdmissionReject,
    ErrorCode::QueueFullDropLru,
    ErrorCode::PoolUnready,
    ErrorCode::PoolUnavailable,
    ErrorCode::StorageFull,
    ErrorCode::ShuttingDown,
    ErrorCode::DecodeTimeout,
    ErrorCode::WorkerReset,
    ErrorCode::Expired,
];

/// By operation id; `None` for an operation that has no line here.
pub(super) fn of(operation: &str) -> Option<Facts> {
    Some(match operation {
        "submit_task" => submit(),
        "get_task" => Facts {
            answers: vec![(200, JSON, examples::json(&examples::task()))],
            ..refusing(&[ErrorCode::InvalidParams, ErrorCode::NotFound])
        },
        "list_tasks" => Facts {
            answers: vec![(200, JSON, examples::json(&examples::tasks()))],
            ..refusing(&[ErrorCode::InvalidParams])
        },
        "explain_task" => Facts {
            answers: vec![(200, JSON, examples::json(&examples::explanation()))],
            ..refusing(&[ErrorCode::InvalidParams, ErrorCode::NotFound])
        },
        "stream_task" => Facts {
            answers: vec![(200, STREAM, examples::frames(&examples::waiting()))],
            headers: stream_headers(),
            ..streaming(&[ErrorCode::InvalidParams, ErrorCode::NotFound, ErrorCode::StreamDiverged])
        },
        "get_session" => Facts {
            answers: vec![(200, JSON, examples::json(&examples::session()))],
            ..refusing(&[ErrorCode::InvalidParams, ErrorCode::NotFound])
        },
        "end_session" => refusing(&[
            ErrorCode::InvalidParams,
            ErrorCode::NotFound,
            ErrorCode::UnsupportedMediaType,
            ErrorCode::StorageFull,
        ]),
        "store_artifact" => store_artifact(),
        "get_artifact" => Facts {
            answers: vec![(200, JSON, examples::json(&examples::artifact(true)))],
            headers: [200, 304].into_iter().flat_map(validators).collect(),
            ..refusing(&[ErrorCode::InvalidParams, ErrorCode::NotFound, ErrorCode::Internal])
        },
        "cancel_task" => refusing(&[
            ErrorCode::InvalidParams,
            ErrorCode::NotFound,
            ErrorCode::UnsupportedMediaType,
        ]),
        "list_models" => answering(examples::json(&examples::models())),
        "list_pools" => answering(examples::json(&examples::pools())),
        "get_pool_health" => Facts {
            refusals: codes(&[ErrorCode::InvalidParams, ErrorCode::NotFound]),
            ..answering(examples::json(&examples::health()))
        },
        "list_devices" => answering(examples::json(&examples::devices())),
        "list_replica_sets" => answering(examples::json(&examples::replica_sets())),
        "get_capabilities" => answering(examples::json(&examples::capabilities())),
        "get_queue" => answering(examples::json(&examples::queue())),
        "get_metrics" => text(examples::METRICS),
        "get_liveness" => text("ok\n"),
        "get_readiness" => Facts {
            answers: [(200, true), (503, false)]
                .map(|(status, ready)| (status, JSON, examples::json(&examples::readiness(ready))))
                .into(),
            ..Facts::default()
        },
        "get_openapi" => answering(json!({"openapi": "3.1.0", "info": {}, "paths": {}})),
        _ => return orders(operation),
    })
}

/// What operators order.
fn orders(operation: &str) -> Option<Facts> {
    Some(match operation {
        "drain_pool" => Facts {
            refusals: codes(&[
                ErrorCode::InvalidParams,
                ErrorCode::NotFound,
                ErrorCode::UnsupportedMediaType,
                ErrorCode::PayloadTooLarge,
                ErrorCode::PoolUnavailable,
            ]),
            request: Some(examples::json(&api_types::DrainRequest { deadline_ms: 60_000 })),
            answers: vec![(202, JSON, examples::json(&examples::drain(true)))],
            ..Facts::default()
        },
        "reload_pool" => Facts {
            refusals: codes(&[
                ErrorCode::InvalidParams,
                ErrorCode::NotFound,
                ErrorCode::ModelNotFound,
                ErrorCode::UnsupportedMediaType,
                ErrorCode::PayloadTooLarge,
                ErrorCode::PoolUnavailable,
            ]),
            request: Some(examples::json(&examples::reload())),
            answers: vec![(202, JSON, examples::json(&examples::reloading()))],
            ..Facts::default()
        },
        "undrain_pool" => Facts {
            refusals: codes(&[
                ErrorCode::InvalidParams,
                ErrorCode::NotFound,
                ErrorCode::PoolUnavailable,
            ]),
            answers: vec![(202, JSON, examples::json(&examples::drain(false)))],
            ..Facts::default()
        },
        _ => return None,
    })
}

fn submit() -> Facts {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer", "minimum": 0});
    let header = |status, name, description, schema: &Value| Header {
        status,
        name,
        description,
        schema: schema.clone(),
        always: !name.starts_with("X-Budget-"),
    };
    let both = |status| {
        [
            header(status, "Location", "The task: `/v1/tasks/{id}`.", &text),
            header(status, "X-Queue-Position", "As `queue_position`.", &number),
            header(status, "X-Queue-ETA-Ms", "As `predicted_start_ms`.", &number),
            header(
                status,
                "X-Budget-Time-Remaining-Ms",
                "Until the task's deadline, or what its session may still run if that is less (not for a \
                 task that was submitted before); absent without a limit.",
                &number,
            ),
            header(
                status,
                "X-Budget-Tokens-Remaining",
                "Tokens that the session may still use, or the tenant in this minute if that is less; \
                 absent without a limit and for a task that was submitted before.",
                &number,
            ),
            header(
                status,
                "X-Budget-Cost-Remaining",
                "What the session may still cost; absent without a limit and for a task that was \
                 submitted before.",
                &number,
            ),
        ]
    };
    Facts {
        request: Some(examples::request()),
        answers: vec![
            (202, JSON, examples::json(&examples::admission())),
            (200, STREAM, examples::frames(&examples::admitted())),
        ],
        headers: both(200).into_iter().chain(both(202)).chain(stream_headers()).collect(),
        ..streaming(&[
            ErrorCode::InvalidParams,
            ErrorCode::ModelNotFound,
            ErrorCode::TaskIdConflict,
            ErrorCode::SessionBusy,
            ErrorCode::PayloadTooLarge,
            ErrorCode::UnsupportedMediaType,
            ErrorCode::ContextOverflow,
            ErrorCode::DeterminismUnavailable,
            ErrorCode::DeadlineUnmet,
            ErrorCode::AdmissionReject,
            ErrorCode::PoolUnavailable,
            ErrorCode::ReplicaExhausted,
            ErrorCode::StorageFull,
            ErrorCode::ShuttingDown,
            ErrorCode::Internal,
        ])
    }
}

fn store_artifact() -> Facts {
    let text = json!({"type": "string"});
    let headers = [200, 201].into_iter().flat_map(|status| {
        let header = |name, description| Header {
            status,
            name,
            description,
            schema: text.clone(),
            always: true,
        };
        [header("Location", "The artifact: `/v1/artifacts/{id}`."), header("ETag", ETAG)]
    });
    Facts {
        request: Some(examples::json(&examples::artifact_request())),
        answers: [201, 200]
            .map(|status| (status, JSON, examples::json(&examples::artifact(false))))
            .into(),
        headers: headers.collect(),
        ..refusing(&[
            ErrorCode::InvalidParams,
            ErrorCode::PayloadTooLarge,
            ErrorCode::UnsupportedMediaType,
            ErrorCode::AdmissionReject,
            ErrorCode::StorageFull,
        ])
    }
}

const ETAG: &str = "The `artifact_id` in quotes.";

fn validators(status: u16) -> [Header; 2] {
    let header =
        |name, description, schema| Header { status, name, description, schema, always: true };
    [
        header("ETag", ETAG, json!({"type": "string"})),
        header(
            "Cache-Control",
            "No cache keeps it for others.",
            json!({"const": "private, no-cache"}),
        ),
    ]
}

fn stream_headers() -> Vec<Header> {
    let header =
        |name, description, schema| Header { status: 200, name, description, schema, always: true };
    vec![
        header("Cache-Control", "A stream is never stored.", json!({"const": "no-store"})),
        header("X-Accel-Buffering", "Proxies pass each event on.", json!({"const": "no"})),
        header("X-Task-Id", "The task.", json!({"type": "string", "format": "uuid"})),
    ]
}

fn streaming(refusals: &[ErrorCode]) -> Facts {
    Facts {
        events: vec![
            ("queued", "Queued"),
            ("started", "Started"),
            ("token", "Token"),
            ("result", "TaskResult"),
            ("metrics", "Metrics"),
            ("preempted", "Preempted"),
            ("resumed", "Resumed"),
            ("end", "End"),
            ("error", "ErrorEnvelope"),
            ("disconnected", "Disconnected"),
        ],
        event_codes: STREAM_CODES.map(ErrorCode::as_str).into(),
        ..refusing(refusals)
    }
}

fn refusing(refusals: &[ErrorCode]) -> Facts {
    Facts { refusals: codes(refusals), ..Facts::default() }
}

fn answering(example: Value) -> Facts {
    Facts { answers: vec![(200, JSON, example)], ..Facts::default() }
}

fn text(example: &str) -> Facts {
    Facts { answers: vec![(200, TEXT, example.into())], ..Facts::default() }
}

fn codes(codes: &[ErrorCode]) -> Vec<(u16, &'static str)> {
    codes.iter().map(|it| (it.status(), it.as_str())).collect()
}
