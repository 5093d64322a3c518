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
    Adapter, BoxFuture, Calls, ChatMessage, EngineError, EngineKind, Features, Generate,
    Generation, Health, Load, Prompt, Properties, SETTINGS, SseGeneration, retry,
};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

pub use crate::fields::{Fields, Settings};
use crate::frames::GenerateFrames;

/// One model of one server.
#[derive(Debug)]
pub struct Triton {
    calls: Calls,
    model: String,
    fields: Fields,
}

impl Triton {
    /// `base_url` is `http://host:port`; `model` is the name in the server's repository.
    #[must_use]
    pub fn new(base_url: &str, key: Option<&str>, model: &str, fields: Fields) -> Self {
        Self {
            calls: Calls::new(base_url, key, errors::from_answer),
            model: model.to_owned(),
            fields,
        }
    }

    /// Readiness has no body, and is told with 400 for not being so.
    async fn is_ready(&self, path: &str) -> Result<bool, EngineError> {
        let (status, body) = self.calls.ask(path).await?;
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
        let answer = self.calls.stream(&path, body, &request.correlation_id).await?;
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
        let settings: Vec<_> = SETTINGS.into_iter().filter(takes).collect();
        // vLLM behind it counts so, and TensorRT-LLM does.
        let own = ["presence_penalty", "frequency_penalty"].into_iter();
        let own_output = own.filter(|it| settings.contains(it)).collect();
        Features { settings, own_output, ..Features::default() }
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
            let server: Server = self.calls.get("/v2").await?;
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
}

#[derive(Deserialize)]
struct Server {
    version: String,
}
