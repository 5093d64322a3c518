//! Answers in one piece, and the errors: JSON of the router, plain text of its framework, and
//! nothing at all.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::http::{self, Ask};
use crate::wire::{Gone, Then, Wire};
use crate::{numbering, template};

const CORS: &str = "vary: origin, access-control-request-method, access-control-request-headers\r\naccess-control-allow-origin: *\r\n";

/// Why a request is refused or a generation failed.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn validation(message: &str) -> Self {
        let message = format!("Input validation error: {message}");
        Self { status: 422, kind: "validation", message }
    }

    pub(super) fn overloaded() -> Self {
        Self { status: 429, kind: "overloaded", message: "Model is overloaded".to_owned() }
    }

    pub(super) fn generation() -> Self {
        let message = "Request failed during generation: Server error: transport error";
        Self { status: 424, kind: "generation", message: message.to_owned() }
    }

    pub(super) fn on_demand(status: u16) -> Self {
        let kind = match status {
            422 => "validation",
            429 => "overloaded",
            500 => "incomplete_generation",
            _ => "generation",
        };
        Self { status, kind, message: "failure on demand".to_owned() }
    }

    pub(super) fn body(&self) -> String {
        let message = Value::from(self.message.as_str());
        format!(r#"{{"error":{message},"error_type":"{}"}}"#, self.kind)
    }
}

/// A refusal of the framework, in plain text.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) status: u16,
    pub(super) text: String,
}

/// Parses a body as the framework does. `explain` words an error of the value's shape.
pub(super) fn read<'a, T: Deserialize<'a>>(
    ask: &Ask,
    body: &'a [u8],
    explain: impl Fn(&serde_json::Error) -> String,
) -> Result<T, Unread> {
    if !ask.is_json {
        let text = "Expected request with `Content-Type: application/json`".to_owned();
        return Err(Unread { status: 415, text });
    }
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            let why = explain(&error);
            let text = format!("Failed to deserialize the JSON body into the target type: {why}");
            Unread { status: 422, text }
        } else {
            let text = format!("Failed to parse the request body as JSON: {error}");
            Unread { status: 400, text }
        }
    })
}

pub(super) async fn json(wire: &mut Wire, body: &str) -> Result<Then, Gone> {
    json_with(wire, 200, "", body).await
}

/// JSON with further header lines, each with its end.
pub(super) async fn json_with(
    wire: &mut Wire,
    status: u16,
    lines: &str,
    body: &str,
) -> Result<Then, Gone> {
    let lines = format!("content-type: application/json\r\n{lines}{CORS}");
    http::respond(wire, status, &lines, body.as_bytes()).await
}

pub(super) async fn empty(wire: &mut Wire, status: u16) -> Result<Then, Gone> {
    http::respond(wire, status, CORS, b"").await
}

pub(super) async fn method_not_allowed(wire: &mut Wire, allow: &str) -> Result<Then, Gone> {
    http::respond(wire, 405, &format!("{CORS}allow: {allow}\r\n"), b"").await
}

pub(super) async fn plain(wire: &mut Wire, status: u16, text: &str) -> Result<Then, Gone> {
    let lines = format!("content-type: text/plain; charset=utf-8\r\n{CORS}");
    http::respond(wire, status, &lines, text.as_bytes()).await
}

pub(super) async fn unread(wire: &mut Wire, unread: &Unread) -> Result<Then, Gone> {
    plain(wire, unread.status, &unread.text).await
}

pub(super) async fn refuse(wire: &mut Wire, refusal: &Refusal) -> Result<Then, Gone> {
    json_with(wire, refusal.status, "", &refusal.body()).await
}

pub(super) fn push_stream_head(out: &mut Vec<u8>, characters: usize) {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\nx-compute-type: gpu+optimized\r\nx-compute-characters: {characters}\r\nx-accel-buffering: no\r\n{CORS}transfer-encoding: chunked\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
}

pub(super) async fn health(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    if engine.is_unready() || engine.is_dead() {
        let body = r#"{"error":"unhealthy","error_type":"healthcheck"}"#;
        return json_with(wire, 503, "", body).await;
    }
    empty(wire, 200).await
}

pub(super) async fn info(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    let args = &engine.args;
    let body = json!({
        "model_id": args.model_path, "model_sha": null, "model_pipeline_tag": null,
        "max_concurrent_requests": args.tgi.concurrent_requests_max, "max_best_of": 2,
        "max_stop_sequences": args.tgi.stop_sequences_max,
        "max_input_tokens": args.tgi.input_tokens_max, "max_total_tokens": args.slot_context,
        "validation_workers": 1, "max_client_batch_size": 4, "router": "text-generation-router",
        "version": "3.3.6-dev0", "sha": "db931fcf42da018a3657580c64bf2720f167f9ab",
        "docker_label": null,
    });
    json(wire, &body.to_string()).await
}

pub(super) async fn models(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    let id = &engine.args.model_path;
    let model = json!({ "id": id, "object": "model", "created": 0, "owned_by": id });
    json(wire, &json!({ "object": "list", "data": [model] }).to_string()).await
}

#[derive(Deserialize)]
struct TokenizeBody {
    inputs: String,
}

pub(super) async fn tokenize(wire: &mut Wire, ask: &Ask) -> Result<Then, Gone> {
    let body = wire.request_bytes(ask.body.clone());
    let TokenizeBody { inputs } = match read(ask, body, ToString::to_string) {
        Ok(body) => body,
        Err(refused) => return unread(wire, &refused).await,
    };
    json(wire, &Value::from(tokens("", &inputs)).to_string()).await
}

/// What a text begins with in the model's eyes, spelt out by its template.
const START: &str = "<s>";

#[derive(Deserialize)]
struct ChatBody {
    messages: Vec<template::Message>,
}

/// Recorded: the template's own start of text is the first token, and no other is put before it.
pub(super) async fn chat_tokenize(wire: &mut Wire, ask: &Ask) -> Result<Then, Gone> {
    let body = wire.request_bytes(ask.body.clone());
    let ChatBody { messages } = match read(ask, body, ToString::to_string) {
        Ok(body) => body,
        Err(refused) => return unread(wire, &refused).await,
    };
    let prompt = template::apply(&messages);
    let answer = json!({
        "tokenize_response": tokens(START, &prompt),
        "templated_text": format!("{START}{prompt}"),
    });
    json(wire, &answer.to_string()).await
}

/// The start of text, as `start` spells it, and the tokens of `text` behind it.
fn tokens(start: &str, text: &str) -> Vec<Value> {
    let mut at = start.len();
    let mut tokens = vec![json!({ "id": numbering::BOS, "text": start, "start": 0, "stop": at })];
    for (id, piece) in numbering::ids(text).zip(numbering::pieces(text)) {
        let stop = at + piece.len();
        let piece = String::from_utf8_lossy(piece);
        tokens.push(json!({ "id": id, "text": piece, "start": at, "stop": stop }));
        at = stop;
    }
    tokens
}
