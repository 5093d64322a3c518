//! A task's event stream: encoded once when an event happens, copied to each reader when its
//! connection has room.
//!
//! The log is the authority on what a task's clients have been or will be shown. Closing it is the
//! one act that ends a task, so a cancel and a last token that race are decided by its lock.

pub(crate) mod frame;
pub(crate) mod log;
pub(crate) mod reader;
