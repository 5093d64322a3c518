//! Requests and answers of the dialects that share a way of looking at them; llama-server's has its
//! own, which allocates nothing.
//!
//! No answer has a `date`: nobody reads it.

use std::future::pending;
use std::ops::Range;

use crate::admin;
use crate::engine::Engine;
use crate::wire::{Gone, Then, Wire};

/// What a request's head says, as far as anything here depends on it.
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// The key of `Authorization: Bearer`.
    pub(crate) bearer: Option<String>,
    /// Whether the body is said to be JSON.
    pub(crate) is_json: bool,
    pub(crate) request_id: Option<String>,
    /// Where the body lies among the request's bytes.
    pub(crate) body: Range<usize>,
}

impl Ask {
    pub(crate) fn of(head: &httparse::Request<'_, '_>) -> Self {
        let target = head.path.unwrap_or("/");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |name: &str| {
            let found = head.headers.iter().find(|it| it.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let content_type = header("content-type").unwrap_or_default();
        Self {
            method: head.method.unwrap_or("").to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            bearer: bearer.map(str::to_owned),
            is_json: content_type.trim_start().starts_with("application/json"),
            request_id: header("x-request-id").map(str::to_owned),
            body: 0..0,
        }
    }

    /// Whether the request has one of the engine's keys, or needs none.
    pub(crate) fn is_authorized(&self, engine: &Engine) -> bool {
        let keys = &engine.args.keys;
        keys.is_empty() || keys.iter().any(|key| self.bearer.as_ref() == Some(key))
    }

    /// The value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// Answers the simulator's own routes, and everything while all hangs; `None` leaves the request to
/// the dialect. `json` is the head of an answer in JSON.
pub(crate) async fn answer_first(
    engine: &Engine,
    wire: &mut Wire,
    ask: &Ask,
) -> Result<Option<Then>, Gone> {
    match (ask.method.as_str(), ask.path.as_str()) {
        ("GET", "/sim/stats") => {
            respond(wire, 200, JSON, admin::stats(engine).as_bytes()).await.map(Some)
        }
        ("POST", "/sim/fault") => {
            match admin::fault(engine, wire.request_bytes(ask.body.clone())) {
                Ok(()) => respond(wire, 200, JSON, b"{}").await.map(Some),
                Err(message) => {
                    let body = serde_json::json!({ "error": message }).to_string();
                    respond(wire, 400, JSON, body.as_bytes()).await.map(Some)
                }
            }
        }
        _ if engine.is_hung() => wire.while_present(pending()).await,
        _ => Ok(None),
    }
}

pub(crate) const JSON: &str = "content-type: application/json\r\n";

/// Sends a whole answer. `lines` are its other header lines, each with its end.
pub(crate) async fn respond(
    wire: &mut Wire,
    status: u16,
    lines: &str,
    body: &[u8],
) -> Result<Then, Gone> {
    let reason = reason(status);
    let length = body.len();
    let head = format!("HTTP/1.1 {status} {reason}\r\n{lines}content-length: {length}\r\n\r\n");
    wire.out.extend_from_slice(head.as_bytes());
    wire.out.extend_from_slice(body);
    wire.flush().await?;
    Ok(Then::KeepOpen)
}

pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Error",
    }
}
