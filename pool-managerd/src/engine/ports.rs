//! Ports of managed engines, each held by one replica at a time.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// Ports an engine may be told to use.
pub(crate) struct Ports {
    address: IpAddr,
    range: Option<(u16, u16)>,
    /// Held by our own replicas. An engine binds its port only after we have let go of it, and with
    /// SO_REUSEPORT two engines would even share one without an error.
    held: Arc<Mutex<BTreeSet<u16>>>,
}

/// Where an incarnation listens, and the random key it demands. The port is free again once
/// dropped.
pub(crate) struct KeyedPort {
    address: IpAddr,
    pub(crate) port: u16,
    pub(crate) key: String,
    held: Arc<Mutex<BTreeSet<u16>>>,
}

impl Ports {
    pub(crate) fn new(address: IpAddr, range: Option<(u16, u16)>) -> Self {
        Self { address, range, held: Arc::default() }
    }

    /// A port that is free now. Another program may take it before the engine does; the engine then
    /// exits and the next start takes another one.
    pub(crate) fn allocate(&self) -> io::Result<KeyedPort> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let key = bytes.iter().map(|it| format!("{it:02x}")).collect();
        let mut held = self.held.lock().expect("no holder panics");
        let port = self.find(&held)?;
        held.insert(port);
        Ok(KeyedPort { address: self.address, port, key, held: Arc::clone(&self.held) })
    }

    /// A port that an engine of ours has already.
    pub(crate) fn adopt(&self, port: u16, key: String) -> KeyedPort {
        self.held.lock().expect("no holder panics").insert(port);
        KeyedPort { address: self.address, port, key, held: Arc::clone(&self.held) }
    }

    fn find(&self, held: &BTreeSet<u16>) -> io::Result<u16> {
        let Some((first, last)) = self.range else {
            // The kernel hands out another port each time, until it has been through all of them.
            return (0..16)
                .find_map(|_| free(self.address, 0).filter(|it| !held.contains(it)))
                .ok_or_else(|| {
                    let text = format!("no port can be opened on {}", self.address);
                    io::Error::other(text)
                });
        };
        (first..=last)
            .find(|it| !held.contains(it) && free(self.address, *it).is_some())
            .ok_or_else(|| {
                io::Error::other(format!(
                    "no port of {first} to {last} is free: widen `port_range`"
                ))
            })
    }
}

fn free(address: IpAddr, port: u16) -> Option<u16> {
    let listener = TcpListener::bind((address, port)).ok()?;
    listener.local_addr().ok().map(|it| it.port())
}

impl KeyedPort {
    /// What engines call `--host`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.address, self.port))
    }
}

impl Drop for KeyedPort {
    fn drop(&mut self) {
        self.held.lock().expect("no holder panics").remove(&self.port);
    }
}

#[cfg(test)]
mod tests;
