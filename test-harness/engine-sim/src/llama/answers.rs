//! Every answer that is one JSON or text body, and the errors.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use serde::Deserialize;
use serde_json::{Value, json};

use super::frames;
use crate::decimal::push_decimal;
use crate::engine::Engine;
use crate::http::reason;
use crate::numbering;
use crate::template::{self, Message};
use crate::wire::{Gone, Then, Wire};

const HEAD: &[u8] = b"Server: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n";
const JSON: &[u8] = b"Content-Type: application/json; charset=utf-8\r\n";

pub(super) async fn json(wire: &mut Wire, body: &[u8]) -> Result<Then, Gone> {
    wire.out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    wire.out.extend_from_slice(HEAD);
    wire.out.extend_from_slice(JSON);
    finish(wire, body, b"Keep-Alive: timeout=5, max=100\r\n").await?;
    Ok(Then::KeepOpen)
}

async fn finish(wire: &mut Wire, body: &[u8], connection: &[u8]) -> Result<(), Gone> {
    wire.out.extend_from_slice(b"Content-Length: ");
    push_decimal(&mut wire.out, body.len() as u64);
    wire.out.extend_from_slice(b"\r\n");
    wire.out.extend_from_slice(connection);
    wire.out.extend_from_slice(b"\r\n");
    wire.out.extend_from_slice(body);
    wire.flush().await
}

/// Recorded: every error closes the connection.
async fn error(wire: &mut Wire, status: u16, body: &str) -> Result<Then, Gone> {
    let line = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    wire.out.extend_from_slice(line.as_bytes());
    wire.out.extend_from_slice(HEAD);
    wire.out.extend_from_slice(JSON);
    finish(wire, body.as_bytes(), b"Connection: close\r\n").await?;
    Ok(Then::Close)
}

fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        501 => "not_supported_error",
        503 => "unavailable_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// An error of the request handlers: keys in the order code, message, type.
