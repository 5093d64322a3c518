//! Threads, listener and the life of a connection.
//!
//! Each worker is a runtime of its own: a connection never moves between threads, so a benchmark pays
//! for no work stealing.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::engine::Engine;
use crate::llama;
use crate::wire::{Gone, Wire};

/// Accepted connections a worker has not taken up yet. Past it the acceptor waits, and the kernel's
/// backlog holds the rest.
const HANDOVER_CONNECTIONS: usize = 256;

/// Serves until SIGTERM.
pub(crate) fn run(engine: Arc<Engine>) -> Result<()> {
    let mut workers = Vec::new();
    for index in 0..engine.args.workers {
        let (handover, accepted) = mpsc::channel(HANDOVER_CONNECTIONS);
        let engine = Arc::clone(&engine);
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || work(&engine, accepted))
            .context("starting a worker")?;
        workers.push(handover);
    }
    runtime()?.block_on(accept(&engine, &workers))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("building a runtime")
}

fn work(engine: &Arc<Engine>, mut accepted: mpsc::Receiver<std::net::TcpStream>) {
    let runtime = runtime().expect("a runtime was built before this one");
    let connections = TaskTracker::new();
    runtime.block_on(async {
        while let Some(stream) = accepted.recv().await {
            let Ok(stream) = TcpStream::from_std(stream) else { continue };
            connections.spawn(serve(Arc::clone(engine), stream));
        }
    });
}

async fn accept(engine: &Engine, workers: &[mpsc::Sender<std::net::TcpStream>]) -> Result<()> {
    let address = (engine.args.host.as_str(), engine.args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("couldn't bind HTTP server socket, hostname: {address:?}"))?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    announce(&listener)?;
    let mut turn = workers.iter().cycle();
    loop {
        let Some(stream) = next_connection(&listener, &mut terminate).await else {
            drop(listener);
            wind_down(engine).await;
            return Ok(());
        };
        if engine.refuses_connection() {
            continue;
        }
        engine.stats.connections.fetch_add(1, Relaxed);
        // The peer may be gone already; the worker would notice it as well.
        let _ = stream.set_nodelay(true);
        let worker = turn.next().expect("there is at least one worker");
        worker.send(stream.into_std()?).await.context("a worker ended")?;
    }
}

fn announce(listener: &TcpListener) -> Result<()> {
    let address = listener.local_addr().context("asking for the bound address")?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {address}").context("printing the address")?;
    stdout.flush().context("printing the address")
}

/// `None` after SIGTERM.
async fn next_connection(listener: &TcpListener, terminate: &mut Signal) -> Option<TcpStream> {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => return Some(stream),
                // Out of descriptors, or the peer left the backlog: neither ends the engine.
                Err(_) => tokio::task::yield_now().await,
            },
            _ = terminate.recv() => return None,
        }
    }
}

/// Recorded: after SIGTERM the real engine decodes nothing more, leaves its streams hanging until the
/// next comment would be due, and ends them without a final event.
async fn wind_down(engine: &Engine) {
    engine.faults.hang_all.store(true, Relaxed);
    let linger = engine.args.ping.unwrap_or(Duration::from_secs(30));
    let deadline = tokio::time::Instant::now() + linger;
    while engine.slots.busy() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn serve(engine: Arc<Engine>, stream: TcpStream) {
    let mut wire = Wire::new(stream);
    let mut answers = 0_u32;
    loop {
        let Ok(request) = wire.read_request(|head| llama::classify(&engine, head)).await else {
            return;
        };
        engine.stats.requests.fetch_add(1, Relaxed);
        let last = request.last;
        match llama::answer(&engine, &mut wire, request).await {
            Ok(llama::Then::KeepOpen) if !last => {}
            Ok(_) => return,
            Err(Gone) => return engine.note_disconnect(),
        }
        answers += 1;
        if answers == engine.args.keep_alive_requests {
            return;
        }
    }
}
