//! One reader's view of a stream, as an HTTP response body.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api_types::{DisconnectReason, Disconnected};
use bytes::Bytes;
use http_body::{Body, Frame};
use journal::JournalError;
use prometheus::IntGauge;
use tokio::time::{Instant, Sleep, sleep_until};

use super::frame;
use super::log::Next;
use crate::task::TaskRecord;

/// Copied to the connection at once, or one event if it is larger. Larger chunks would only sit in its write buffer.
const CHUNK_BYTES: usize = 16 << 10;

type ReadingBack = Pin<Box<dyn Future<Output = Result<(Bytes, u64), JournalError>> + Send>>;

#[derive(Debug, Clone, Copy)]
pub(crate) struct ReaderConfig {
    pub(crate) heartbeat: Duration,
    /// How far the stream may run ahead while this reader is stalled, in bytes.
    pub(crate) lag_bytes: usize,
}

/// Hands out everything there is at each poll, then waits for more.
///
/// A reader that stalls costs nothing but its position: the log belongs to the task, so neither the
/// engine nor other readers wait. If the stream runs `lag_bytes` ahead meanwhile, the reader is told
/// `disconnected` and may come back with `Last-Event-ID`.
pub(crate) struct Reader {
    record: Arc<TaskRecord>,
    config: ReaderConfig,
    /// The last event that was handed out.
    seen: u64,
    /// Older events, on their way from the journal.
    past: Option<ReadingBack>,
    /// Bytes of the stream when this reader was last polled; what grew since then grew while it
    /// stalled. A replay from the start is no stall.
    seen_bytes: usize,
    /// At the last poll this reader had everything, or waited for the journal: what came since is no
    /// stall of its own.
    kept_waiting: bool,
    /// Version of the last `queued` event this reader got.
    seen_queued: u64,
    /// The last `metrics` event this reader got.
    seen_metrics: Option<Instant>,
    first: Option<Bytes>,
    heartbeat: Pin<Box<Sleep>>,
    last_sent: Instant,
    done: bool,
    /// Counts open readers.
    open: IntGauge,
}

impl Reader {
    /// Goes on after event `seen`. `first` is a `queued` event to send before everything else, in place
    /// of the task's current one.
    pub(crate) fn new(
        record: Arc<TaskRecord>,
        seen: u64,
        first: Option<Bytes>,
        config: ReaderConfig,
        open: IntGauge,
    ) -> Self {
        open.inc();
        let (seen_bytes, queued_version) = record.joined();
        let last_sent = Instant::now();
        let heartbeat = Box::pin(sleep_until(last_sent + config.heartbeat));
        Self {
            record,
            config,
            seen,
            past: None,
            seen_bytes,
            kept_waiting: false,
            seen_queued: if first.is_some() { queued_version } else { 0 },
            seen_metrics: None,
            first,
            heartbeat,
            last_sent,
            done: false,
            open,
        }
    }

    fn next_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if let Some(past) = &mut self.past {
            self.kept_waiting = true;
            let read = ready!(past.as_mut().poll(cx));
            self.past = None;
            return Poll::Ready(Some(self.take_past(read)));
        }
        let mut stream = self.record.lock();
        let bytes = stream.log.bytes_shown();
        if std::mem::take(&mut self.kept_waiting) {
            self.seen_bytes = bytes;
        }
        let stalled = bytes - self.seen_bytes.min(bytes);
        self.seen_bytes = bytes;
        if self.config.lag_bytes < stalled {
            self.done = true;
            return Poll::Ready(Some(disconnected(DisconnectReason::SlowReader)));
        }
        // Whole events, so that `disconnected` never lands inside one.
        match stream.log.next(self.seen, CHUNK_BYTES) {
            Next::Events(events, last) => {
                let chunk = Bytes::copy_from_slice(events);
                self.seen = last;
                return Poll::Ready(Some(chunk));
            }
            Next::Past => {
                drop(stream);
                self.past = Some(Box::pin(Arc::clone(&self.record).read_back(self.seen)));
                return self.next_chunk(cx);
            }
            Next::Nothing => {}
        }
        if stream.suspended {
            self.done = true;
            return Poll::Ready(Some(disconnected(DisconnectReason::Shutdown)));
        }
        if stream.log.is_over() {
            return Poll::Ready(None);
        }
        if let Some((version, queued)) = stream.queued_after(self.seen_queued) {
            self.seen_queued = version;
            return Poll::Ready(Some(queued));
        }
        // Only to a reader that has everything else: what is late may well be left out.
        if let Some((at, metrics)) = stream.metrics_after(self.seen_metrics) {
            self.seen_metrics = Some(at);
            return Poll::Ready(Some(metrics));
        }
        stream.wait(cx.waker());
        self.kept_waiting = true;
        Poll::Pending
    }

    fn take_past(&mut self, read: Result<(Bytes, u64), JournalError>) -> Bytes {
        let reason = match read {
            Ok((events, last)) if self.seen < last => {
                self.seen = last;
                return events;
            }
            Ok(_) => "they are no longer kept".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(task_id = %self.record.id, after = self.seen, reason, "events cannot be read back");
        self.done = true;
        disconnected(DisconnectReason::Unreadable)
    }

    /// The timer is moved only when it fires: a busy stream never touches the timer wheel.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            if self.heartbeat.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let due = self.last_sent + self.config.heartbeat;
            if due <= now {
                self.last_sent = now;
                self.heartbeat.as_mut().reset(now + self.config.heartbeat);
                return Poll::Ready(Bytes::from_static(frame::HEARTBEAT));
            }
            self.heartbeat.as_mut().reset(due);
        }
    }
}

fn disconnected(reason: DisconnectReason) -> Bytes {
    let mut out = Vec::new();
    let data = Disconnected { reason, retriable: true };
    frame::write(&mut out, None, "disconnected", &data);
    out.into()
}

impl Body for Reader {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.done {
            return Poll::Ready(None);
        }
        match self.next_chunk(cx) {
            Poll::Ready(Some(chunk)) => {
                self.last_sent = Instant::now();
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Poll::Ready(None) => {
                self.done = true;
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_heartbeat(cx).map(|it| Some(Ok(Frame::data(it)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.open.dec();
        self.record.left();
    }
}
