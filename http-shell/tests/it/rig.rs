//! A server in this process, and a peer that may do with its socket what it likes.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_shell::{ServeLimits, serve};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Bounds that no test runs into by accident.
pub(crate) const WIDE: ServeLimits = ServeLimits {
    header_bytes: 8_192,
    header_timeout: Duration::from_secs(60),
    connections: 100,
    write_stall: Duration::from_secs(60),
};

/// Answers `/` at once, `/gate` once the gate is open, and `/endless` without end.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) gate: CancellationToken,
    /// The path of each request that has reached a handler.
    pub(crate) handled: Receiver<String>,
    /// One for each body that the server has let go of.
    pub(crate) dropped: Receiver<()>,
    /// After `serve` has returned.
    pub(crate) ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(limits: ServeLimits, drain: Duration) -> Self {
        let (stop, gate) = (CancellationToken::new(), CancellationToken::new());
        let (handled_by, handled) = sync_channel(100);
        let (dropped_by, dropped) = sync_channel(100);
        let (ended_by, ended) = sync_channel(1);
        let (bound, address) = sync_channel(1);
        let (stopped, open) = (stop.clone(), gate.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let loopback = "127.0.0.1:0".parse().unwrap();
                let listeners = http_shell::bind(&[(loopback, true)]).await.unwrap();
                bound.send(listeners[0].local_addr().unwrap()).unwrap();
                let service = tower::service_fn(move |request: Request<Incoming>| {
                    let path = request.uri().path().to_owned();
                    handled_by.send(path.clone()).unwrap();
                    answer(path, open.clone(), Told(dropped_by.clone()))
                });
                serve(listeners, service, limits, stopped, drain).await;
            });
            let _finished_test = ended_by.send(());
        });
        let address = address.recv().unwrap();
        Self { address, stop, gate, handled, dropped, ended, thread: Some(thread) }
    }

    pub(crate) fn peer(&self) -> Peer {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Peer { socket }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gate.cancel();
        self.stop.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|it| it.is_ok()));
    }
}

async fn answer(
    path: String,
    gate: CancellationToken,
    told: Told,
) -> Result<Response<Answer>, Infallible> {
    let rest = match path.as_str() {
        "/endless" => Rest::Endless,
        "/gate" => {
            gate.cancelled().await;
            Rest::Text
        }
        _ => Rest::Text,
    };
    Ok(Response::new(Answer { rest, _told: told }))
}

struct Answer {
    rest: Rest,
    _told: Told,
}

enum Rest {
    Text,
    Endless,
    Nothing,
}

struct Told(SyncSender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _finished_test = self.0.try_send(());
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.rest {
            Rest::Text => {
                self.rest = Rest::Nothing;
                Some(Bytes::from_static(b"done"))
            }
            Rest::Endless => Some(Bytes::from_static(&[b'x'; 1 << 16])),
            Rest::Nothing => None,
        };
        Poll::Ready(frame.map(|it| Ok(Frame::data(it))))
    }
}

pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
}

impl Peer {
    pub(crate) fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn ask(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }

    /// The next whole answer.
    pub(crate) fn answer(&mut self) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"done\r\n0\r\n\r\n") {
            self.socket.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    /// Whatever comes until the server closes, which a reset does as well.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = Vec::new();
        let read = self.socket.read_to_end(&mut text);
        let open = read.is_err_and(|it| it.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!open, "the server keeps the connection");
        String::from_utf8(text).unwrap()
    }

    /// Whether nothing comes for `span`.
    pub(crate) fn is_silent_for(&mut self, span: Duration) -> bool {
        self.socket.set_read_timeout(Some(span)).unwrap();
        let peeked = self.socket.peek(&mut [0]);
        self.socket.set_read_timeout(Some(LIMIT)).unwrap();
        peeked.is_err_and(|it| it.kind() == std::io::ErrorKind::WouldBlock)
    }
}
