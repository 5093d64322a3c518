//! Error codes and the one envelope that carries them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, in a word that programs can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    InvalidParams,
    Unauthenticated,
    Forbidden,
    NotFound,
    ModelNotFound,
    MethodNotAllowed,
    UnsupportedMediaType,
    HeadersTooLarge,
    PayloadTooLarge,
    TaskIdConflict,
    StreamDiverged,
    SessionBusy,
    ContextOverflow,
    DeterminismUnavailable,
    DeadlineUnmet,
    AdmissionReject,
    QueueFullDropLru,
    PoolUnready,
    PoolUnavailable,
    ReplicaExhausted,
    StorageFull,
    ShuttingDown,
    DecodeTimeout,
    WorkerReset,
    Expired,
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 26] = [
        Self::InvalidParams,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::ModelNotFound,
        Self::MethodNotAllowed,
        Self::UnsupportedMediaType,
        Self::HeadersTooLarge,
        Self::PayloadTooLarge,
        Self::TaskIdConflict,
        Self::StreamDiverged,
        Self::SessionBusy,
        Self::ContextOverflow,
        Self::DeterminismUnavailable,
        Self::DeadlineUnmet,
        Self::AdmissionReject,
        Self::QueueFullDropLru,
        Self::PoolUnready,
        Self::PoolUnavailable,
        Self::ReplicaExhausted,
        Self::StorageFull,
        Self::ShuttingDown,
        Self::DecodeTimeout,
        Self::WorkerReset,
        Self::Expired,
        Self::Internal,
    ];

    /// The HTTP status when the code answers a request. Codes that arise only after a stream began
    /// have the status they would have had before it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidParams => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound | Self::ModelNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TaskIdConflict | Self::StreamDiverged | Self::SessionBusy => 409,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ContextOverflow | Self::DeterminismUnavailable | Self::DeadlineUnmet => 422,
            Self::AdmissionReject | Self::QueueFullDropLru => 429,
            Self::HeadersTooLarge => 431,
            Self::Internal => 500,
            Self::PoolUnready
            | Self::PoolUnavailable
            | Self::ReplicaExhausted
            | Self::StorageFull
            | Self::ShuttingDown
            | Self::WorkerReset => 503,
            Self::DecodeTimeout | Self::Expired => 504,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn retriable(self) -> bool {
        match self {
            Self::DeadlineUnmet
            | Self::SessionBusy
            | Self::AdmissionReject
            | Self::QueueFullDropLru
            | Self::PoolUnready
            | Self::PoolUnavailable
            | Self::ReplicaExhausted
            | Self::StorageFull
            | Self::ShuttingDown
            | Self::DecodeTimeout
            | Self::WorkerReset
            | Self::Expired
            | Self::Internal => true,
            Self::InvalidParams
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::NotFound
            | Self::ModelNotFound
            | Self::MethodNotAllowed
            | Self::UnsupportedMediaType
            | Self::HeadersTooLarge
            | Self::PayloadTooLarge
            | Self::TaskIdConflict
            | Self::StreamDiverged
            | Self::ContextOverflow
            | Self::DeterminismUnavailable => false,
        }
    }

    /// The requirement that asks for the code.
    #[must_use]
    pub fn requirement(self) -> &'static str {
        match self {
            Self::InvalidParams => "OC-CTRL-2010",
            Self::Unauthenticated => "OC-CTRL-2040",
            Self::Forbidden | Self::UnsupportedMediaType => "OC-CTRL-2083",
            Self::NotFound
            | Self::ModelNotFound
            | Self::MethodNotAllowed
            | Self::HeadersTooLarge
            | Self::PayloadTooLarge
            | Self::Internal => "ORCH-2006",
            Self::TaskIdConflict => "ORCH-3024",
            Self::StreamDiverged => "ORCH-2002",
            Self::SessionBusy => "ORCH-3021",
            Self::ContextOverflow => "ORCH-3014",
            Self::DeterminismUnavailable => "OC-CORE-1031",
            Self::AdmissionReject => "ORCH-2007",
            Self::QueueFullDropLru => "ORCH-3005",
            Self::PoolUnready | Self::PoolUnavailable => "ORCH-3018",
            Self::StorageFull => "ORCH-4001",
            Self::ShuttingDown => "OC-CTRL-2082",
            Self::DecodeTimeout => "ORCH-3016",
            Self::WorkerReset => "ORCH-3038",
            Self::DeadlineUnmet => "ORCH-3080",
            Self::ReplicaExhausted => "OC-CTRL-2014",
            Self::Expired => "ORCH-4021",
        }
    }

    /// The code as it is written on the wire and in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidParams => "INVALID_PARAMS",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::ModelNotFound => "MODEL_NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::HeadersTooLarge => "HEADERS_TOO_LARGE",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::TaskIdConflict => "TASK_ID_CONFLICT",
            Self::StreamDiverged => "STREAM_DIVERGED",
            Self::SessionBusy => "SESSION_BUSY",
            Self::ContextOverflow => "CONTEXT_OVERFLOW",
            Self::DeterminismUnavailable => "DETERMINISM_UNAVAILABLE",
            Self::AdmissionReject => "ADMISSION_REJECT",
            Self::QueueFullDropLru => "QUEUE_FULL_DROP_LRU",
            Self::PoolUnready => "POOL_UNREADY",
            Self::PoolUnavailable => "POOL_UNAVAILABLE",
            Self::StorageFull => "STORAGE_FULL",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::DecodeTimeout => "DECODE_TIMEOUT",
            Self::WorkerReset => "WORKER_RESET",
            Self::DeadlineUnmet => "DEADLINE_UNMET",
            Self::ReplicaExhausted => "REPLICA_EXHAUSTED",
            Self::Expired => "EXPIRED",
            Self::Internal => "INTERNAL",
        }
    }
}

/// Body of every error answer and data of every `error` event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorEnvelope {
    pub code: ErrorCode,
    /// For people: what was found, what was expected.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retriable: bool,
    /// Equal to the `X-Backoff-Ms` header; `Retry-After` is this, rounded up to seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Which rule refused an admission: `reject`, `shed-low-priority`, `rate`, `quota-queued`,
    /// `quota-concurrent`, `quota-tokens`, `quota-artifacts`, `budget-tokens`, `budget-time`,
    /// `budget-cost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// The engine kind that failed, or was to run the task.
    pub engine: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<String>,
    /// With `DEADLINE_UNMET`: the shortest deadline that is likely to be met, from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest_ms: Option<u64>,
    /// As the `X-Correlation-Id` header.
    pub correlation_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    /// Each thing that is wrong with the request.
    pub details: Vec<Detail>,
}

/// One thing wrong with a request body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detail {
    /// JSON Pointer (RFC 6901) into the body; empty for the whole of it.
    pub pointer: String,
    pub found: String,
    pub expected: String,
}
