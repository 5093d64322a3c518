//! The real daemon with real engine processes (engine-sim), from outside: configuration, HTTP,
//! signals, /proc.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod death;
mod devices;
mod engines;
mod external;
mod faults;
mod hang;
mod http;
mod jobs;
mod keep;
mod lifecycle;
mod output;
mod present;
mod reconfigure;
mod reload;
mod rig;
mod roll;
mod startup;
mod stop;
