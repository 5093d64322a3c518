//! A proxy between two processes that can be cut and frozen.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::pause;

/// Passes bytes on, in both directions. Its threads end with the process.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    frozen: AtomicBool,
    open: Mutex<BTreeMap<u64, [TcpStream; 2]>>,
}

impl Wire {
    pub(crate) fn to(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let carrier = Arc::clone(&shared);
        std::thread::spawn(move || {
            for (number, caller) in (0..).zip(listener.incoming().flatten()) {
                // While nobody listens the caller is hung up on, as a dead process would.
                let Ok(callee) = TcpStream::connect(target) else { continue };
                carrier.join(number, &caller, &callee);
            }
        });
        Ok(Self { address, shared })
    }

    /// Ends every connection there is.
    pub(crate) fn cut(&self) {
        for end in std::mem::take(&mut *self.shared.open()).into_values().flatten() {
            let _gone = end.shutdown(Shutdown::Both);
        }
    }

    /// Carries nothing and loses nothing for a while, as when a cable is out.
    pub(crate) fn freeze(&self, span: Duration) {
        self.shared.frozen.store(true, Ordering::SeqCst);
        pause(span);
        self.shared.frozen.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, [TcpStream; 2]>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, number: u64, caller: &TcpStream, callee: &TcpStream) {
        let copy = || -> std::io::Result<[TcpStream; 2]> {
            caller.set_nodelay(true)?;
            callee.set_nodelay(true)?;
            Ok([caller.try_clone()?, callee.try_clone()?])
        };
        let (Ok(there), Ok(back), Ok(ends)) = (copy(), copy(), copy()) else { return };
        self.open().insert(number, ends);
        let [caller, callee] = back;
        for [from, to] in [there, [callee, caller]] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                let _broken = shared.pass(&from, &to);
                let _gone = [from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)];
                shared.open().remove(&number);
            });
        }
    }

    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream) -> std::io::Result<()> {
        let mut chunk = [0; 16_384];
        loop {
            let length = from.read(&mut chunk)?;
            if length == 0 {
                return Ok(());
            }
            while self.frozen.load(Ordering::SeqCst) {
                pause(Duration::from_millis(10));
            }
            to.write_all(&chunk[..length])?;
        }
    }
}
