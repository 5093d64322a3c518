//! Operator configuration: one YAML document for both daemons.
//!
//! [`Document`] is what an operator may write; [`json_schema`] is generated from it, and what is
//! written is checked against that: an unknown key is an error, and all problems are told at once.
//! [`Config`] is what the daemons use after profile defaults and every check, and needs no further
//! validation. The environment is not read here.

mod change;
mod check;
mod config;
mod defaults;
mod document;
mod format;
mod parse;
mod problem;
mod resolve;
mod schema;
mod structure;
mod tree;

pub use change::{Change, changes};
pub use config::{
    ApiKey, Artifacts, Bind, Budgets, Class, ClassMode, Classes, ConcurrentTurns, Config,
    DEFAULT_TENANT, Deadlines, Device, DeviceKind, Durability, EngineKind, EngineSource, Fairness,
    FullPolicy, JournalConfig, Limits, LogConfig, ManagerConfig, ManagerRef, ModelCost, OnExceed,
    OnManagerExit, PoolConfig, Preemption, PreemptionMode, Profile, QueueConfig, Residency,
    Restart, Retention, SamplerProfile, Sessions, Sse, StreamConfig, Swap, Tenant, TritonNames,
    Watchdog, Workload,
};
pub use document::{Document, TritonCustomDoc, TritonDoc};
pub use parse::{load, parse, pointer};
pub use problem::{ConfigError, LoadError, Problem};
pub use schema::json_schema;
