//! Adapter for llama.cpp's `llama-server`: its native `/completion` stream and the routes around it.
//!
//! The OpenAI-style routes are not used: the native one tells the slot, the tokens and the stop
//! reason without guessing. Facts about the dialect are from the server's own behaviour, 0.5.0-dev.

mod errors;
mod frames;
mod request;

use adapter_api::{
    Adapter, BoxFuture, Calls, ChatMessage, Embeddings, EngineError, EngineKind, Features,
    Generate, Generation, Grammar, Health, Load, Prompt, Properties, SETTINGS, Scores,
    SseGeneration, embeddings, retry, scores,
};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::frames::CompletionFrames;

/// One `llama-server`.
#[derive(Debug)]
pub struct LlamaCpp {
    calls: Calls,
}

impl LlamaCpp {
    /// `base_url` is `http://host:port`; `api_key` is what the server was started with.
    #[must_use]
    pub fn new(base_url: &str, api_key: Option<&str>) -> Self {
        Self { calls: Calls::new(base_url, api_key, errors::from_answer) }
    }

    async fn start(
        &self,
        body: Bytes,
        request: &Generate,
    ) -> Result<Box<dyn Generation>, EngineError> {
        let body = self.calls.stream("/completion", body, &request.correlation_id).await?;
        let frames = CompletionFrames::new(request.answer_ids);
        // It finds stop sequences as we promise to.
        Ok(Box::new(SseGeneration::new(body, frames, Vec::new())))
    }
}

impl Adapter for LlamaCpp {
    fn kind(&self) -> EngineKind {
        EngineKind::Llamacpp
    }

    fn features(&self) -> Features {
        Features {
            messages: true,
            token_ids: true,
            answer_ids: true,
            json: true,
            json_schema: true,
            grammar: Some(Grammar::Gbnf),
            settings: SETTINGS.to_vec(),
            ..Features::default()
        }
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, EngineError>> {
        Box::pin(async {
            let (status, body) = self.calls.ask("/health").await?;
            match status {
                StatusCode::OK => Ok(Health::Ready),
                StatusCode::SERVICE_UNAVAILABLE => Ok(Health::Loading),
                other => Err(errors::from_answer(other, &body)),
            }
        })
    }

    fn properties(&self) -> BoxFuture<'_, Result<Properties, EngineError>> {
        Box::pin(async {
            let props: Props = self.calls.get("/props").await?;
            Ok(Properties {
                engine_version: props.build_info,
                model: props.model_alias,
                context_tokens: Some(props.default_generation_settings.n_ctx),
                slots: Some(props.total_slots),
                chat_template: !props.chat_template.is_empty(),
            })
        })
    }

    fn submit(&self, request: Generate) -> BoxFuture<'_, Result<Box<dyn Generation>, EngineError>> {
        Box::pin(async move {
            let body = Bytes::from(request::body(&request)?);
            retry(|| self.start(body.clone(), &request)).await
        })
    }

    fn load(&self) -> BoxFuture<'_, Result<Load, EngineError>> {
        Box::pin(async {
            let slots: Vec<Slot> = self.calls.get("/slots").await?;
            let running = slots.iter().filter(|it| it.is_processing).count();
            let running = u32::try_from(running).unwrap_or(u32::MAX);
            Ok(Load { running, waiting: None, kv_cache_usage: None })
        })
    }

    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, EngineError>> {
        let body = json!({"content": text, "add_special": true, "parse_special": true});
        Box::pin(async move {
            let Tokens { tokens } = self.calls.post("/tokenize", &body).await?;
            Ok(tokens)
        })
    }

    fn apply_template(
        &self,
        messages: &[ChatMessage],
        answer: &str,
    ) -> BoxFuture<'_, Result<Prompt, EngineError>> {
        let answer = answer.to_owned();
        let messages: Vec<_> =
            messages.iter().map(|it| json!({"role": it.role, "content": it.content})).collect();
        let body = json!({ "messages": messages });
        Box::pin(async move {
            let Templated { prompt } = self.calls.post("/apply-template", &body).await?;
            Ok(Prompt::Text(prompt + &answer))
        })
    }

    fn embed(&self, texts: &[String]) -> BoxFuture<'_, Result<Embeddings, EngineError>> {
        let (ask, count) = (json!({"input": texts}), texts.len());
        Box::pin(async move { embeddings(&self.calls.work("/v1/embeddings", &ask).await?, count) })
    }

    fn rerank(
        &self,
        query: &str,
        documents: &[String],
    ) -> BoxFuture<'_, Result<Scores, EngineError>> {
        let (ask, count) = (json!({"query": query, "documents": documents}), documents.len());
        Box::pin(async move { scores(&self.calls.work("/v1/rerank", &ask).await?, count) })
    }
}

#[derive(Deserialize)]
struct Props {
    default_generation_settings: SlotSettings,
    total_slots: u32,
    #[serde(default)]
    model_alias: String,
    #[serde(default)]
    chat_template: String,
    #[serde(default)]
    build_info: String,
}

#[derive(Deserialize)]
struct SlotSettings {
    n_ctx: u32,
}

#[derive(Deserialize)]
struct Slot {
    is_processing: bool,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Templated {
    prompt: String,
}
