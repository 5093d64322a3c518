//! Orders to a replica, and when they are done.

use std::path::PathBuf;
use std::sync::Arc;

use pool_api::{JobError, ReplicaState};
use tokio::sync::{mpsc, oneshot};

use super::{Place, ReplicaTask, Site};
use crate::jobs::error;
use crate::supervisor::{Event, Failure};

pub(crate) type Outbox = mpsc::Sender<Ordered>;
pub(crate) type Inbox = mpsc::Receiver<Ordered>;

/// Something that one replica is to do.
#[derive(Debug)]
pub(crate) struct Ordered {
    wish: Wished,
    /// Told when it is done; dropped if the replica's task ends first.
    done: oneshot::Sender<Result<(), JobError>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wished {
    Load,
    Unload {
        patience_ms: u64,
    },
    Reload {
        model: NewModel,
        patience_ms: u64,
    },
    /// Serve again what was served before the last reload, which has failed elsewhere.
    GoBack {
        cause: String,
    },
}

/// What a pool is to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewModel {
    pub(crate) id: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) path: PathBuf,
}

impl Site {
    /// Gives an order at once; what becomes of it.
    pub(crate) fn order(
        self: &Arc<Self>,
        (pool, replica): Place,
        wish: Wished,
    ) -> impl Future<Output = Result<(), JobError>> + use<> {
        let (done, ended) = oneshot::channel();
        // There is room for every job that can run; the replica's task ends with the daemon only.
        let _ended = self.outboxes[pool][replica].try_send(Ordered { wish, done });
        let site = Arc::clone(self);
        async move {
            let stops = || Err(error("SHUTTING_DOWN", "the manager stops"));
            tokio::select! {
                result = ended => result.unwrap_or_else(|_| stops()),
                () = site.stop.cancelled() => stops(),
            }
        }
    }
}

impl ReplicaTask {
    /// Takes an order; the one before it, if it is still under way, is not wanted any more. A reload is
    /// not disturbed.
    pub(super) fn ordered(&mut self, ordered: Ordered) -> Option<Event> {
        if self.reload.is_some() || self.restoring {
            let busy = error("BUSY", "a reload is under way");
            let _gone = ordered.done.send(Err(busy));
            return None;
        }
        self.end_job(Err(error("SUPERSEDED", "another order came before this one was done")));
        let event = match &ordered.wish {
            Wished::Load => Some(Event::Load),
            Wished::Unload { patience_ms } => Some(Event::Unload { patience_ms: *patience_ms }),
            Wished::Reload { model, patience_ms } => self.reload(model.clone(), *patience_ms),
            Wished::GoBack { cause } => self.go_back(cause),
        };
        self.job = Some(ordered);
        event
    }

    /// Ends the job if what it wants is so, or will not be; what must happen next, if anything.
    pub(super) fn settle(&mut self) -> Option<Event> {
        if self.reload.is_some() || self.restoring {
            return self.settle_reload();
        }
        let job = self.job.as_ref()?;
        let result = match (&job.wish, self.supervisor.state()) {
            (Wished::Load, ReplicaState::Ready)
            | (Wished::Unload { .. }, ReplicaState::Unloaded) => Ok(()),
            (Wished::Unload { .. }, ReplicaState::Ready) => {
                Err(error("BUSY", "the engine was not idle in time; it serves on"))
            }
            _ => return None,
        };
        self.end_job(result);
        None
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

    /// What the order has brought about is seen before its end is told.
    pub(super) fn end_job(&mut self, result: Result<(), JobError>) {
        if let Some(job) = self.job.take() {
            self.publish();
            let _gone = job.done.send(result);
        }
    }
}

#[cfg(test)]
mod tests;
