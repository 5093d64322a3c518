//! Blobs on a disk, named by the SHA-256 of what they hold.
//!
//! What a blob is for, who may read it and when it goes is not known here. Calls block.

mod id;
mod store;

pub use id::{BlobId, NotAnId};
pub use store::{Durability, ReadError, Store, WriteError};
