//! From a request to a job: validation, names resolved, context checked. Nothing is queued here.

mod context;
mod features;
mod validate;

use api_types::{Detail, ErrorCode, TaskRequest};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub(crate) use context::{Parts, job, prepare};
pub(crate) use validate::{parse, validate};

/// Why a request became no job.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    pub(crate) details: Vec<Detail>,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    pub(crate) fn invalid(details: Vec<Detail>) -> Self {
        let message = details.first().map_or_else(String::new, |it| {
            let at = if it.pointer.is_empty() { "the body" } else { &it.pointer };
            format!("{at}: found {}, expected {}", it.found, it.expected)
        });
        Self { code: ErrorCode::InvalidParams, message, details }
    }
}

/// A request whose own fields are right; whether it fits the fleet is not known yet.
pub(crate) struct Valid {
    pub(crate) id: Uuid,
    /// With every default that does not depend on the fleet.
    pub(crate) request: TaskRequest,
    /// The caller has chosen the id.
    pub(crate) id_named: bool,
    /// The caller has chosen the seed.
    pub(crate) seed_named: bool,
    /// The stream is asked for in the same request.
    pub(crate) streams: bool,
}

/// The seed of a task that names none: the first 8 bytes, big-endian, of SHA-256 over the lower-case
/// text of its id, modulo 2^32 − 1.
fn seed_of(id: Uuid) -> u32 {
    let digest = Sha256::digest(id.hyphenated().to_string());
    let first: [u8; 8] = digest[..8].try_into().expect("a SHA-256 digest has 32 bytes");
    let seed = u64::from_be_bytes(first) % u64::from(u32::MAX);
    u32::try_from(seed).expect("a remainder below 2^32")
}

#[cfg(test)]
mod tests;
