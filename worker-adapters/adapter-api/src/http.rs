//! The HTTP client that every adapter uses: one base URL, one optional key, pooled connections.

mod body;
mod connection;
mod framing;
mod head;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};

pub use body::{BodyError, EngineBody};
use connection::{Connection, Pool};

use crate::EngineError;

/// For calls whose answer is one JSON document.
const CALL_LIMIT: Duration = Duration::from_secs(10);
const CALL_BYTES_MAX: usize = 8 << 20;
const WORK_BYTES_MAX: usize = 64 << 20;
/// Stale connections of the pool that one call may meet before it has one that works.
const CALL_ATTEMPTS_MAX: u32 = 3;
/// Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct EngineHttp {
    pool: Arc<Pool>,
    base: Result<Base, EngineError>,
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
        let authorization = key.and_then(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self { pool: Arc::default(), base: Base::parse(base_url), authorization }
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
                match self.stream(method.clone(), path, body.clone(), None).await {
                    Err(EngineError::Reset { .. }) if attempt < CALL_ATTEMPTS_MAX => attempt += 1,
                    Err(error) => return Err(error),
                    Ok((status, body)) => return Ok((status, collect(body).await?)),
                }
            }
        };
        within_call_limit(answer).await
    }

    /// As [`Self::call`] for work that takes its time: an answer of at most 64 MiB, within as long as
    /// the caller waits, and never asked for twice.
    ///
    /// # Errors
    /// As there.
    pub async fn work(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), EngineError> {
        let (status, body) = self.stream(Method::POST, path, Some(body.into()), None).await?;
        Ok((status, collect_bounded(body, WORK_BYTES_MAX).await?))
    }

    /// Sends a request and resolves with the head of its answer; the body is the caller's to poll,
    /// and dropping it closes the connection. Waits for the head for as long as the caller does.
    /// `request_id` goes along as `X-Request-Id`, for the engine's log.
    ///
    /// # Errors
    /// `Unreachable` when no connection could be made, `Reset` when it broke.
    pub async fn stream(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        request_id: Option<&str>,
    ) -> Result<(StatusCode, EngineBody), EngineError> {
        let base = self.base.as_ref().map_err(Clone::clone)?;
        let body_bytes = body.as_ref().map(Bytes::len);
        let head = self.head(base, &method, path, request_id, body_bytes)?;
        let mut connection = match self.pool.take() {
            Some(connection) => connection,
            None => Connection::open(&base.address).await?,
        };
        let head = connection.send(head, body.unwrap_or_default()).await?;
        let pool = head.keeps.then(|| Arc::clone(&self.pool));
        Ok((head.status, EngineBody::new(head.framing, connection, pool)))
    }

    fn head(
        &self,
        base: &Base,
        method: &Method,
        path: &str,
        request_id: Option<&str>,
        body_bytes: Option<usize>,
    ) -> Result<Vec<u8>, EngineError> {
        let path = format!("{}{path}", base.prefix);
        if !path.bytes().all(|it| it.is_ascii_graphic()) {
            let message = format!("`{path}` is no path of a URL");
            return Err(EngineError::Unreachable { message });
        }
        let mut headers = vec![("host", base.address.as_bytes())];
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization", authorization.as_bytes()));
        }
        let printable = |it: &&str| it.bytes().all(|byte| byte.is_ascii_graphic());
        if let Some(request_id) = request_id.filter(printable) {
            headers.push(("x-request-id", request_id.as_bytes()));
        }
        Ok(head::request(method, &path, &headers, body_bytes))
    }
}

/// Where an engine is.
#[derive(Debug, Clone)]
struct Base {
    /// `host:port`.
    address: String,
    /// What stands before every path; often nothing.
    prefix: String,
}

impl Base {
    fn parse(url: &str) -> Result<Self, EngineError> {
        let unusable = |why: &str| {
            Err(EngineError::Unreachable { message: format!("`{url}` is no engine's URL: {why}") })
        };
        let uri: Uri = match url.trim_end_matches('/').parse() {
            Ok(uri) => uri,
            Err(error) => return unusable(&format!("{error}")),
        };
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) => Ok(Self {
                address: format!("{host}:{}", uri.port_u16().unwrap_or(80)),
                prefix: uri.path().trim_end_matches('/').to_owned(),
            }),
            _ => unusable("expected http://host:port"),
        }
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
pub async fn collect(body: EngineBody) -> Result<Bytes, EngineError> {
    within_call_limit(collect_bounded(body, CALL_BYTES_MAX)).await
}

async fn collect_bounded(body: EngineBody, bytes_max: usize) -> Result<Bytes, EngineError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("an answer exceeds {bytes_max} bytes");
            Err(EngineError::Protocol { message })
        }
        Err(error) => Err(EngineError::Reset { message: error.to_string() }),
    }
}

#[cfg(test)]
mod tests;
