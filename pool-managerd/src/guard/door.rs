//! How managers come to a guard, say what is to be, and hear of the end.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::{HAND_OVER, KEEP, KILL, TERMINATE};

/// How long a successor may take that was announced.
const SUCCESSION: Duration = Duration::from_secs(10);
/// How often a guard without a manager looks whether it can still be found.
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Door {
    path: PathBuf,
    listener: Option<UnixListener>,
    /// The manager that is here.
    present: Arc<Mutex<Option<UnixStream>>>,
}

/// What the end of the present manager means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The engine's.
    End,
    /// Another comes until then, or the engine's.
    Until(Instant),
    /// Another comes.
    Stay,
}

impl Door {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("creating `{}`", folder.display()))?;
        }
        let _stale = std::fs::remove_file(path);
        let listener =
            UnixListener::bind(path).with_context(|| format!("opening `{}`", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self { path: path.to_owned(), listener: Some(listener), present: Arc::default() })
    }

    /// Lets the first manager in, and does what it and its successors say, on a thread of its own.
    pub(super) fn admit(&mut self, manager: UnixStream, engine: Pid) -> anyhow::Result<()> {
        let listener = self.listener.take().context("a door is opened once")?;
        *self.present.lock().expect("no holder panics") = Some(manager.try_clone()?);
        let present = Arc::clone(&self.present);
        let path = self.path.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("obey".into())
            .spawn(move || {
                // Its end, or not being able to listen, means that nobody can ask for the engine.
                let _gone = runtime.block_on(obey(manager, listener, &path, engine, &present));
                let _killed = kill_process_group(engine, Signal::KILL);
            })
            .context("starting the thread that listens to the manager")?;
        Ok(())
    }

    /// Tells the manager that is here of the engine's end.
    pub(super) fn close(&self, word: &str) {
        let _gone = std::fs::remove_file(&self.path);
        if let Some(mut manager) = self.present.lock().expect("no holder panics").take() {
            let _set = manager.set_nonblocking(false);
            let _gone = manager.write_all(word.as_bytes());
        }
    }
}

/// Ends when the engine is to end.
async fn obey(
    first: UnixStream,
    listener: UnixListener,
    path: &Path,
    engine: Pid,
    present: &Mutex<Option<UnixStream>>,
) -> std::io::Result<()> {
    // Handlers, because an ignored signal would be ignored by the engine too. Whoever sends these
    // to every process of ours gets an orderly end all the same: the manager's.
    let _terminate = signal(SignalKind::terminate())?;
    let _interrupt = signal(SignalKind::interrupt())?;
    let _hangup = signal(SignalKind::hangup())?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    first.set_nonblocking(true)?;
    let mut manager = Some(tokio::net::UnixStream::from_std(first)?);
    let mut then = Then::End;
    loop {
        tokio::select! {
            said = hear(&mut manager) => match said {
                Some(TERMINATE) => {
                    // An error means that the engine is gone already.
                    let _sent = kill_process_group(engine, Signal::TERM);
                }
                Some(KILL) => return Ok(()),
                Some(KEEP) => then = Then::Stay,
                Some(HAND_OVER) if then == Then::End => {
                    then = Then::Until(Instant::now() + SUCCESSION);
                }
                Some(_) => {}
                None if then == Then::End => return Ok(()),
                None => {
                    manager = None;
                    present.lock().expect("no holder panics").take();
                }
            },
            came = listener.accept() => {
                let mut link = came?.0.into_std()?;
                link.set_nonblocking(false)?;
                writeln!(link, "{}", engine.as_raw_nonzero())?;
                *present.lock().expect("no holder panics") = Some(link.try_clone()?);
                link.set_nonblocking(true)?;
                manager = Some(tokio::net::UnixStream::from_std(link)?);
                then = Then::End;
            }
            () = alone(then), if manager.is_none() => {
                if then != Then::Stay || !path.exists() {
                    return Ok(());
                }
            }
        }
    }
}

/// The manager's next word; `None` when it is gone.
async fn hear(manager: &mut Option<tokio::net::UnixStream>) -> Option<u8> {
    match manager {
        Some(manager) => manager.read_u8().await.ok(),
        None => std::future::pending().await,
    }
}

/// Without a manager: until something must be looked at.
async fn alone(then: Then) {
    match then {
        Then::Until(at) => tokio::time::sleep_until(at).await,
        Then::End | Then::Stay => tokio::time::sleep(LOOK_EVERY).await,
    }
}
