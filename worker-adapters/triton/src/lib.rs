//! Adapter for Triton Inference Server: its generate extension, for the models whose inputs and
//! outputs a [`Fields`] names. Facts about the protocol are from the server's own behaviour, 2.51.0;
//! about the vLLM and TensorRT-LLM backends, from their sources.
//!
//! Always streamed: the server never notices that a caller of the plain route has gone.

mod errors;
mod fields;
mod frames;
mod request;

use adapter_api::{
    Adapter, BoxFuture, ChatMessage, Embeddings, EngineError, EngineHttp, EngineKind, Features,
    Generate, Generation, Health, Load, Prompt, Properties, SETTINGS, Scores, SseGeneration,
    collect, retry,
};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use crate::fields::{Fields, Settings};
use crate::frames::GenerateFrames;

/// One model of one server.
#[derive(Debug)]
pub struct Triton {
    http: EngineHttp,
    model: String,
    fields: Fields,
}

impl Triton {
    /// `base_url` is `http://host:port`; `model` is the name in the server's repository.
    #[must_use]
    pub fn new(base_url: &str, key: Option<&str>, model: &str, fields: Fields) -> Self {
        Self { http: EngineHttp::new(base_url, key), model: model.to_owned(), fields }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        let (status, body) = self.http.call(Method::GET, path, None).await?;
        if status != StatusCode::OK {
            return Err(errors::from_answer(status, &body));
        }
        serde_json::from_slice(&body).map_err(|it| EngineError::protocol(&it, &body))
    }

    /// Readiness has no body, and is told with 400 for not being so.
    async fn is_ready(&self, path: &str) -> Result<bool, EngineError> {
        let (status, body) = self.http.call(Method::GET, path, None).await?;
        match status {
            StatusCode::OK => Ok(true),
            StatusCode::BAD_REQUEST => Ok(false),
            other => Err(errors::from_answer(other, &body)),
        }
    }

    async fn start(
        &self,
        request: &Generate,
        body: Bytes,
    ) -> Result<Box<dyn Generation>, EngineError> {
        let path = format!("/v2/models/{}/generate_stream", self.model);
        let (status, answer) = self
            .http
            .stream(Method::POST, &path, Some(body), Some(&request.correlation_id))
            .await?;
        if status != StatusCode::OK {
            return Err(errors::from_answer(status, &collect(answer).await?));
        }
        let frames = GenerateFrames::new(&self.fields, request.max_tokens);
        Ok(Box::new(SseGeneration::new(answer, frames, request.stop.clone())))
    }
}

fn unsupported(what: &str) -> EngineError {
    EngineError::Unsupported { message: format!("Triton has no {what}") }
}

impl Adapter for Triton {
    fn kind(&self) -> EngineKind {
        EngineKind::Triton
    }

    fn features(&self) -> Features {
        let takes = |it: &&str| self.fields.settings.takes(it);
        let settings = SETTINGS.into_iter().filter(takes).collect();
        Features { settings, ..Features::default() }
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, EngineError>> {
        Box::pin(async {
            let model = format!("/v2/models/{}/ready", self.model);
            let ready = self.is_ready("/v2/health/ready").await? && self.is_ready(&model).await?;
            Ok(if ready { Health::Ready } else { Health::Loading })
        })
    }

    fn properties(&self) -> BoxFuture<'_, Result<Properties, EngineError>> {
        Box::pin(async {
            let server: Server = self.get("/v2").await?;
            Ok(Properties {
                engine_version: server.version,
                model: self.model.clone(),
                context_tokens: None,
                slots: None,
                chat_template: false,
            })
        })
    }

    fn submit(&self, request: Generate) -> BoxFuture<'_, Result<Box<dyn Generation>, EngineError>> {
        Box::pin(async move {
            let body = Bytes::from(request::body(&request, &self.fields)?);
            retry(|| self.start(&request, body.clone())).await
        })
    }

    /// Its metrics are at another address, and count what streams as done.
    fn load(&self) -> BoxFuture<'_, Result<Load, EngineError>> {
        Box::pin(async { Err(unsupported("count of what runs")) })
    }

    fn tokenize(&self, _text: &str) -> BoxFuture<'_, Result<Vec<u32>, EngineError>> {
        Box::pin(async { Err(unsupported("tokenizer")) })
    }

    fn apply_template(
        &self,
        _messages: &[ChatMessage],
        _answer: &str,
    ) -> BoxFuture<'_, Result<Prompt, EngineError>> {
        Box::pin(async { Err(unsupported("chat template")) })
    }

    fn embed(&self, _texts: &[String]) -> BoxFuture<'_, Result<Embeddings, EngineError>> {
        Box::pin(async { Err(unsupported("embeddings")) })
    }

    fn rerank(
        &self,
        _query: &str,
        _documents: &[String],
    ) -> BoxFuture<'_, Result<Scores, EngineError>> {
        Box::pin(async { Err(unsupported("reranking")) })
    }
}

#[derive(Deserialize)]
struct Server {
    version: String,
}
