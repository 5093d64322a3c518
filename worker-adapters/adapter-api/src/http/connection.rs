//! One HTTP/1.1 connection to an engine, and the idle ones that wait for the next request.
//!
//! A connection has no task of its own: whoever waits for its answer polls it. All that has arrived is
//! then read in one go, and a token wakes one task instead of two.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::EngineError;

/// Below the 5 s after which llama.cpp closes an idle connection, so that we let go first.
const IDLE_MAX: Duration = Duration::from_secs(4);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    io: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
    closed: bool,
}

impl Connection {
    /// Connects to `host:port` within 2 s.
    pub(super) async fn open(address: &str) -> Result<Box<Self>, EngineError> {
        let unreachable = |message: String| EngineError::Unreachable { message };
        let connect = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address));
        let stream = connect
            .await
            .map_err(|_| unreachable(format!("no answer within {} ms", CONNECT_LIMIT.as_millis())))?
            .map_err(|it| unreachable(it.to_string()))?;
        // A token is a small write; with Nagle's algorithm and delayed acknowledgement it waits 40 ms.
        stream.set_nodelay(true).map_err(|it| unreachable(it.to_string()))?;
        let (sender, io) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|it| unreachable(it.to_string()))?;
        Ok(Box::new(Self { sender, io, closed: false }))
    }

    /// Reads and writes what the socket takes and gives; what follows from it is found by polling the
    /// answer or its body with [`Waker::noop`].
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.closed {
            // Why it ended is told to the answer or the body.
            self.closed = Pin::new(&mut self.io).poll(cx).is_ready();
        }
    }

    /// Sends a request and resolves with the head of its answer. A request of which nothing was
    /// written comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        std::future::poll_fn(|cx| {
            if !self.closed {
                self.closed = Pin::new(&mut self.io).poll(cx).is_ready();
            }
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Whether it can carry another request; it has none under way.
    fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.closed && self.sender.is_ready()
    }
}

/// Connections without a request, the one used last on top.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<(Instant, Box<Connection>)>,
    /// A task waits to close what stays idle for too long.
    swept: bool,
}

impl Pool {
    /// A connection that worked a moment ago. The engine may close it any time, as may any server.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
        loop {
            let (since, mut connection) = self.lock().connections.pop()?;
            if since.elapsed() < IDLE_MAX && connection.is_usable() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer has been read to its end, unless it cannot be used again.
    pub(super) fn keep(self: &Arc<Self>, mut connection: Box<Connection>) {
        if !connection.is_usable() {
            return;
        }
        let mut idle = self.lock();
        idle.connections.push((Instant::now(), connection));
        if idle.swept {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            idle.swept = true;
            // On nobody's tracker: it holds nothing that a shutdown would have to wait for.
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what has been idle for too long; returns when the next one will have been.
    fn close_stale(&self) -> Option<Instant> {
        let mut idle = self.lock();
        idle.connections.retain(|(since, _)| since.elapsed() < IDLE_MAX);
        let oldest = idle.connections.first().map(|(since, _)| *since + IDLE_MAX);
        idle.swept = oldest.is_some();
        oldest
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with the pool, or when nothing is idle.
async fn sweep(pool: Weak<Pool>) {
    let mut next = Instant::now() + IDLE_MAX;
    loop {
        tokio::time::sleep_until(next).await;
        match pool.upgrade().and_then(|it| it.close_stale()) {
            Some(at) => next = at,
            None => return,
        }
    }
}
