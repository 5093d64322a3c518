//! Calls to an engine that refuses in its own words.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{EngineBody, EngineError, EngineHttp, collect};

/// What an answer that is not 200 means.
type Refusal = fn(StatusCode, &[u8]) -> EngineError;

/// An [`EngineHttp`] whose answers are documents or streams, or refusals in the engine's own words.
#[derive(Debug)]
pub struct Calls {
    http: EngineHttp,
    refusal: Refusal,
}

impl Calls {
    /// `base_url` and `key` as for [`EngineHttp::new`].
    #[must_use]
    pub fn new(base_url: &str, key: Option<&str>, refusal: Refusal) -> Self {
        Self { http: EngineHttp::new(base_url, key), refusal }
    }

    /// The status alone, where that is the answer.
    ///
    /// # Errors
    /// As [`EngineHttp::call`].
    pub async fn ask(&self, path: &str) -> Result<(StatusCode, Bytes), EngineError> {
        self.http.call(Method::GET, path, None).await
    }

    /// The body of an answer, whatever it holds.
    ///
    /// # Errors
    /// As [`EngineHttp::call`], or the engine's refusal.
    pub async fn text(&self, path: &str) -> Result<Bytes, EngineError> {
        self.ask(path).await.and_then(|it| self.accepted(it))
    }

    /// # Errors
    /// As [`Self::text`], or `Protocol` for another document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        parse(&self.text(path).await?)
    }

    /// For calls that may arrive twice.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        ask: &Value,
    ) -> Result<T, EngineError> {
        let body = Some(ask.to_string().into_bytes());
        let answer = self.http.call(Method::POST, path, body).await?;
        parse(&self.accepted(answer)?)
    }

    /// Work that takes its time: within as long as the caller waits, and never asked for twice.
    ///
    /// # Errors
    /// As [`EngineHttp::work`], or the engine's refusal.
    pub async fn work(&self, path: &str, ask: &Value) -> Result<Bytes, EngineError> {
        let answer = self.http.work(path, ask.to_string().into_bytes()).await?;
        self.accepted(answer)
    }

    /// A stream that the engine has accepted; `id` as for [`EngineHttp::stream`].
    ///
    /// # Errors
    /// As there, or the engine's refusal.
    pub async fn stream(
        &self,
        path: &str,
        body: Bytes,
        id: &str,
    ) -> Result<EngineBody, EngineError> {
        let (status, body) = self.http.stream(Method::POST, path, Some(body), Some(id)).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err((self.refusal)(status, &collect(body).await?))
    }

    fn accepted(&self, (status, body): (StatusCode, Bytes)) -> Result<Bytes, EngineError> {
        if status == StatusCode::OK { Ok(body) } else { Err((self.refusal)(status, &body)) }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, EngineError> {
    serde_json::from_slice(body).map_err(|it| EngineError::protocol(&it, body))
}
