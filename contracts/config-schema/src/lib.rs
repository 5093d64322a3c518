//! Operator configuration: one YAML document for both daemons.
//!
//! [`document`] is what an operator may write (strict: an unknown key is an error); [`Config`] is
//! what the daemons use after profile defaults and every check, and needs no further validation.
//! Reading files and the environment happens in the daemons' `main`, not here.

mod check;
mod config;
mod document;
mod parse;

pub use config::{
    ApiKey, Bind, Class, Classes, Config, Device, DeviceKind, EngineKind, EngineSource, FullPolicy,
    Limits, LogConfig, ManagerConfig, ManagerRef, OnManagerExit, PoolConfig, Profile, QueueConfig,
    Restart, Retention, StreamConfig, Watchdog,
};
pub use document::Document;
pub use parse::{ConfigError, Problem, parse, pointer};

#[cfg(test)]
mod tests;