pub(super) async fn refuse(wire: &mut Wire, status: u16, message: &str) -> Result<Then, Gone> {
    let message = Value::from(message);
    let kind = error_type(status);
    let body = format!(r#"{{"error":{{"code":{status},"message":{message},"type":"{kind}"}}}}"#);
    error(wire, status, &body).await
}

pub(super) async fn bad_request(wire: &mut Wire, message: &str) -> Result<Then, Gone> {
    refuse(wire, 400, message).await
}

/// An error of the middleware: keys in the order message, type, code.
async fn early(wire: &mut Wire, status: u16, message: &str) -> Result<Then, Gone> {
    let kind = error_type(status);
    let body = format!(r#"{{"error":{{"message":"{message}","type":"{kind}","code":{status}}}}}"#);
    error(wire, status, &body).await
}

pub(super) async fn loading(wire: &mut Wire) -> Result<Then, Gone> {
    early(wire, 503, "Loading model").await
}

pub(super) async fn unauthorized(wire: &mut Wire) -> Result<Then, Gone> {
    early(wire, 401, "Invalid API Key").await
}

pub(super) async fn not_found(wire: &mut Wire) -> Result<Then, Gone> {
    early(wire, 404, "File Not Found").await
}

pub(super) async fn overflow(wire: &mut Wire, tokens: u32, context: u32) -> Result<Then, Gone> {
    let body = format!(
        r#"{{"error":{{"code":400,"message":"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":{tokens},"n_ctx":{context}}}}}"#
    );
    error(wire, 400, &body).await
}

const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

pub(super) async fn props(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    let args = &engine.args;
    let mut params = Vec::new();
    frames::push_settings(&mut params, &frames::Settings::default());
    let params: Value = serde_json::from_slice(&params).expect("the settings are JSON");
    let body = json!({
        "default_generation_settings": { "params": params, "n_ctx": args.slot_context },
        "total_slots": args.slot_count,
        "model_alias": args.alias,
        "model_ftype": "F16",
        "model_path": args.model_path,
        "modalities": { "vision": false, "video": false, "audio": false },
        "endpoint_slots": args.llama.slots,
        "endpoint_props": false,
        "endpoint_metrics": args.llama.metrics,
        "chat_template": CHAT_TEMPLATE,
        "chat_template_caps": { "supports_string_content": true, "supports_system_role": true },
        "bos_token": "<s>",
        "eos_token": "<|end|>",
        "build_info": "b1-0c1e570",
        "is_sleeping": false,
        "cors_proxy_enabled": false,
    });
    json(wire, body.to_string().as_bytes()).await
}

pub(super) async fn slots(
    engine: &Engine,
    wire: &mut Wire,
    fail_on_no_slot: bool,
) -> Result<Then, Gone> {
    if !engine.args.llama.slots {
        let message = "This server does not support slots endpoint. Start it with `--slots`";
        return refuse(wire, 501, message).await;
    }
    if fail_on_no_slot && engine.slots.busy() == engine.slots.table().len() {
        return refuse(wire, 503, "no slot available").await;
    }
    let mut body = String::from("[");
    for (id, slot) in engine.slots.table().iter().enumerate() {
        let busy = slot.busy.load(Relaxed);
        let comma = if id == 0 { "" } else { "," };
        let n_ctx = engine.args.slot_context;
        let _ = write!(
            body,
            r#"{comma}{{"id":{id},"n_ctx":{n_ctx},"speculative":false,"is_processing":{busy}"#
        );
        let task = slot.task.load(Relaxed);
        if task != 0 {
            let prompt = slot.prompt_tokens.load(Relaxed);
            let decoded = slot.decoded.load(Relaxed);
            let remaining = i64::from(slot.tokens_max.load(Relaxed)) - i64::from(decoded);
            let _ = write!(
                body,
                r#","id_task":{task},"n_prompt_tokens":{prompt},"n_prompt_tokens_processed":{prompt},"n_prompt_tokens_cache":0,"params":{{}},"next_token":[{{"has_next_token":{busy},"has_new_line":false,"n_remain":{remaining},"n_decoded":{decoded}}}]"#
            );
        }
        body.push('}');
    }
    body.push(']');
    json(wire, body.as_bytes()).await
}

pub(super) async fn models(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    let alias = &engine.args.alias;
    let body = json!({
        "models": [{ "name": alias, "model": alias, "type": "model", "capabilities": ["completion"] }],
        "object": "list",
        "data": [{
            "id": alias, "aliases": [alias], "tags": [], "object": "model",
            "created": engine.started_unix_s, "owned_by": "llamacpp",
            "meta": {
                "vocab_type": 2, "n_vocab": numbering::VOCABULARY, "n_ctx": engine.args.slot_context,
                "n_ctx_train": engine.args.slot_context, "n_embd": 256, "n_params": 2_590_464,
                "size": 5_184_512, "ftype": "F16",
            },
        }],
    });
    json(wire, body.to_string().as_bytes()).await
}

pub(super) async fn metrics(engine: &Engine, wire: &mut Wire) -> Result<Then, Gone> {
    if !engine.args.llama.metrics {
        let message = "This server does not support metrics endpoint. Start it with `--metrics`";
        return refuse(wire, 501, message).await;
    }
    let stats = &engine.stats;
    let tokens = stats.tokens_sent.load(Relaxed);
    let mut body = String::new();
    for (name, kind, value) in [
        ("prompt_tokens_total", "counter", stats.prompt_tokens.load(Relaxed)),
        ("prompt_tokens_cached_total", "counter", 0),
        ("tokens_predicted_total", "counter", tokens),
        ("n_decode_total", "counter", tokens),
        ("requests_processing", "gauge", engine.slots.busy() as u64),
        ("requests_deferred", "gauge", u64::from(engine.slots.deferred())),
    ] {
        let _ = writeln!(body, "# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}");
    }
    wire.out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    wire.out.extend_from_slice(HEAD);
    let start = format!("Process-Start-Time-Unix: {}\r\n", engine.started_unix_s);
    wire.out.extend_from_slice(start.as_bytes());
    wire.out.extend_from_slice(b"Content-Type: text/plain; version=0.0.4\r\n");
    finish(wire, body.as_bytes(), b"Keep-Alive: timeout=5, max=100\r\n").await?;
    Ok(Then::KeepOpen)
}

#[derive(Deserialize)]
struct TokenizeBody {
    content: String,
    #[serde(default)]
    add_special: bool,
    #[serde(default)]
    with_pieces: bool,
}

pub(super) async fn tokenize(wire: &mut Wire, body: Range<usize>) -> Result<Then, Gone> {
    let ask: TokenizeBody = match serde_json::from_slice(wire.request_bytes(body)) {
        Ok(ask) => ask,
        Err(error) => return bad_request(wire, &error.to_string()).await,
    };
    let special = ask.add_special.then_some(numbering::BOS);
    let ids = special.into_iter().chain(numbering::ids(&ask.content));
    let tokens: Vec<Value> = if ask.with_pieces {
        ids.map(|id| json!({ "id": id, "piece": "?" })).collect()
    } else {
        ids.map(Value::from).collect()
    };
    json(wire, json!({ "tokens": tokens }).to_string().as_bytes()).await
}

#[derive(Deserialize)]
struct DetokenizeBody {
    tokens: Vec<u64>,
}

pub(super) async fn detokenize(wire: &mut Wire, body: Range<usize>) -> Result<Then, Gone> {
    let ask: DetokenizeBody = match serde_json::from_slice(wire.request_bytes(body)) {
        Ok(ask) => ask,
        Err(error) => return bad_request(wire, &error.to_string()).await,
    };
    let content = numbering::text_of(&ask.tokens);
    json(wire, json!({ "content": content }).to_string().as_bytes()).await
}

#[derive(Deserialize)]
struct TemplateBody {
    messages: Vec<Message>,
}

pub(super) async fn apply_template(wire: &mut Wire, body: Range<usize>) -> Result<Then, Gone> {
    let ask: TemplateBody = match serde_json::from_slice(wire.request_bytes(body)) {
        Ok(ask) => ask,
        Err(error) => return bad_request(wire, &error.to_string()).await,
    };
    let prompt = template::apply(&ask.messages);
    json(wire, json!({ "prompt": prompt }).to_string().as_bytes()).await
}
