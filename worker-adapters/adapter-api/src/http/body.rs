//! The body of an engine's answer, with the connection that it comes over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::connection::{Connection, Pool};

/// Between an engine's last event and the end of its body, which it may write separately.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);
/// More than an end can be.
const RELEASE_BYTES_MAX: usize = 64 << 10;

/// Dropping it before its end closes the connection, which is how an engine is told to stop.
pub struct EngineBody {
    body: Incoming,
    /// Taken at the end.
    connection: Option<Box<Connection>>,
    pool: Arc<Pool>,
}

impl EngineBody {
    pub(super) fn new(body: Incoming, connection: Box<Connection>, pool: Arc<Pool>) -> Self {
        Self { body, connection: Some(connection), pool }
    }

    /// Gives the connection back to the pool. For a body of which only the end is missing; dropping it
    /// there would close the connection whenever that end has not arrived yet.
    pub fn release(mut self) {
        match Pin::new(&mut self).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(None) => {}
            Poll::Ready(Some(_)) | Poll::Pending => {
                let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
                // On nobody's tracker: it ends within a second, and a shutdown that does not wait
                // loses nothing.
                runtime.spawn(async {
                    let rest = Limited::new(self, RELEASE_BYTES_MAX).collect();
                    // Whatever comes instead of the end closes the connection, as it should.
                    let _ = tokio::time::timeout(RELEASE_LIMIT, rest).await;
                });
            }
        }
    }
}

impl Body for EngineBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
        connection.drive(cx);
        // Only the connection can give it more, and that wakes this task.
        let frame = Pin::new(&mut this.body).poll_frame(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(None) = frame
            && let Some(connection) = this.connection.take()
        {
            this.pool.keep(connection);
        }
        frame
    }
}
