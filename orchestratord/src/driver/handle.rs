//! How the rest of the daemon speaks to the driver.

use std::sync::Arc;
use std::time::Duration;

use api_types::{Admission, Explanation, Session, Swap};
use orchestrator_core::{Event, LaneView, PoolId, ReplicaId, Run, Standing, TaskId, Usage};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Rejection;
use crate::fleet::FleetChange;
use crate::sessions::{Key, Remaining};
use crate::task::{Job, Store, TaskRecord};
use crate::tenants::Tenant;

/// What the driver can be asked to do.
pub(crate) enum Command {
    Submit {
        submission: Box<Submission>,
        reply: oneshot::Sender<SubmitReply>,
    },
    Cancel {
        task: TaskId,
        reply: oneshot::Sender<()>,
    },
    ReaderLeft {
        record: Arc<TaskRecord>,
    },
    /// A report of an attempt.
    Core(Event),
    Fleet(FleetChange),
    /// A pool drains, and what still runs there after a while is to go on elsewhere; `None`: it
    /// drains no more.
    Drain {
        pool: PoolId,
        hand_back_in: Option<Duration>,
    },
    Standing {
        task: TaskId,
        reply: oneshot::Sender<Option<Standing>>,
    },
    Explain {
        record: Arc<TaskRecord>,
        reply: oneshot::Sender<Explanation>,
    },
    ShowSession {
        key: Key,
        reply: oneshot::Sender<Option<Session>>,
    },
    EndSession {
        key: Key,
        reply: oneshot::Sender<Option<SessionEnd>>,
    },
    Queue {
        reply: oneshot::Sender<QueuePicture>,
    },
    BusySlots {
        reply: oneshot::Sender<Vec<(ReplicaId, u32)>>,
    },
    /// The journal has no room for it.
    NotStored(Arc<TaskRecord>),
    /// Whether nothing is left that has to end before the daemon does.
    Idle {
        reply: oneshot::Sender<bool>,
    },
    /// Admit nothing more.
    ShutDown,
    /// End what is still open and would be lost, and stop what goes on in the next life.
    EndAll,
    /// End the driver.
    Stop,
}

/// Resolves when the journal has forgotten the session; `None`: there is no journal.
pub(crate) type SessionEnd = Option<oneshot::Receiver<()>>;

/// Who waits, and what is loaded for them.
#[derive(Default)]
pub(crate) struct QueuePicture {
    /// With the model's name.
    pub(crate) lanes: Vec<(String, LaneView)>,
    pub(crate) swaps: Vec<Swap>,
}

/// A task on its way in.
pub(crate) struct Submission {
    pub(crate) id: Uuid,
    pub(crate) tenant: Tenant,
    pub(crate) job: Job,
    pub(crate) correlation_id: String,
}

pub(crate) enum SubmitReply {
    Admitted {
        record: Arc<TaskRecord>,
        admission: Admission,
        remaining: Remaining,
    },
    /// The same task was submitted before.
    Known(Arc<TaskRecord>),
    /// Another task has this id.
    Conflict,
    Rejected(Rejection),
    ShuttingDown,
}

/// Reaches the driver and, for reading, the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    pub(crate) store: Store,
    tracker: TaskTracker,
}

impl Handle {
    pub(super) fn new(commands: mpsc::Sender<Command>, store: Store, tracker: TaskTracker) -> Self {
        Self { commands, store, tracker }
    }

    pub(crate) async fn submit(&self, submission: Submission) -> SubmitReply {
        let submission = Box::new(submission);
        self.ask(|reply| Command::Submit { submission, reply })
            .await
            .unwrap_or(SubmitReply::ShuttingDown)
    }

    /// Returns once the task is over for every reader.
    pub(crate) async fn cancel(&self, task: TaskId) {
        self.ask(|reply| Command::Cancel { task, reply }).await.unwrap_or_default();
    }

    /// Where a waiting task stands; `None` for one that does not wait.
    pub(crate) async fn standing(&self, task: TaskId) -> Option<Standing> {
        self.ask(|reply| Command::Standing { task, reply }).await.flatten()
    }

    /// Why a task waits or where it went; `None` if the driver has ended.
    pub(crate) async fn explain(&self, record: Arc<TaskRecord>) -> Option<Explanation> {
        self.ask(|reply| Command::Explain { record, reply }).await
    }

    /// `None`: there is none.
    pub(crate) async fn session(&self, key: Key) -> Option<Session> {
        self.ask(|reply| Command::ShowSession { key, reply }).await.flatten()
    }

    /// `None`: there is none.
    pub(crate) async fn end_session(&self, key: Key) -> Option<SessionEnd> {
        self.ask(|reply| Command::EndSession { key, reply }).await.flatten()
    }

    pub(crate) async fn queue(&self) -> QueuePicture {
        self.ask(|reply| Command::Queue { reply }).await.unwrap_or_default()
    }

    pub(crate) async fn busy_slots(&self) -> Vec<(ReplicaId, u32)> {
        self.ask(|reply| Command::BusySlots { reply }).await.unwrap_or_default()
    }

    /// Sends without waiting for an answer; lost only if the driver has ended.
    pub(crate) async fn send(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the driver has ended; a command was dropped");
        }
    }

    /// For threads of their own.
    pub(crate) fn send_blocking(&self, command: Command) {
        if self.commands.blocking_send(command).is_err() {
            tracing::debug!("the driver has ended; a command was dropped");
        }
    }

    pub(crate) async fn is_idle(&self) -> bool {
        self.ask(|reply| Command::Idle { reply }).await.unwrap_or(true)
    }

    /// Reports progress if there is room: the next report holds all that this one says.
    pub(crate) fn progress(&self, run: Run, usage: Usage) {
        let _full = self.commands.try_send(Command::Core(Event::Progress { run, usage }));
    }

    pub(crate) fn leavings(&self) -> Leavings {
        Leavings { commands: self.commands.clone(), tracker: self.tracker.clone() }
    }

    /// `None` if the driver has ended.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Reports readers that left. Called while a connection is torn down, where nothing can wait.
#[derive(Clone)]
pub(crate) struct Leavings {
    commands: mpsc::Sender<Command>,
    tracker: TaskTracker,
}

impl Leavings {
    pub(crate) fn report(&self, record: &Arc<TaskRecord>) {
        let command = Command::ReaderLeft { record: Arc::clone(record) };
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command) {
            let commands = self.commands.clone();
            self.tracker.spawn(async move {
                let _ended = commands.send(command).await;
            });
        }
    }
}
