//! Threads, listeners and the life of a connection.
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
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::args::Dialect;
use crate::engine::Engine;
use crate::http::Ask;
use crate::live::Reason;
use crate::wire::{Gone, Received, Then, Wire};
use crate::{llama, tgi, triton, vllm};

/// Accepted connections a worker has not taken up yet. Past it the acceptor waits, and the kernel's
/// backlog holds the rest.
const HANDOVER_CONNECTIONS: usize = 256;
/// Between two looks at whether the last stream has ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// Long enough to write the last events of streams that were aborted.
const ABORT_GRACE: Duration = Duration::from_secs(2);

/// Serves until SIGTERM, or until the engine died.
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

async fn accept(engine: &Arc<Engine>, workers: &[mpsc::Sender<std::net::TcpStream>]) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    // Only llama-server listens while it loads, and Triton if nothing is to be loaded yet.
    if engine.args.dialect != Dialect::LlamaCpp && engine.model_loaded.load(Relaxed) {
        tokio::select! {
            () = tokio::time::sleep(engine.args.load) => {}
            _ = terminate.recv() => return Ok(()),
        }
    }
    let listener = listen(&engine.args.host, engine.args.port, "listening on").await?;
    let metrics = metrics(Arc::clone(engine)).await?;
    let mut metrics = std::pin::pin!(metrics);
    let mut death = std::pin::pin!(engine.death());
    let mut turn = workers.iter().cycle();
    loop {
        let stream = tokio::select! {
            stream = next_connection(&listener, &mut terminate) => stream,
            () = &mut death => return Ok(()),
            () = &mut metrics => return Ok(()),
        };
        let Some(stream) = stream else {
            drop(listener);
            tokio::select! {
                () = wind_down(engine) => {}
                () = &mut metrics => {}
            }
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

/// Binds the port that only Triton has; what is returned serves it and never ends.
async fn metrics(engine: Arc<Engine>) -> Result<impl Future<Output = ()>> {
    let own = &engine.args.triton;
    let listener = match engine.args.dialect {
        Dialect::Triton => Some(listen(&own.metrics_host, own.metrics_port, "metrics on").await?),
        Dialect::LlamaCpp | Dialect::Vllm | Dialect::Tgi => None,
    };
    Ok(async move {
        match listener {
            Some(listener) => triton::metrics::serve(engine, listener).await,
            None => std::future::pending().await,
        }
    })
}

/// Binds, and says so on stdout.
async fn listen(host: &str, port: u16, what: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind((host, port))
        .await
        .with_context(|| format!("couldn't bind HTTP server socket, hostname: {host}:{port}"))?;
    let address = listener.local_addr().context("asking for the bound address")?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{what} {address}").context("printing the address")?;
    stdout.flush().context("printing the address")?;
    Ok(listener)
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

/// Ends the streams as the engine does after SIGTERM.
async fn wind_down(engine: &Engine) {
    let linger = match engine.args.dialect {
        // Recorded: it decodes nothing more, leaves its streams hanging until the next comment would
        // be due, and ends them without a final event.
        Dialect::LlamaCpp => {
            engine.faults.hang_all.store(true, Relaxed);
            engine.args.ping.unwrap_or(Duration::from_secs(30))
        }
        Dialect::Vllm if engine.args.drain.is_zero() => {
            engine.live.interrupt(Reason::Abort, |_| true);
            ABORT_GRACE
        }
        Dialect::Vllm | Dialect::Tgi | Dialect::Triton => engine.args.drain,
    };
    let deadline = Instant::now() + linger;
    while engine.slots.busy() > 0 && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// A request's head as the dialect wants it.
enum Head {
    Llama(llama::Head),
    Other(Ask),
}

impl Head {
    fn of(engine: &Engine, head: &httparse::Request<'_, '_>) -> Self {
        match engine.args.dialect {
            Dialect::LlamaCpp => Self::Llama(llama::classify(engine, head)),
            Dialect::Vllm | Dialect::Tgi | Dialect::Triton => Self::Other(Ask::of(head)),
        }
    }
}

async fn serve(engine: Arc<Engine>, stream: TcpStream) {
    let mut wire = Wire::new(stream);
    let mut answers = 0_u32;
    loop {
        let Ok(request) = wire.read_request(|head| Head::of(&engine, head)).await else {
            return;
        };
        engine.stats.requests.fetch_add(1, Relaxed);
        let last = request.last;
        match answer(&engine, &mut wire, request).await {
            Ok(Then::KeepOpen) if !last => {}
            Ok(_) => return,
            Err(Gone) => return engine.note_disconnect(),
        }
        answers += 1;
        if answers == engine.args.keep_alive_requests {
            return;
        }
    }
}

async fn answer(engine: &Engine, wire: &mut Wire, request: Received<Head>) -> Result<Then, Gone> {
    match request.head {
        Head::Llama(head) => llama::answer(engine, wire, head, request.body).await,
        Head::Other(ask) => {
            let ask = Ask { body: request.body, ..ask };
            match engine.args.dialect {
                Dialect::LlamaCpp => unreachable!("its heads are of their own kind"),
                Dialect::Vllm => vllm::answer(engine, wire, ask).await,
                Dialect::Tgi => tgi::answer(engine, wire, ask).await,
                Dialect::Triton => triton::answer(engine, wire, ask).await,
            }
        }
    }
}
