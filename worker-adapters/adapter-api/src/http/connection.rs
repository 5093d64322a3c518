//! One HTTP/1.1 connection to an engine, and the idle ones that wait for the next request.
//!
//! A connection has no task and keeps no buffer: whoever waits for its answer polls it, and bytes are
//! read into one buffer per thread. A token then wakes one task, and an open stream costs little more
//! than its socket (`.docs/decisions/0006-what-a-relay-costs.md`).

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::head::{self, Head};
use crate::EngineError;

/// Below the 5 s after which llama.cpp closes an idle connection, so that we let go first.
const IDLE_MAX: Duration = Duration::from_secs(4);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Read at once. Larger than what a socket usually holds, so that a short read says that it is empty.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

pub(super) struct Connection {
    stream: TcpStream,
    /// What was read together with a head and belongs behind it.
    unread: Vec<u8>,
}

impl Connection {
    /// Connects to `host:port` within 2 s.
    pub(super) async fn open(address: &str) -> Result<Self, EngineError> {
        let unreachable = |message: String| EngineError::Unreachable { message };
        let connect = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address));
        let stream = connect
            .await
            .map_err(|_| unreachable(format!("no answer within {} ms", CONNECT_LIMIT.as_millis())))?
            .map_err(|it| unreachable(it.to_string()))?;
        // A token is a small write; with Nagle's algorithm and delayed acknowledgement it waits 40 ms.
        stream.set_nodelay(true).map_err(|it| unreachable(it.to_string()))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Sends a request and resolves with the head of its answer; what came behind it is kept.
    pub(super) async fn send(&mut self, head: Vec<u8>, body: Bytes) -> Result<Head, EngineError> {
        let reset = |message: String| EngineError::Reset { message };
        let mut request = Bytes::from(head).chain(body);
        self.stream.write_all_buf(&mut request).await.map_err(|it| reset(it.to_string()))?;
        let mut partial = Vec::new();
        loop {
            let mut found = Ok(None);
            let read = std::future::poll_fn(|cx| {
                self.poll_read(cx, |arrived| found = answer(&mut partial, arrived))
            });
            if read.await.map_err(|it| reset(it.to_string()))? == 0 {
                return Err(reset("the connection was closed before an answer".into()));
            }
            if let Some((head, rest)) =
                found.map_err(|message| EngineError::Protocol { message })?
            {
                self.unread = rest;
                return Ok(head);
            }
        }
    }

    /// Hands over what has arrived and tells how much it was; 0 at the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            take(&unread);
            return Poll::Ready(Ok(unread.len()));
        }
        READ.with_borrow_mut(|bytes| {
            let mut buffer = ReadBuf::new(bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            take(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Whether it can carry another request; it has none under way. A byte that nobody asked for is as
    /// bad as an end.
    fn is_usable(&mut self) -> bool {
        self.poll_read(&mut Context::from_waker(Waker::noop()), |_| {}).is_pending()
    }
}

/// The head of the answer and what stands behind it, once it is there whole; interim answers are
/// skipped. `partial` is what came of it before.
fn answer(partial: &mut Vec<u8>, arrived: &[u8]) -> Result<Option<(Head, Vec<u8>)>, String> {
    let whole = partial.is_empty();
    if !whole {
        partial.extend_from_slice(arrived);
    }
    let mut bytes = if whole { arrived } else { &partial[..] };
    while let Some(head) = head::parse(bytes)? {
        bytes = &bytes[head.length..];
        if !head.status.is_informational() {
            return Ok(Some((head, bytes.to_vec())));
        }
    }
    *partial = bytes.to_vec();
    Ok(None)
}

/// Connections without a request, the one used last on top.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<(Instant, Connection)>,
    /// A task waits to close what stays idle for too long.
    swept: bool,
}

impl Pool {
    /// A connection that worked a moment ago. The engine may close it any time, as may any server.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.lock().connections.pop()?;
            if since.elapsed() < IDLE_MAX && connection.is_usable() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer has been read to its end, unless it cannot be used again.
    pub(super) fn keep(self: &Arc<Self>, mut connection: Connection) {
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
