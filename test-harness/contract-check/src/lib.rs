//! Holds what a daemon answers against the committed OpenAPI documents.
//!
//! A test hands over each exchange and gets findings: an operation, status, content type, header,
//! body or event that the document does not have. The documents leave answers open to further
//! fields, because clients must be; here they are closed, so that no field goes undocumented.

mod closing;
mod contract;
mod document;
mod exchange;
mod frames;
mod raw;
mod routes;

pub use contract::Contract;
pub use document::{ORCHESTRATORD, Operation, POOL_MANAGERD, committed};
pub use exchange::Exchange;
pub use frames::{Frame, frames};
pub use raw::RawAnswer;
pub use routes::{Route, filled, mounted_paths};
