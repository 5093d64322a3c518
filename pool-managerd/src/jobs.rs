//! Orders from orchestrators: who may give them, and what has become of each.

use std::collections::VecDeque;
use std::sync::Mutex;

use pool_api::{Job, JobError, JobRequest, JobState, Order};

/// Jobs that are remembered; past this the oldest that has ended is forgotten.
pub(crate) const JOBS_MAX: usize = 256;

#[derive(Default)]
pub(crate) struct Jobs {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// The highest seen.
    epoch: u64,
    jobs: VecDeque<Job>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("epoch {found} is older than {highest}: another orchestrator commands this manager")]
    StaleEpoch { found: u64, highest: u64 },
    #[error("job `{id}` is another order already")]
    Conflict { id: String },
    #[error("{JOBS_MAX} jobs run: wait until one has ended")]
    TooMany,
}

/// A request that was taken.
pub(crate) struct Taken {
    pub(crate) job: Job,
    /// It was not known before.
    pub(crate) is_new: bool,
}

impl Jobs {
    /// Notes a job. Repeating a request changes nothing.
    pub(crate) fn put(&self, id: &str, request: JobRequest) -> Result<Taken, Refused> {
        let mut table = self.table.lock().expect("no holder panics");
        if request.epoch < table.epoch {
            return Err(Refused::StaleEpoch { found: request.epoch, highest: table.epoch });
        }
        if let Some(job) = table.jobs.iter().find(|it| it.job_id == id) {
            return if job.order == request.order {
                Ok(Taken { job: job.clone(), is_new: false })
            } else {
                Err(Refused::Conflict { id: id.into() })
            };
        }
        if JOBS_MAX <= table.jobs.len() {
            let ended = table.jobs.iter().position(|it| it.state != JobState::Running);
            let oldest = ended.ok_or(Refused::TooMany)?;
            table.jobs.remove(oldest);
        }
        table.epoch = request.epoch;
        let job =
            Job { job_id: id.into(), order: request.order, state: JobState::Running, error: None };
        table.jobs.push_back(job.clone());
        Ok(Taken { job, is_new: true })
    }

    /// Whether the pool was to be reloaded before `id` came, and still is.
    pub(crate) fn is_reloaded_before(&self, id: &str, pool: &str) -> bool {
        let table = self.table.lock().expect("no holder panics");
        let reloads = |it: &Order| matches!(it, Order::Reload { pool_id, .. } if pool_id == pool);
        let mut earlier = table.jobs.iter().take_while(|it| it.job_id != id);
        earlier.any(|it| it.state == JobState::Running && reloads(&it.order))
    }

    pub(crate) fn get(&self, id: &str) -> Option<Job> {
        let table = self.table.lock().expect("no holder panics");
        table.jobs.iter().find(|it| it.job_id == id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Job> {
        self.table.lock().expect("no holder panics").jobs.iter().cloned().collect()
    }

    /// Ends a job; one that has ended stays as it is.
    pub(crate) fn finish(&self, id: &str, result: Result<(), JobError>) {
        let mut table = self.table.lock().expect("no holder panics");
        let running = |it: &&mut Job| it.job_id == id && it.state == JobState::Running;
        let Some(job) = table.jobs.iter_mut().find(running) else { return };
        job.state = if result.is_ok() { JobState::Succeeded } else { JobState::Failed };
        job.error = result.err();
        let code = job.error.as_ref().map(|it| it.code.as_str());
        let cause = job.error.as_ref().map(|it| it.message.as_str());
        tracing::info!(job_id = id, order = ?job.order, error_code = code, cause, "job ended");
    }
}

/// Why a job has failed.
pub(crate) fn error(code: &str, message: &str) -> JobError {
    JobError { code: code.into(), message: message.into() }
}

#[cfg(test)]
mod tests;
