//! Adapter for vLLM's API server: its completion stream with exact token counts, and the routes around
//! it. Facts about the dialect are from the server's own behaviour, 0.32.0.

mod errors;
mod frames;
mod request;

use std::sync::{Arc, Mutex, PoisonError};

use adapter_api::{
    Adapter, BoxFuture, Calls, ChatMessage, Embeddings, EngineError, EngineKind, Features,
    Generate, Generation, Grammar, Health, Load, Prompt, Properties, SETTINGS, Scores,
    SseGeneration, count, embeddings, retry, scores, share,
};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::frames::CompletionFrames;

/// One vLLM API server.
#[derive(Debug)]
pub struct Vllm {
    calls: Calls,
    /// What the server calls its model, once it was asked: every request must name it.
    model: Mutex<Option<Arc<str>>>,
}

impl Vllm {
    /// `base_url` is `http://host:port`; `api_key` is what the server was started with.
    #[must_use]
    pub fn new(base_url: &str, api_key: Option<&str>) -> Self {
        Self { calls: Calls::new(base_url, api_key, errors::from_answer), model: Mutex::default() }
    }

    /// The first model that the server has; others beside it are adapters on it.
    async fn served(&self) -> Result<Served, EngineError> {
        let Models { data } = self.calls.get("/v1/models").await?;
        let missing = || EngineError::NotReady { message: "the server has no model".into() };
        let served = data.into_iter().next().ok_or_else(missing)?;
        *self.known() = Some(served.id.as_str().into());
        Ok(served)
    }

    async fn model(&self) -> Result<Arc<str>, EngineError> {
        let known = self.known().clone();
        match known {
            Some(model) => Ok(model),
            None => Ok(self.served().await?.id.into()),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Arc<str>>> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(&self, request: &Generate) -> Result<Box<dyn Generation>, EngineError> {
        let model = self.model().await?;
        let body = Bytes::from(request::body(request, &model)?);
        let stream = self.calls.stream("/v1/completions", body, &request.correlation_id).await;
        let frames = CompletionFrames::new(request.max_tokens);
        Ok(Box::new(SseGeneration::new(self.heeded(stream)?, frames, request.stop.clone())))
    }

    /// A server that was started anew may have another name for its model: it is asked the next time.
    fn heeded<T>(&self, answer: Result<T, EngineError>) -> Result<T, EngineError> {
        if matches!(answer, Err(EngineError::NotReady { .. })) {
            *self.known() = None;
        }
        answer
    }

    /// Of work that takes its time.
    async fn work(&self, path: &str, mut ask: Value) -> Result<Bytes, EngineError> {
        ask["model"] = self.model().await?.as_ref().into();
        self.heeded(self.calls.work(path, &ask).await)
    }

    /// Token ids of a conversation, or of a text.
    async fn ids(&self, mut ask: Value) -> Result<Vec<u32>, EngineError> {
        ask["model"] = self.model().await?.as_ref().into();
        let Tokens { tokens } = self.heeded(self.calls.post("/tokenize", &ask).await)?;
        Ok(tokens)
    }
}

/// A conversation as the server is asked to template it. With the beginning of an answer the last
/// turn stays open.
fn conversation(messages: &[ChatMessage], answer: &str) -> Value {
    let mut turns: Vec<Value> =
        messages.iter().map(|it| json!({"role": it.role, "content": it.content})).collect();
    let begun = !answer.is_empty();
    if begun {
        turns.push(json!({"role": "assistant", "content": answer}));
    }
    json!({"messages": turns, "add_generation_prompt": !begun, "continue_final_message": begun})
}

impl Adapter for Vllm {
    fn kind(&self) -> EngineKind {
        EngineKind::Vllm
    }

    fn features(&self) -> Features {
        Features {
            messages: true,
            token_ids: true,
            answer_ids: true,
            json: true,
            json_schema: true,
            grammar: Some(Grammar::Ebnf),
            settings: SETTINGS.to_vec(),
            // Unlike `repetition_penalty`, which counts the prompt, too:
            // <https://docs.vllm.ai/en/latest/api/vllm/sampling_params/>.
            own_output: vec!["presence_penalty", "frequency_penalty"],
        }
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, EngineError>> {
        Box::pin(async {
            // While it loads it refuses connections; 503 says that its engine is dead.
            let (status, body) = self.calls.ask("/health").await?;
            match status {
                StatusCode::OK => Ok(Health::Ready),
                StatusCode::SERVICE_UNAVAILABLE => Err(EngineError::Reset {
                    message: "the engine behind the server is dead".into(),
                }),
                other => Err(errors::from_answer(other, &body)),
            }
        })
    }

    fn properties(&self) -> BoxFuture<'_, Result<Properties, EngineError>> {
        Box::pin(async {
            let Version { version } = self.calls.get("/version").await?;
            let served = self.served().await?;
            // It does not say whether it has a template; it says so when asked to use it.
            let probe =
                conversation(&[ChatMessage { role: "user".into(), content: "1".into() }], "");
            let chat_template = match self.ids(probe).await {
                Ok(_) => true,
                Err(EngineError::BadRequest { .. } | EngineError::Unsupported { .. }) => false,
                Err(error) => return Err(error),
            };
            Ok(Properties {
                engine_version: version,
                model: served.id,
                context_tokens: served.max_model_len,
                slots: None,
                chat_template,
            })
        })
    }

    fn submit(&self, request: Generate) -> BoxFuture<'_, Result<Box<dyn Generation>, EngineError>> {
        Box::pin(async move { retry(|| self.start(&request)).await })
    }

    fn load(&self) -> BoxFuture<'_, Result<Load, EngineError>> {
        Box::pin(async {
            let body = self.calls.text("/metrics").await?;
            let running = count(&body, "vllm:num_requests_running").ok_or_else(|| {
                EngineError::Protocol { message: "no metric tells what runs".into() }
            })?;
            let waiting = count(&body, "vllm:num_requests_waiting");
            Ok(Load { running, waiting, kv_cache_usage: share(&body, "vllm:kv_cache_usage_perc") })
        })
    }

    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, EngineError>> {
        let ask = json!({"prompt": text, "add_special_tokens": true});
        Box::pin(self.ids(ask))
    }

    fn apply_template(
        &self,
        messages: &[ChatMessage],
        answer: &str,
    ) -> BoxFuture<'_, Result<Prompt, EngineError>> {
        let ask = conversation(messages, answer);
        Box::pin(async move { Ok(Prompt::TokenIds(self.ids(ask).await?)) })
    }

    fn embed(&self, texts: &[String]) -> BoxFuture<'_, Result<Embeddings, EngineError>> {
        let (ask, count) = (json!({"input": texts}), texts.len());
        Box::pin(async move { embeddings(&self.work("/v1/embeddings", ask).await?, count) })
    }

    fn rerank(
        &self,
        query: &str,
        documents: &[String],
    ) -> BoxFuture<'_, Result<Scores, EngineError>> {
        let (ask, count) = (json!({"query": query, "documents": documents}), documents.len());
        Box::pin(async move { scores(&self.work("/v1/rerank", ask).await?, count) })
    }
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Served>,
}

#[derive(Deserialize)]
struct Served {
    id: String,
    #[serde(default)]
    max_model_len: Option<u32>,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}
