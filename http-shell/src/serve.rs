//! The accept loop and what bounds each connection.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::stall::StallGuard;

/// Bounds of one server. All of them hold per process, not per caller.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Largest request head that a handler ever sees, in bytes; at least 8192.
    /// A larger one is answered 431 without a body.
    pub header_bytes: usize,
    /// Longest wait for a complete request head, also on an idle kept-alive connection.
    pub header_timeout: Duration,
    /// Connections open at once; the next one waits in the listener's backlog.
    pub connections: usize,
    /// How long a peer may take no byte of what is sent to it.
    pub write_stall: Duration,
}

/// Serves until `stop` is cancelled; then accepts nothing more and lets open requests finish for at
/// most `drain`. Returns when every connection is closed.
pub async fn serve<S, B>(
    listeners: Vec<TcpListener>,
    service: S,
    limits: ServeLimits,
    stop: CancellationToken,
    drain: Duration,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let tracker = TaskTracker::new();
    let kill = CancellationToken::new();
    let permits = Arc::new(Semaphore::new(limits.connections));
    for listener in listeners {
        let (service, stop, kill) = (service.clone(), stop.clone(), kill.clone());
        let (permits, connections) = (Arc::clone(&permits), tracker.clone());
        tracker.spawn(async move {
            while let Some((stream, permit)) = accept(&listener, &permits, &stop).await {
                let connection = connection(stream, service.clone(), limits, stop.clone());
                let kill = kill.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = kill.cancelled() => {}
                    }
                    drop(permit);
                });
            }
        });
    }
    stop.cancelled().await;
    tracker.close();
    if tokio::time::timeout(drain, tracker.wait()).await.is_err() {
        kill.cancel();
        tracker.wait().await;
    }
}

/// The next connection, or `None` once `stop` is cancelled.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    loop {
        let next = async {
            let permit = Arc::clone(permits).acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        let (accepted, permit) = tokio::select! {
            next = next => next?,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok((stream, _)) => return Some((stream, permit)),
            Err(error) => {
                // Out of file descriptors, most likely: a pause lets some connection end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn connection<S, B>(
    stream: TcpStream,
    service: S,
    limits: ServeLimits,
    stop: CancellationToken,
) -> impl Future<Output = ()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send,
    B: Body + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // A token is a small write; with Nagle's algorithm and delayed acknowledgement it waits 40 ms.
    let nodelay = stream.set_nodelay(true);
    let io = TokioIo::new(StallGuard::new(stream, limits.write_stall));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes.max(8_192))
        .serve_connection(io, TowerToHyperService::new(service));
    async move {
        if let Err(error) = nodelay {
            tracing::debug!(%error, "connection closed before it was served");
            return;
        }
        let mut serving = std::pin::pin!(serving);
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "connection ended early");
        }
    }
}
