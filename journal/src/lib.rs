//! What orchestratord must not forget: tasks, their events, and named values.
//!
//! [`Journal`] is the port; SQLite stands behind it in `sqlite.rs`, and SQL stands nowhere else.
//! Documents are opaque bytes here. Which of them to write, and when, is orchestratord's matter.

mod folder;
mod ledger;
mod port;
mod reserve;
mod sqlite;

pub use folder::OpenError;
pub use port::{
    Admitted, EVENTS_MAX, Journal, JournalError, JournalReader, Retention, Stored, StoredEvents,
    Swept, TaskNo, Write,
};
pub use sqlite::{Durability, SqliteJournal, open};
