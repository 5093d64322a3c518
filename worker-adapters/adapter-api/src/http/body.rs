//! The body of an engine's answer, with the connection that it comes over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Limited};

use super::connection::{Connection, Pool};
use super::framing::Framing;

/// Between an engine's last event and the end of its body, which it may write separately.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);
/// More than an end can be.
const RELEASE_BYTES_MAX: usize = 64 << 10;

/// Dropping it before its end closes the connection, which is how an engine is told to stop.
pub struct EngineBody {
    framing: Framing,
    /// Taken at the end.
    connection: Option<Connection>,
    /// Where the connection goes then, if it can be used again.
    pool: Option<Arc<Pool>>,
    /// Found behind good bytes of the same read, and told after them.
    failure: Option<String>,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(String);

impl EngineBody {
    pub(super) fn new(framing: Framing, connection: Connection, pool: Option<Arc<Pool>>) -> Self {
        Self { framing, connection: Some(connection), pool, failure: None }
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

    /// Reads once; `None` at the end. What it returns may be empty.
    fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, BodyError>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        if let Some(message) = self.failure.take() {
            return Poll::Ready(Some(Err(BodyError(message))));
        }
        if self.framing.is_done() {
            return self.end();
        }
        let framing = &mut self.framing;
        let mut out = Vec::new();
        let mut decoded = Ok(0);
        let read = connection.poll_read(cx, |arrived| {
            out.reserve(arrived.len());
            decoded = framing.decode(arrived, &mut out);
        });
        let broken = |message: String| Poll::Ready(Some(Err(BodyError(message))));
        let (arrived, taken) = match (ready!(read), decoded) {
            (Err(error), _) => return broken(error.to_string()),
            (Ok(_), Err(message)) if out.is_empty() => return broken(message),
            (Ok(arrived), Err(message)) => {
                self.failure = Some(message);
                (arrived, arrived)
            }
            (Ok(0), Ok(_)) if framing.ends_by_close() => {
                self.pool = None;
                return self.end();
            }
            (Ok(0), Ok(_)) => return broken("the connection was closed before the end".into()),
            (Ok(arrived), Ok(taken)) => (arrived, taken),
        };
        if taken < arrived {
            // Something stands behind the end: nobody knows what the next answer would be.
            self.pool = None;
        }
        Poll::Ready(Some(Ok(out)))
    }

    fn end(&mut self) -> Poll<Option<Result<Vec<u8>, BodyError>>> {
        if let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.take()) {
            pool.keep(connection);
        }
        Poll::Ready(None)
    }
}

impl Body for EngineBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match ready!(self.poll_some(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(bytes) => return Poll::Ready(Some(bytes.map(|it| Frame::data(it.into())))),
            }
        }
    }
}
