//! orchestratord: admits tasks into a bounded queue, places them on replicas and relays their tokens.
//!
//! A library so that tests can serve it in process; [`App`](app::App) is the composition root and
//! `main.rs` only reads the command line.

mod admission;
mod api;
mod app;
mod artifacts;
mod attempt;
mod clock;
mod crash;
mod driver;
mod fleet;
mod journal;
mod sessions;
mod stream;
mod task;
mod telemetry;
mod tenants;
mod wire;

pub use api::openapi;
pub use app::{Server, StartError, start};
