//! Answers that are one JSON body, and the three shapes of errors.

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::http;
use crate::wire::{Gone, Then, Wire};

const JSON: &str = "server: uvicorn\r\ncontent-type: application/json\r\nvary: Origin\r\n";

/// What a dead engine says, recorded from streams and requests alike.
pub(super) const DEAD: &str =
    "EngineCore encountered an issue. See stack trace (above) for the root cause.";

/// An error with a code: why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) param: Option<String>,
    pub(super) message: String,
}

impl Refusal {
    /// A value that sampling does not take.
    pub(super) fn value(param: &str, value: &dyn std::fmt::Display, why: &str) -> Self {
        Self {
            status: 400,
            kind: "BadRequestError",
            param: Some(param.to_owned()),
            message: format!("{why} (parameter={param}, value={value})"),
        }
    }

    pub(super) fn bad_request(message: String) -> Self {
        Self { status: 400, kind: "BadRequestError", param: None, message }
    }

    /// A body that does not validate. `what` describes the error as pydantic does.
    pub(super) fn validation(param: Option<&str>, what: &str) -> Self {
        Self {
            status: 400,
            kind: "Bad Request",
            param: param.map(str::to_owned),
            message: format!("1 validation error:\n  {what}"),
        }
    }
}

pub(super) async fn json(wire: &mut Wire, body: &str) -> Result<Then, Gone> {
    http::respond(wire, 200, JSON, body.as_bytes()).await
}

pub(super) async fn text(wire: &mut Wire, body: &str) -> Result<Then, Gone> {
    let lines = "server: uvicorn\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    http::respond(wire, 200, lines, body.as_bytes()).await
}

pub(super) async fn empty(wire: &mut Wire, status: u16) -> Result<Then, Gone> {
    http::respond(wire, status, "server: uvicorn\r\nvary: Origin\r\n", b"").await
}

pub(super) async fn refuse(wire: &mut Wire, refusal: &Refusal) -> Result<Then, Gone> {
    let Refusal { status, kind, param, message } = refusal;
    let (message, param) = (Value::from(message.as_str()), Value::from(param.clone()));
    let body = format!(
        r#"{{"error":{{"message":{message},"type":"{kind}","param":{param},"code":{status}}}}}"#
    );
    http::respond(wire, *status, JSON, body.as_bytes()).await
}

/// An error of the framework.
pub(super) async fn detail(wire: &mut Wire, status: u16, text: &str) -> Result<Then, Gone> {
    let body = format!(r#"{{"detail":"{text}"}}"#);
    http::respond(wire, status, JSON, body.as_bytes()).await
}

pub(super) async fn method_not_allowed(wire: &mut Wire, allow: &str) -> Result<Then, Gone> {
    let lines = format!(
        "server: uvicorn\r\nallow: {allow}\r\ncontent-type: application/json\r\nvary: Origin\r\n"
    );
    http::respond(wire, 405, &lines, br#"{"detail":"Method Not Allowed"}"#).await
}

/// An error of the middleware, whose `error` is a string.
pub(super) async fn unauthorized(wire: &mut Wire) -> Result<Then, Gone> {
    let lines = "server: uvicorn\r\ncontent-type: application/json\r\n";
    http::respond(wire, 401, lines, br#"{"error":"Unauthorized"}"#).await
}

/// The queue is full.
pub(super) async fn busy(wire: &mut Wire) -> Result<Then, Gone> {
    let message = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance.";
    refuse(
        wire,
        &Refusal {
            status: 503,
            kind: "Service Unavailable",
            param: None,
            message: message.to_owned(),
        },
    )
    .await
}

pub(super) async fn dead(wire: &mut Wire) -> Result<Then, Gone> {
    failed(wire, 500, DEAD).await
}

/// A failure that is not the request's fault.
pub(super) async fn failed(wire: &mut Wire, status: u16, message: &str) -> Result<Then, Gone> {
    let kind = match status {
        400 => "BadRequestError",
        404 => "NotFoundError",
        503 => "ServiceUnavailableError",
        _ => "InternalServerError",
    };
    refuse(wire, &Refusal { status, kind, param: None, message: message.to_owned() }).await
}

pub(super) async fn health(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    if engine.faults.health_hangs.load(std::sync::atomic::Ordering::Relaxed) {
        return wire.while_present(std::future::pending()).await;
    }
    empty(wire, if engine.is_dead() || engine.is_unready() { 503 } else { 200 }).await
}

pub(super) async fn models(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    let args = &engine.args;
    let permission = json!({
        "id": "modelperm-987ce341c4a3c073", "object": "model_permission",
        "created": engine.started_unix_s, "allow_create_engine": false, "allow_sampling": true,
        "allow_logprobs": true, "allow_search_indices": false, "allow_view": true,
        "allow_fine_tuning": false, "organization": "*", "group": null, "is_blocking": false,
    });
    let body = json!({
        "object": "list",
        "data": [{
            "id": args.alias, "object": "model", "created": engine.started_unix_s,
            "owned_by": "vllm", "root": args.model_path, "parent": null,
            "max_model_len": args.slot_context, "permission": [permission],
        }],
    });
    json(wire, &body.to_string()).await
}
