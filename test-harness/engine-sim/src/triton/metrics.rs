//! The metrics, which have a port of their own.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::MODEL_VERSION;
use crate::args::Backend;
use crate::engine::Engine;
use crate::http::{self, Ask};
use crate::wire::{Then, Wire};

/// Answers on `listener` for as long as it is polled.
pub(crate) async fn serve(engine: Arc<Engine>, listener: TcpListener) {
    let connections = TaskTracker::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(converse(Arc::clone(&engine), Wire::new(stream)));
            }
            // Out of descriptors, or the peer left the backlog: neither ends the engine.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn converse(engine: Arc<Engine>, mut wire: Wire) {
    while let Ok(request) = wire.read_request(Ask::of).await {
        let is_known = request.head.method == "GET" && request.head.path == "/metrics";
        let (status, body) = if is_known { (200, text(&engine)) } else { (404, String::new()) };
        let lines = "Content-Type: text/plain; charset=utf-8\r\n";
        let answered = http::respond(&mut wire, status, lines, body.as_bytes()).await;
        if request.last || !matches!(answered, Ok(Then::KeepOpen)) {
            return;
        }
    }
}

fn text(engine: &Engine) -> String {
    let stats = &engine.stats;
    let model = &engine.args.alias;
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, label: &str, value: u64| {
        let _ = writeln!(
            out,
            "# TYPE {name} {kind}\n{name}{{model=\"{model}\",{label}version=\"{MODEL_VERSION}\"}} {value}"
        );
    };
    // Recorded: a decoupled model's errors and cancels count as success.
    let ended = stats.finished.load(Relaxed) + stats.disconnects_seen.load(Relaxed);
    metric("nv_inference_request_success", "counter", "", ended);
    metric("nv_inference_request_failure", "counter", "reason=\"OTHER\",", 0);
    metric("nv_inference_count", "counter", "", ended);
    metric("nv_inference_exec_count", "counter", "", ended);
    metric("nv_inference_pending_request_count", "gauge", "", engine.slots.deferred().into());
    if engine.args.triton.backend == Backend::Vllm {
        metric("vllm:prompt_tokens_total", "counter", "", stats.prompt_tokens.load(Relaxed));
        metric("vllm:generation_tokens_total", "counter", "", stats.tokens_sent.load(Relaxed));
    }
    if matches!(engine.args.triton.backend, Backend::TrtLlm | Backend::Ensemble) {
        let requests = "nv_trt_llm_request_metrics";
        let (active, waiting) = (engine.slots.busy() as u64, engine.slots.deferred());
        metric(requests, "gauge", "request_type=\"active\",", active);
        metric(requests, "gauge", "request_type=\"waiting\",", waiting.into());
        metric(requests, "gauge", "request_type=\"max\",", engine.args.slot_count.into());
    }
    out
}
