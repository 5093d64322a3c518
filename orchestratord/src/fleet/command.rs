//! Orders to one pool manager.

use std::time::Duration;

use adapter_api::{EngineError, EngineHttp};
use api_types::ErrorCode;
use http::{Method, StatusCode};
use pool_api::{ErrorBody, HEARTBEAT_MS, Job, JobRequest, Order};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// A manager that cannot be reached for this long is lost, and its replicas with it.
const REACH_LIMIT: Duration = Duration::from_millis(3 * HEARTBEAT_MS);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct Commander {
    /// As configured.
    pub(crate) url: String,
    http: EngineHttp,
    epoch: u64,
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the pool manager cannot be reached: {0}")]
    Unreachable(EngineError),
    #[error("the pool manager refuses: {}", .0.message)]
    Answered(Box<ErrorBody>),
    #[error("the pool manager answered {0} with something else than a job")]
    Strange(StatusCode),
}

impl Refused {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Answered(body) if body.code == "NOT_FOUND" => ErrorCode::NotFound,
            Self::Answered(body) if body.code == "MODEL_NOT_FOUND" => ErrorCode::ModelNotFound,
            Self::Unreachable(_) | Self::Answered(_) | Self::Strange(_) => {
                ErrorCode::PoolUnavailable
            }
        }
    }
}

impl Commander {
    /// `epoch`: higher than that of every orchestrator that commanded before.
    pub(crate) fn new(url: &str, token: Option<&str>, epoch: u64) -> Self {
        Self { url: url.to_owned(), http: EngineHttp::new(url, token), epoch }
    }

    /// Returns once the manager has taken the order; what becomes of it is seen in the watch stream.
    /// Repeated until it is heard: the job's id makes that harmless. Cancelling leaves it open
    /// whether it was taken.
    pub(crate) async fn give(&self, order: Order) -> Result<Job, Refused> {
        let path = format!("/v1/jobs/{}", Uuid::new_v4());
        let request = JobRequest { epoch: self.epoch, order };
        let body = serde_json::to_vec(&request).expect("wire types always serialise");
        let until = Instant::now() + REACH_LIMIT;
        loop {
            match self.http.call(Method::PUT, &path, Some(body.clone())).await {
                Ok((StatusCode::ACCEPTED, body)) => {
                    let strange = |_| Refused::Strange(StatusCode::ACCEPTED);
                    return serde_json::from_slice(&body).map_err(strange);
                }
                Ok((status, body)) => {
                    let error = serde_json::from_slice(&body).map(Box::new);
                    return Err(error.map_or(Refused::Strange(status), Refused::Answered));
                }
                Err(error) if until <= Instant::now() => return Err(Refused::Unreachable(error)),
                Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
    }
}
