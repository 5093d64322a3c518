//! The HTTP client that every adapter uses: one base URL, one optional key, pooled connections.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::EngineError;

/// Below the 5 s after which llama.cpp closes an idle connection, so that we let go first.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// For calls whose answer is one JSON document.
const CALL_LIMIT: Duration = Duration::from_secs(10);
const CALL_BYTES_MAX: usize = 8 << 20;
/// Stale connections of the pool that one call may meet before it has one that works.
const CALL_ATTEMPTS_MAX: u32 = 3;
/// Between an engine's last event and the end of its body, which it writes separately.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);

/// Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct EngineHttp {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
}

/// The key must not reach a log.
impl fmt::Debug for EngineHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.authorization.as_ref().map(|_| "…");
        f.debug_struct("EngineHttp").field("base", &self.base).field("key", &key).finish()
    }
}

impl EngineHttp {
    /// `base_url` is `http://host:port`. A key that cannot stand in a header is sent as none, and the
    /// server's 401 tells.
    #[must_use]
    pub fn new(base_url: &str, key: Option<&str>) -> Self {
        let mut connector = HttpConnector::new();
        // A token is a small write; with Nagle's algorithm and delayed acknowledgement it waits 40 ms.
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .build(connector);
        let authorization = key.and_then(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self { client, base: base_url.trim_end_matches('/').to_owned(), authorization }
    }

    /// Makes a call whose answer is one document of at most 8 MiB, within 10 s.
    ///
    /// For calls that may arrive twice: when the connection breaks before the answer it is repeated,
    /// because an engine that closes an idle connection cannot be told from one that lost the call.
    ///
    /// # Errors
    /// `Unreachable`, `Reset`, `Timeout` or `Protocol` (too long); any HTTP status is an answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(StatusCode, Bytes), EngineError> {
        let body = body.map(Bytes::from);
        let answer = async {
            let mut attempt = 1;
            loop {
                match self.stream(method.clone(), path, body.clone()).await {
                    Err(EngineError::Reset { .. }) if attempt < CALL_ATTEMPTS_MAX => attempt += 1,
                    Err(error) => return Err(error),
                    Ok((status, body)) => return Ok((status, collect(body).await?)),
                }
            }
        };
        within_call_limit(answer).await
    }

    /// Sends a request and resolves with the head of its answer; the body is the caller's to poll,
    /// and dropping it closes the connection. Waits for the head for as long as the caller does.
    ///
    /// # Errors
    /// `Unreachable` when no connection could be made, `Reset` when it broke.
    pub async fn stream(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, Incoming), EngineError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(host) = self.base.strip_prefix("http://") {
            request = request.header(HOST, host);
        }
        let request = request.body(Full::new(body.unwrap_or_default())).map_err(|it| {
            EngineError::Unreachable { message: format!("`{}` is no URL: {it}", self.base) }
        })?;
        let response = self.client.request(request).await.map_err(|error| {
            let message = chain(&error);
            if error.is_connect() {
                EngineError::Unreachable { message }
            } else {
                EngineError::Reset { message }
            }
        })?;
        let (head, body) = response.into_parts();
        Ok((head.status, body))
    }
}

async fn within_call_limit<T>(
    answer: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let limit_ms = u64::try_from(CALL_LIMIT.as_millis()).unwrap_or(u64::MAX);
    let limited = tokio::time::timeout(CALL_LIMIT, answer).await;
    limited.unwrap_or(Err(EngineError::Timeout { limit_ms }))
}

/// Reads a whole body of at most 8 MiB, within 10 s.
///
/// # Errors
/// `Protocol` when it is longer, `Reset` when it breaks off, `Timeout` when it does not end.
pub async fn collect(body: Incoming) -> Result<Bytes, EngineError> {
    within_call_limit(collect_bounded(body)).await
}

/// Gives a body's connection back to the pool. For a body of which only the end is missing; dropping
/// it there would close the connection whenever that end has not arrived yet.
pub fn release(body: Incoming) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    // On nobody's tracker: it ends within a second, and a shutdown that does not wait loses nothing.
    runtime.spawn(async {
        let rest = Limited::new(body, CALL_BYTES_MAX).collect();
        // Whatever comes instead of the end closes the connection, as it should.
        let _ = tokio::time::timeout(RELEASE_LIMIT, rest).await;
    });
}

async fn collect_bounded(body: Incoming) -> Result<Bytes, EngineError> {
    match Limited::new(body, CALL_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("an answer exceeds {CALL_BYTES_MAX} bytes");
            Err(EngineError::Protocol { message })
        }
        Err(error) => Err(EngineError::Reset { message: error.to_string() }),
    }
}

/// An error with its causes, which is where hyper says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        text = format!("{text}: {it}");
        cause = it.source();
    }
    text
}
