//! The port: what a journal takes and gives, whatever keeps it.

use bytes::Bytes;

/// Events that one task may have.
pub const EVENTS_MAX: u64 = (1 << 24) - 1;

/// Names a task inside the journal: ascending in the order of admission, never reused, also after
/// the task is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TaskNo(pub u64);

impl TaskNo {
    /// The largest that can be admitted; a thousand tasks a second for seventeen years.
    pub const MAX: Self = Self((1 << 39) - 1);
}

/// A task as it was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Greater than that of each task before.
    pub task: TaskNo,
    pub tenant: String,
    /// A UUID, of which a tenant has each once.
    pub id: [u8; 16],
    pub session: Option<String>,
    /// Since 1970.
    pub admitted_at_ms: u64,
    /// Never changes.
    pub request: Bytes,
    /// The document of what changes, replaced whole.
    pub state: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Admitted(Admitted),
    /// Encoded events of an open task, whole ones, with ids `first..=last` that go on where those
    /// before ended. Ids count from 1.
    Events {
        task: TaskNo,
        first: u64,
        last: u64,
        frames: Bytes,
    },
    /// The document of what changes about an open task. With `ended_at_ms` the task is over, and
    /// retention counts from then (since 1970).
    State {
        task: TaskNo,
        state: Bytes,
        ended_at_ms: Option<u64>,
    },
    /// A named document; `None` removes it.
    Value {
        key: String,
        value: Option<Bytes>,
    },
    /// Removes a task, open or not, with its events. No error if there is none.
    Forget {
        task: TaskNo,
    },
}

/// How long ended tasks are kept. Whatever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Since they ended.
    pub age_ms: u64,
    /// Of requests, states and events of all ended tasks together.
    pub bytes: u64,
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// In the order in which they had ended.
    pub removed: Vec<TaskNo>,
    /// There is more to remove already.
    pub more: bool,
}

/// A task as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// With the newest state.
    pub admitted: Admitted,
    pub ended_at_ms: Option<u64>,
    /// 0 if it has no event yet.
    pub last_event: u64,
}

/// Events as they were written together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvents {
    pub first: u64,
    pub last: u64,
    pub frames: Bytes,
}

/// The one writer. Blocks.
pub trait Journal: Send {
    /// Writes all of it, in this order, or nothing. When this returns it is as durable as the
    /// journal was opened for.
    ///
    /// # Errors
    /// Nothing of it is there then, and another commit may be tried.
    fn commit(&mut self, writes: &[Write]) -> Result<(), JournalError>;

    /// Like `commit`, and where that would be [`JournalError::Full`] it uses the room that is kept
    /// back for the ends of tasks.
    ///
    /// # Errors
    /// As of `commit`; `Full` when that room is used up too.
    fn commit_reserved(&mut self, writes: &[Write]) -> Result<(), JournalError>;

    /// Removes ended tasks beyond `retention`, the ones that ended first before others, at most
    /// `limit` so that commits are not held up. Also the place where used room is kept back again.
    ///
    /// # Errors
    /// As of `commit`.
    fn sweep(
        &mut self,
        retention: Retention,
        now_ms: u64,
        limit: usize,
    ) -> Result<Swept, JournalError>;

    /// For reading beside the writer. Each answer has every commit that returned before the call.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn reader(&self) -> Result<Box<dyn JournalReader>, JournalError>;
}

/// Blocks. Each answer is of one moment.
pub trait JournalReader: Send {
    /// Tasks that have not ended, oldest first, after `after`.
    ///
    /// # Errors
    /// When the journal cannot be read; so of all the others.
    fn open_tasks(
        &mut self,
        after: Option<TaskNo>,
        limit: usize,
    ) -> Result<Vec<Stored>, JournalError>;

    /// # Errors
    /// See `open_tasks`.
    fn find(&mut self, tenant: &str, id: [u8; 16]) -> Result<Option<Stored>, JournalError>;

    /// A tenant's tasks, of one session if that is given, newest first, older than `before`.
    ///
    /// # Errors
    /// See `open_tasks`.
    fn list(
        &mut self,
        tenant: &str,
        session: Option<&str>,
        before: TaskNo,
        limit: usize,
    ) -> Result<Vec<Stored>, JournalError>;

    /// Events after id `after`, in the rows as they were written, so that the first row may begin
    /// with older ones. Stops before `max_bytes` of frames are exceeded, but gives one row if there is any.
    ///
    /// # Errors
    /// See `open_tasks`.
    fn events(
        &mut self,
        task: TaskNo,
        after: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredEvents>, JournalError>;

    /// Named documents whose key begins with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// See `open_tasks`.
    fn values(&mut self, prefix: &str) -> Result<Vec<(String, Bytes)>, JournalError>;

    /// The largest that was ever admitted, also if it is gone; 0 before the first.
    ///
    /// # Errors
    /// See `open_tasks`.
    fn last_task(&mut self) -> Result<TaskNo, JournalError>;
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There may be room later.
    #[error("no room is left where the journal lies, or it may not grow")]
    Full,
    /// A mistake of the caller: the batch does not follow from what is there.
    #[error("task {}: {why}", task.0)]
    Misplaced { task: TaskNo, why: &'static str },
    /// What is read is not what was written. Another try will not help.
    #[error("the journal is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Where the disk did not answer to a commit that was to wait for it, a restart may find the
    /// commit nevertheless.
    #[error("the journal could not be used")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
