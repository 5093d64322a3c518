//! Orders to a manager. Each is a job with an id of the caller's choice, so that repeating a request
//! is harmless.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `PUT /v1/jobs/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// Of the orchestrator that orders; orders of an older epoch than the highest seen are refused,
    /// so that one orchestrator commands a manager at a time.
    pub epoch: u64,
    pub order: Order,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Order {
    /// Make the replica's model resident.
    Load { replica_id: String },
    /// Free the replica's memory once nothing runs there; given up after `patience_ms`.
    Unload { replica_id: String, patience_ms: u64 },
    /// The pool takes no new work; the job ends when nothing runs there any more, or fails after
    /// `patience_ms`, and the pool drains on.
    Drain { pool_id: String, patience_ms: u64 },
    /// The pool takes work again.
    Undrain { pool_id: String },
    /// The pool serves another model, or its own read anew: loaded beside the present one if memory
    /// allows, else in its place. One replica at a time, so that the others serve meanwhile; if it
    /// cannot be loaded on one of them, the present one serves again on all. Gives up if running tasks
    /// of a replica do not end within `patience_ms`.
    Reload {
        pool_id: String,
        /// Id or alias of a model in the manager's configuration, or the absolute path of a file that
        /// is served under the pool's present model id. Absent: the present model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model_ref: Option<String>,
        patience_ms: u64,
    },
}

/// An order and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    pub job_id: String,
    pub order: Order,
    pub state: JobState,
    /// Why it failed.
    #[schema(required = true)]
    pub error: Option<JobError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    Succeeded,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// `BUSY`, `LOAD_FAILED`, `LOAD_OOM`, `RELOAD_FAILED`, `SUPERSEDED` or `SHUTTING_DOWN`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The latest jobs, newest last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    pub jobs: Vec<Job>,
}
