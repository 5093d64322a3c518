//! The accept loop as its peers see it: real sockets, well and badly behaved.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bounds;
mod rig;
mod stop;
