//! Answers in one piece, and errors before inference.

use serde_json::Value;

use crate::http;
use crate::wire::{Gone, Then, Wire};

const JSON: &str = "Content-Type: application/json\r\n";

/// Why a request does not get to the model.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

pub(super) fn error_body(message: &str) -> String {
    format!(r#"{{"error":{}}}"#, Value::from(message))
}

pub(super) async fn error(wire: &mut Wire, status: u16, message: &str) -> Result<Then, Gone> {
    http::respond(wire, status, JSON, error_body(message).as_bytes()).await
}

pub(super) async fn json(wire: &mut Wire, body: &str) -> Result<Then, Gone> {
    http::respond(wire, 200, JSON, body.as_bytes()).await
}

pub(super) async fn empty(wire: &mut Wire, status: u16) -> Result<Then, Gone> {
    http::respond(wire, status, "Content-Type: text/plain\r\n", b"").await
}
