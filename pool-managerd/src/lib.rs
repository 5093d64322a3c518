//! pool-managerd: the agent on each GPU host. Devices, engine processes, readiness.
//!
//! A library so that its HTTP contract can be generated; `main.rs` only reads the command line and the
//! environment.

mod api;
mod app;
mod devices;
mod dialect;
mod digest;
mod drain;
mod drained;
mod durable;
mod engine;
mod footprint;
pub mod guard;
mod host;
mod jobs;
mod kept;
mod measured;
mod memory;
mod model;
mod recipe;
mod reconfigure;
mod replica;
mod roll;
mod succession;
mod supervisor;
mod telemetry;

pub use api::openapi::openapi;
pub use app::{Ended, credentials, run};
pub use engine::{Environment, INHERITED, User};
pub use footprint::misfits;
pub use kept::stop_engines;
pub use reconfigure::Source;
