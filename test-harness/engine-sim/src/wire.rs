//! One connection: reads requests, collects what is to be written, and notices when the peer is gone.
//!
//! A peer that closes its sending side counts as gone, as it does for the real engine.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A request with a longer head is answered with nothing but the end of the connection.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of further requests that are read while an answer runs, only to notice the peer's end.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// The peer closed or reset the connection.
#[derive(Debug)]
pub(crate) struct Gone;

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    KeepOpen,
    Close,
}

pub(crate) struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of `input` that belong to the request under way.
    used: usize,
    /// What the next [`Wire::flush`] sends.
    pub(crate) out: Vec<u8>,
    /// Bytes per write; 0 for as many as possible.
    pub(crate) split: usize,
    timer: Pin<Box<Sleep>>,
}

/// A request whose body lies in the wire's input.
pub(crate) struct Received<T> {
    pub(crate) head: T,
    pub(crate) body: Range<usize>,
    /// The client will not send another request.
    pub(crate) last: bool,
}

struct Parsed<T> {
    head: T,
    head_len: usize,
    body_len: usize,
    last: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::with_capacity(4096),
            used: 0,
            out: Vec::with_capacity(4096),
            split: 0,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Forgets the previous request and reads the next. `classify` sees the parsed head.
    pub(crate) async fn read_request<T>(
        &mut self,
        classify: impl Fn(&httparse::Request<'_, '_>) -> T,
    ) -> Result<Received<T>, Gone> {
        self.input.drain(..self.used);
        self.used = 0;
        self.split = 0;
        let parsed = loop {
            match parse(&self.input, &classify)? {
                Some(parsed) => break parsed,
                None if self.input.len() > HEAD_BYTES_MAX => return Err(Gone),
                None => self.read_some().await?,
            }
        };
        let end = parsed.head_len + parsed.body_len;
        self.input.reserve(end.saturating_sub(self.input.len()));
        while self.input.len() < end {
            self.read_some().await?;
        }
        self.used = end;
        Ok(Received { head: parsed.head, body: parsed.head_len..end, last: parsed.last })
    }

    /// Bytes of the request under way.
    pub(crate) fn request_bytes(&self, range: Range<usize>) -> &[u8] {
        &self.input[range]
    }

    /// All bytes of the request under way, its head included.
    pub(crate) fn request(&self) -> &[u8] {
        &self.input[..self.used]
    }

    /// Sends what was collected.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        let step = if self.split == 0 { usize::MAX } else { self.split };
        let mut sent = 0;
        while sent < self.out.len() {
            let end = self.out.len().min(sent.saturating_add(step));
            match self.stream.try_write(&self.out[sent..end]) {
                Ok(written) => {
                    sent += written;
                    if self.split != 0 {
                        // Lets a reader on another core see the piece by itself.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await.map_err(|_| Gone)?;
                }
                Err(_) => return Err(Gone),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Waits until `deadline`, or less if the peer goes.
    pub(crate) async fn pause_until(&mut self, deadline: Instant) -> Result<(), Gone> {
        self.timer.as_mut().reset(deadline);
        poll_fn(|cx| {
            if self.poll_gone(cx) {
                return Poll::Ready(Err(Gone));
            }
            self.timer.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// Waits until `deadline`, whatever the peer does.
    pub(crate) async fn sleep_until(&mut self, deadline: Instant) {
        self.timer.as_mut().reset(deadline);
        self.timer.as_mut().await;
    }

    /// Waits for `ready`, or less if the peer goes.
    pub(crate) async fn while_present<T>(
        &mut self,
        ready: impl Future<Output = T>,
    ) -> Result<T, Gone> {
        let mut ready = std::pin::pin!(ready);
        poll_fn(|cx| {
            if self.poll_gone(cx) {
                return Poll::Ready(Err(Gone));
            }
            ready.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// Looks whether the peer is gone, without waiting.
    pub(crate) fn check_present(&mut self) -> Result<(), Gone> {
        let waker = std::task::Waker::noop();
        if self.poll_gone(&mut Context::from_waker(waker)) { Err(Gone) } else { Ok(()) }
    }

    /// Closes the sending side, leaving the other open.
    pub(crate) async fn close_sending_side(&mut self) {
        // A peer that is gone already has what the caller wants.
        let _ = self.stream.shutdown().await;
    }

    /// Makes the coming drop a reset instead of an orderly end.
    pub(crate) fn reset_on_drop(&self) {
        // Without the option the drop is an orderly end, and the test that asked for a reset fails.
        let _ = self.stream.set_zero_linger();
    }

    async fn read_some(&mut self) -> Result<(), Gone> {
        loop {
            self.stream.readable().await.map_err(|_| Gone)?;
            match self.try_read() {
                Ok(0) => return Err(Gone),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Gone),
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        while self.input.len() < self.used + READ_AHEAD_BYTES {
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => return true,
                Poll::Ready(Ok(())) => match self.try_read() {
                    Ok(0) => return true,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return true,
                },
            }
        }
        false
    }

    fn try_read(&mut self) -> io::Result<usize> {
        self.input.reserve(2048);
        self.stream.try_read_buf(&mut self.input)
    }
}

fn parse<T>(
    input: &[u8],
    classify: impl Fn(&httparse::Request<'_, '_>) -> T,
) -> Result<Option<Parsed<T>>, Gone> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(input) {
        Ok(httparse::Status::Complete(head_len)) => head_len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Gone),
    };
    let mut body_len = 0;
    let mut last = false;
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(|_| Gone)?;
            body_len = text.trim().parse().map_err(|_| Gone)?;
        } else if header.name.eq_ignore_ascii_case("connection") {
            last = header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            // Every client here knows the length of what it sends.
            return Err(Gone);
        }
    }
    if body_len > BODY_BYTES_MAX {
        return Err(Gone);
    }
    Ok(Some(Parsed { head: classify(&request), head_len, body_len, last }))
}
