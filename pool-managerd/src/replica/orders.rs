//! Orders to a replica, and when they are done.

use pool_api::{JobError, ReplicaState};
use tokio::sync::mpsc;

use super::ReplicaTask;
use crate::supervisor::{Event, Failure};

pub(crate) type Outbox = mpsc::Sender<Ordered>;
pub(crate) type Inbox = mpsc::Receiver<Ordered>;

/// A job for one replica.
#[derive(Debug)]
pub(crate) struct Ordered {
    pub(crate) job_id: String,
    pub(crate) wish: Wished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wished {
    Load,
    Unload { patience_ms: u64 },
}

impl ReplicaTask {
    /// Takes an order; the one before it, if it is still under way, is not wanted any more.
    pub(super) fn ordered(&mut self, ordered: Ordered) -> Event {
        let event = match ordered.wish {
            Wished::Load => Event::Load,
            Wished::Unload { patience_ms } => Event::Unload { patience_ms },
        };
        self.end_job(Err(error("SUPERSEDED", "another order came before this one was done")));
        self.job = Some(ordered);
        event
    }

    /// Ends the job if what it wants is so, or will not be.
    pub(super) fn settle_job(&mut self) {
        let Some(job) = &self.job else { return };
        let result = match (job.wish, self.supervisor.state()) {
            (Wished::Load, ReplicaState::Ready)
            | (Wished::Unload { .. }, ReplicaState::Unloaded) => Ok(()),
            (Wished::Unload { .. }, ReplicaState::Ready) => {
                Err(error("BUSY", "the engine was not idle in time; it serves on"))
            }
            _ => return,
        };
        self.end_job(result);
    }

    /// A load has failed, for good as far as its job goes.
    pub(super) fn fail_load_job(&mut self, kind: Failure) {
        if self.job.as_ref().is_some_and(|it| it.wish == Wished::Load) {
            let code = match kind {
                Failure::DeviceOom | Failure::HostOom | Failure::Memory => "LOAD_OOM",
                Failure::Check
                | Failure::Spawn
                | Failure::Exit
                | Failure::Signal
                | Failure::StartTimeout
                | Failure::Health
                | Failure::Probe
                | Failure::Device => "LOAD_FAILED",
            };
            let cause = self.supervisor.last_error().unwrap_or_default().to_owned();
            self.end_job(Err(error(code, &cause)));
        }
    }

    /// The daemon ends.
    pub(super) fn abandon_job(&mut self) {
        self.end_job(Err(error("SHUTTING_DOWN", "the manager stops")));
    }

    fn end_job(&mut self, result: Result<(), JobError>) {
        if let Some(job) = self.job.take() {
            self.site.jobs.finish(&job.job_id, result);
        }
    }
}

fn error(code: &str, message: &str) -> JobError {
    JobError { code: code.into(), message: message.into() }
}
