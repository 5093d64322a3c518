//! Adapter for TGI's router: its native `/generate_stream` and the routes around it. Facts about the
//! dialect are from the router's own behaviour, 3.3.6-dev0.
//!
//! The OpenAI-style routes are not used: they have no `top_k`, and tell every error as 422.

mod errors;
mod frames;
mod request;

use adapter_api::{
    Adapter, BoxFuture, Calls, ChatMessage, EngineError, EngineKind, Features, Generate,
    Generation, Grammar, Health, Load, Prompt, Properties, SETTINGS, SseGeneration, count, retry,
};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::frames::StreamFrames;

/// One router.
#[derive(Debug)]
pub struct Tgi {
    calls: Calls,
}

impl Tgi {
    /// `base_url` is `http://host:port`; `api_key` is what the router was started with.
    #[must_use]
    pub fn new(base_url: &str, api_key: Option<&str>) -> Self {
        Self { calls: Calls::new(base_url, api_key, errors::from_answer) }
    }

    async fn tokens(&self, text: &str) -> Result<Vec<Token>, EngineError> {
        self.calls.post("/tokenize", &json!({"inputs": text})).await
    }

    async fn start(
        &self,
        request: &Generate,
        body: Bytes,
    ) -> Result<Box<dyn Generation>, EngineError> {
        let answer = self.calls.stream("/generate_stream", body, &request.correlation_id).await?;
        let prompt_tokens = self.prompt_tokens(request).await?;
        let frames = StreamFrames::new(request.max_tokens, prompt_tokens, request.answer_ids);
        let generation = SseGeneration::new(answer, frames, request.stop.clone());
        Ok(Box::new(generation.begun().await?))
    }

    /// The router tells them in its last frame only, which a stream that we end never comes to.
    async fn prompt_tokens(&self, request: &Generate) -> Result<u32, EngineError> {
        match &request.prompt {
            Prompt::Text(text) if !request.stop.is_empty() => {
                Ok(u32::try_from(self.tokens(text).await?.len()).unwrap_or(u32::MAX))
            }
            Prompt::Text(_) | Prompt::TokenIds(_) => Ok(0),
        }
    }

    /// What a template has made, without the first token if the router puts one like it in front of
    /// every prompt.
    async fn without_double_start(&self, templated: Templated) -> Result<String, EngineError> {
        let Templated { mut templated_text, tokenize_response } = templated;
        let put_in_front = self.tokens("1").await?.first().map(|it| it.id);
        if let Some(first) = tokenize_response.first()
            && Some(first.id) == put_in_front
            && templated_text.is_char_boundary(first.stop)
        {
            templated_text.replace_range(..first.stop, "");
        }
        Ok(templated_text)
    }
}

impl Adapter for Tgi {
    fn kind(&self) -> EngineKind {
        EngineKind::Tgi
    }

    fn features(&self) -> Features {
        Features {
            messages: true,
            answer_ids: true,
            json_schema: true,
            grammar: Some(Grammar::Regex),
            settings: without(&["min_p", "presence_penalty"]),
            ..Features::default()
        }
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, EngineError>> {
        Box::pin(async {
            // While it loads it refuses connections; 503 says that a shard does not answer.
            let (status, body) = self.calls.ask("/health").await?;
            match status {
                StatusCode::OK => Ok(Health::Ready),
                StatusCode::SERVICE_UNAVAILABLE => {
                    Err(EngineError::Reset { message: "the router's shards do not answer".into() })
                }
                other => Err(errors::from_answer(other, &body)),
            }
        })
    }

    fn properties(&self) -> BoxFuture<'_, Result<Properties, EngineError>> {
        Box::pin(async {
            let info: Info = self.calls.get("/info").await?;
            // It does not say whether it has a template; it says so when asked to use it.
            let probe = json!({"messages": [{"role": "user", "content": "1"}]});
            let chat_template = match self.calls.post::<Templated>("/chat_tokenize", &probe).await {
                Ok(_) => true,
                Err(EngineError::BadRequest { .. } | EngineError::Unsupported { .. }) => false,
                Err(error) => return Err(error),
            };
            Ok(Properties {
                engine_version: info.version,
                model: info.model_id,
                context_tokens: Some(info.max_total_tokens),
                slots: Some(info.max_concurrent_requests),
                chat_template,
            })
        })
    }

    fn submit(&self, request: Generate) -> BoxFuture<'_, Result<Box<dyn Generation>, EngineError>> {
        Box::pin(async move {
            let body = Bytes::from(request::body(&request)?);
            retry(|| self.start(&request, body.clone())).await
        })
    }

    fn load(&self) -> BoxFuture<'_, Result<Load, EngineError>> {
        Box::pin(async {
            let body = self.calls.text("/metrics").await?;
            // They appear with the first request.
            let running = count(&body, "tgi_batch_current_size").unwrap_or(0);
            let waiting = Some(count(&body, "tgi_queue_size").unwrap_or(0));
            Ok(Load { running, waiting, kv_cache_usage: None })
        })
    }

    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, EngineError>> {
        let text = text.to_owned();
        Box::pin(async move { Ok(self.tokens(&text).await?.iter().map(|it| it.id).collect()) })
    }

    fn apply_template(
        &self,
        messages: &[ChatMessage],
        answer: &str,
    ) -> BoxFuture<'_, Result<Prompt, EngineError>> {
        let messages: Vec<Value> =
            messages.iter().map(|it| json!({"role": it.role, "content": it.content})).collect();
        let (ask, answer) = (json!({ "messages": messages }), answer.to_owned());
        Box::pin(async move {
            let templated = self.calls.post("/chat_tokenize", &ask).await?;
            Ok(Prompt::Text(self.without_double_start(templated).await? + &answer))
        })
    }
}

fn without(missing: &[&str]) -> Vec<&'static str> {
    SETTINGS.into_iter().filter(|it| !missing.contains(it)).collect()
}

#[derive(Deserialize)]
struct Info {
    model_id: String,
    version: String,
    max_concurrent_requests: u32,
    max_total_tokens: u32,
}

#[derive(Deserialize)]
struct Token {
    id: u32,
    /// Where it ends in the text, in bytes.
    #[serde(default)]
    stop: usize,
}

#[derive(Deserialize)]
struct Templated {
    templated_text: String,
    #[serde(default)]
    tokenize_response: Vec<Token>,
}
