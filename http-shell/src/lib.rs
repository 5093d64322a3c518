//! What both daemons need around an HTTP service: binding with clear errors, limits on connections
//! and request heads, guards against browsers and strangers, a bounded drain, and metrics with bounded
//! label values.
//!
//! No routes and no error bodies: each daemon words its refusals in its own envelope, and
//! [`contract`] only documents what is refused. It is one crate
//! because a guard that exists twice is weaker where it was forgotten
//! (`.docs/decisions/0002-shared-crates-of-the-daemons.md`).

mod bind;
pub mod contract;
mod correlation;
mod exposition;
mod guard;
mod serve;
mod stall;

pub use bind::{BindError, bind};
pub use correlation::{CORRELATION_HEADER, correlation_id};
pub use exposition::{Counters, Exposition, Gauges, Histograms, Ratios, Series};
pub use guard::{Caller, Credentials, Guard, Refusal};
pub use serve::{ServeLimits, serve};

#[cfg(test)]
mod tests;
