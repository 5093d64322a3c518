//! Routes of the development mode: sleep, pause, abort.

use serde::Deserialize;
use serde_json::json;

use super::answers;
use crate::engine::Engine;
use crate::http::Ask;
use crate::live::Reason;
use crate::wire::{Gone, Then, Wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Sleep,
    WakeUp,
    IsSleeping,
    IsPaused,
    Abort,
    ServerInfo,
    ResetPrefixCache,
}

pub(super) fn route_of(path: &str) -> Option<(Route, &'static [&'static str])> {
    Some(match path {
        "/sleep" => (Route::Sleep, &["POST"]),
        "/wake_up" => (Route::WakeUp, &["POST"]),
        "/is_sleeping" => (Route::IsSleeping, &["GET"]),
        "/is_paused" => (Route::IsPaused, &["GET"]),
        "/abort_requests" => (Route::Abort, &["POST"]),
        "/server_info" => (Route::ServerInfo, &["GET"]),
        "/reset_prefix_cache" => (Route::ResetPrefixCache, &["POST"]),
        _ => return None,
    })
}

pub(super) async fn answer(
    engine: &Engine,
    wire: &mut Wire,
    ask: &Ask,
    route: Route,
) -> Result<Then, Gone> {
    match route {
        Route::Sleep => sleep(engine, wire, ask).await,
        Route::WakeUp => {
            engine.sleep_level.send_replace(0);
            answers::json(wire, r#"{"status":"awake","tags":null}"#).await
        }
        Route::IsSleeping => {
            let body = json!({ "is_sleeping": engine.is_asleep() });
            answers::json(wire, &body.to_string()).await
        }
        Route::IsPaused => {
            let body = json!({ "is_paused": engine.is_asleep() });
            answers::json(wire, &body.to_string()).await
        }
        Route::Abort => abort(engine, wire, ask).await,
        Route::ServerInfo => {
            let body = json!({ "vllm_config": {
                "model_config": { "model": engine.args.model_path },
                "scheduler_config": { "max_num_seqs": engine.args.slot_count },
            } });
            answers::json(wire, &body.to_string()).await
        }
        Route::ResetPrefixCache => answers::empty(wire, 200).await,
    }
}

/// Recorded: what runs ends with `abort`, unless the mode says to keep it.
async fn sleep(engine: &Engine, wire: &mut Wire, ask: &Ask) -> Result<Then, Gone> {
    let level = ask.parameter("level").and_then(|level| level.parse().ok()).unwrap_or(1_u32);
    engine.sleep_level.send_replace(level.max(1));
    if matches!(ask.parameter("mode"), None | Some("abort")) {
        engine.live.interrupt(Reason::Abort, |_| true);
    }
    let body = format!(r#"{{"status":"sleeping","level":{level}}}"#);
    answers::json(wire, &body).await
}

#[derive(Deserialize, Default)]
struct AbortBody {
    #[serde(default)]
    request_ids: Vec<String>,
}

async fn abort(engine: &Engine, wire: &mut Wire, ask: &Ask) -> Result<Then, Gone> {
    let body = wire.request_bytes(ask.body.clone());
    let AbortBody { request_ids } = serde_json::from_slice(body).unwrap_or_default();
    // As with the real engine, an empty list is everybody.
    let picks = |id: &str| request_ids.is_empty() || request_ids.iter().any(|it| it == id);
    let aborted = engine.live.interrupt(Reason::Abort, picks);
    let body = format!(r#"{{"status":"aborted","aborted":{aborted}}}"#);
    answers::json(wire, &body).await
}
