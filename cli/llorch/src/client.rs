//! Calls to orchestratord, and its errors in words.

use anyhow::{Context, anyhow};
use api_types::{DrainRequest, ErrorEnvelope};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};
use uuid::Uuid;

#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    bearer: Option<String>,
}

impl Client {
    pub(crate) fn new(url: &str, key: Option<&str>) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).build();
        Self {
            agent: config.into(),
            url: url.trim_end_matches('/').to_owned(),
            bearer: key.map(|it| format!("Bearer {it}")),
        }
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let mut response = self.open(path, "application/json")?;
        response.body_mut().read_json().with_context(|| format!("reading {path}"))
    }

    /// A GET whose body the caller reads.
    pub(crate) fn open(&self, path: &str, accept: &str) -> anyhow::Result<Response<Body>> {
        self.checked(self.sent(path, accept))
    }

    /// As [`Self::open`]; the inner error: nobody answers, or only for a moment not.
    pub(crate) fn try_open(
        &self,
        path: &str,
        accept: &str,
    ) -> anyhow::Result<Result<Response<Body>, ureq::Error>> {
        match self.sent(path, accept) {
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                Ok(Err(ureq::Error::StatusCode(response.status().as_u16())))
            }
            Ok(response) => self.checked(Ok(response)).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    fn sent(&self, path: &str, accept: &str) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(format!("{}{path}", self.url)).header("accept", accept);
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        request.call()
    }

    pub(crate) fn post(
        &self,
        path: &str,
        accept: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<Response<Body>> {
        let mut request = self.agent.post(format!("{}{path}", self.url)).header("accept", accept);
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        self.checked(request.send_json(body))
    }

    pub(crate) fn cancel(&self, task: Uuid) -> anyhow::Result<()> {
        self.post(&format!("/v1/tasks/{task}/cancel"), "*/*", &serde_json::json!({}))?;
        Ok(())
    }

    pub(crate) fn drain(&self, pool: &str, deadline_ms: u64) -> anyhow::Result<()> {
        self.post(&format!("/v1/pools/{pool}/drain"), "*/*", &DrainRequest { deadline_ms })?;
        Ok(())
    }

    pub(crate) fn reload(&self, pool: &str, model: Option<String>) -> anyhow::Result<()> {
        let body = serde_json::json!({"model_ref": model});
        self.post(&format!("/v1/pools/{pool}/reload"), "*/*", &body)?;
        Ok(())
    }

    pub(crate) fn undrain(&self, pool: &str) -> anyhow::Result<()> {
        self.post(&format!("/v1/pools/{pool}/undrain"), "*/*", &serde_json::json!({}))?;
        Ok(())
    }

    fn checked(&self, sent: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Response<Body>> {
        let mut response = sent.with_context(|| {
            format!("no answer from {}; does orchestratord run? (`cargo xtask up`)", self.url)
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let envelope: ErrorEnvelope = response
            .body_mut()
            .read_json()
            .with_context(|| format!("{} answered {status} in no form we know", self.url))?;
        Err(told(&envelope))
    }
}

/// An error envelope as one sentence.
pub(crate) fn told(error: &ErrorEnvelope) -> anyhow::Error {
    let again = match error.retry_after_ms {
        Some(ms) => format!(" (try again in {} s)", ms.div_ceil(1_000)),
        None => String::new(),
    };
    anyhow!("{}: {}{again}", error.code.as_str(), error.message)
}
