//! Follows one pool manager's `GET /v1/watch`, for ever.

use std::time::Duration;

use adapter_api::{EngineBody, EngineError, EngineHttp, SseDecoder, SseEvent};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use pool_api::{HEARTBEAT_MS, WatchEvent};
use tokio::time::{Instant, sleep, timeout};

use super::FleetChange;
use crate::driver::{Command, Handle};

/// Three heartbeats: past this a manager that says nothing is gone.
const SILENCE_MAX: Duration = Duration::from_millis(3 * HEARTBEAT_MS);
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// Sends what the manager tells, and that it is silent, to the driver. Cancelled by dropping.
pub(crate) async fn follow(manager: usize, url: String, token: Option<String>, handle: Handle) {
    let http = EngineHttp::new(&url, token.as_deref());
    let mut heard = Instant::now();
    let mut lost = false;
    let mut pause = RECONNECT_FIRST;
    loop {
        match connect(&http).await {
            Ok(body) => {
                tracing::info!(url, "following pool manager");
                let before = Instant::now();
                let cause = listen(manager, body, &handle, &mut heard).await;
                tracing::warn!(url, cause, "pool manager's stream ended");
                handle.send(Command::Fleet(FleetChange::Interrupted { manager })).await;
                if before < heard {
                    lost = false;
                    pause = RECONNECT_FIRST;
                }
            }
            Err(error) => tracing::debug!(url, %error, "pool manager does not answer"),
        }
        if !lost && SILENCE_MAX <= heard.elapsed() {
            lost = true;
            tracing::warn!(url, "pool manager is lost");
            handle.send(Command::Fleet(FleetChange::Lost { manager })).await;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RECONNECT_MAX);
    }
}

async fn connect(http: &EngineHttp) -> Result<EngineBody, EngineError> {
    let limit_ms = 3 * HEARTBEAT_MS;
    let answer = timeout(SILENCE_MAX, http.stream(Method::GET, "/v1/watch", None, None)).await;
    let (status, body) = answer.unwrap_or(Err(EngineError::Timeout { limit_ms }))?;
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::UNAUTHORIZED => {
            tracing::error!("pool manager refuses our token");
            Err(EngineError::Unauthorized)
        }
        other => Err(EngineError::Protocol { message: format!("/v1/watch answered {other}") }),
    }
}

/// Returns why the stream ended.
async fn listen(
    manager: usize,
    mut body: EngineBody,
    handle: &Handle,
    heard: &mut Instant,
) -> String {
    let mut decoder = SseDecoder::default();
    loop {
        let frame = match timeout(SILENCE_MAX, body.frame()).await {
            Err(_) => return "three heartbeats are missing".into(),
            Ok(None) => return "the manager closed it".into(),
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if let Err(error) = decoder.push(data) {
            return error.to_string();
        }
        let mut changes = Vec::new();
        while let Some(event) = decoder.next_event() {
            let SseEvent::Data(data) = event else { continue };
            match serde_json::from_slice(data) {
                Ok(WatchEvent::Snapshot(snapshot)) => {
                    changes.push(FleetChange::Snapshot { manager, snapshot });
                }
                Ok(WatchEvent::Devices(devices)) => {
                    changes.push(FleetChange::Devices { manager, devices });
                }
                Ok(WatchEvent::Pool(pool)) => changes.push(FleetChange::Pool { manager, pool }),
                Ok(WatchEvent::Heartbeat) => {}
                Err(error) => return format!("an event is not of this version: {error}"),
            }
            *heard = Instant::now();
        }
        for change in changes {
            handle.send(Command::Fleet(change)).await;
        }
    }
}
