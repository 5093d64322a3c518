//! The trait that each engine's crate implements, and the values that cross it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::EngineError;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Talks to one replica of one engine.
///
/// Cheap to share; every method may be called concurrently. Dropping a returned future abandons the
/// call and closes its connection.
pub trait Adapter: Send + Sync {
    fn kind(&self) -> EngineKind;

    /// Asks the engine whether it would serve a request now.
    fn health(&self) -> BoxFuture<'_, Result<Health, EngineError>>;

    /// Reads what the engine says about itself. Fails with `NotReady` while it loads.
    fn properties(&self) -> BoxFuture<'_, Result<Properties, EngineError>>;

    /// Sends a generation. The future resolves when the engine has accepted it (its response headers
    /// arrived), which for some engines is only when a slot starts on the prompt. Retries, within
    /// the adapter's bound, what is [`EngineError::retriable_before_first_token`].
    fn submit(&self, request: Generate) -> BoxFuture<'_, Result<Box<dyn Generation>, EngineError>>;

    /// How many sequences the engine runs now. Slow and approximate: the caller's own table of what
    /// it sent is the primary signal; this confirms that a cancelled one is gone.
    fn load(&self) -> BoxFuture<'_, Result<Load, EngineError>>;

    /// Token ids of `text` as the engine's own tokenizer sees them, with special tokens added as for
    /// a prompt.
    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, EngineError>>;

    /// The prompt text that the model's chat template makes of `messages`.
    fn apply_template(
        &self,
        messages: &[ChatMessage],
    ) -> BoxFuture<'_, Result<String, EngineError>>;
}

/// One running generation. Dropping it closes the connection, which is how every engine here is told
/// to stop; whether the slot is free is then asked with [`Adapter::load`].
pub trait Generation: Send {
    /// Appends to `events` everything that has arrived, in order.
    ///
    /// Ready(Ok) with at least one event appended; after [`GenerationEvent::Finished`] it must not be
    /// polled again. An `Err` is final. Never waits for more once something is there.
    fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        events: &mut Vec<GenerationEvent>,
    ) -> Poll<Result<(), EngineError>>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    Llamacpp,
    Vllm,
    Tgi,
    Triton,
}

impl EngineKind {
    /// The name in configuration, API bodies, metric labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Llamacpp => "llamacpp",
            Self::Vllm => "vllm",
            Self::Tgi => "tgi",
            Self::Triton => "triton",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Ready,
    /// The process listens but its model is not loaded yet.
    Loading,
}

/// What an engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// The engine's own version text, as it prints it (llama.cpp: `b6000-abcdef0`).
    pub engine_version: String,
    /// The name the engine serves its model under.
    pub model: String,
    /// Longest prompt plus answer of one slot, in tokens.
    pub context_tokens: u32,
    /// Sequences the engine runs at once.
    pub slots: u32,
    pub chat_template: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Sequences that occupy a slot now.
    pub running: u32,
    /// Requests the engine holds back; `None` where it does not tell.
    pub waiting: Option<u32>,
}

/// A request in engine-neutral terms. Every sampling field is explicit: engines' own defaults differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Generate {
    pub prompt: Prompt,
    /// Upper bound of generated tokens, at least 1.
    pub max_tokens: u32,
    /// 0 to 4294967294; 4294967295 means "random" to llama.cpp and is never sent.
    pub seed: u32,
    pub sampling: Sampling,
    /// Texts at which generation ends; they are not part of the answer.
    pub stop: Vec<String>,
    /// Whether the engine may reuse a cached prefix of earlier requests.
    pub reuse_prefix: bool,
    /// Passed on to the engine's log where it takes one; `[A-Za-z0-9._-]{1,64}`.
    pub correlation_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    Text(String),
    TokenIds(Vec<u32>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

/// Sampler settings; the ranges are checked before they come here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 = greedy.
    pub temperature: f32,
    /// 1 = off.
    pub top_p: f32,
    /// 0 = off.
    pub top_k: u32,
    /// 0 = off.
    pub min_p: f32,
    /// 1 = off.
    pub repeat_penalty: f32,
    /// 0 = off.
    pub presence_penalty: f32,
    /// 0 = off.
    pub frequency_penalty: f32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    /// The engine works on the prompt; proof of life before the first token.
    PromptProgress { processed: u32, total: u32 },
    /// One or more tokens. `text` is whole UTF-8; it may be empty while a character is incomplete.
    Tokens(TokenPiece),
    /// The engine's own last word. Nothing follows.
    Finished { reason: FinishReason, usage: Usage, timings: Timings },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPiece {
    pub text: String,
    /// Tokens in this piece, as the engine counts them.
    pub count: u32,
    /// Their ids, where the engine gives them; empty otherwise.
    pub ids: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    EndOfText,
    /// A stop sequence; the one that matched.
    StopSequence(String),
    /// `max_tokens` reached.
    Length,
    /// The slot's context is full before `max_tokens`.
    ContextFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt_tokens: u32,
    /// Of these, taken from the engine's cache.
    pub cached_tokens: u32,
    pub output_tokens: u32,
}

/// The engine's own clock, as a hint; the caller measures what the client sees.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timings {
    pub prefill_ms: f64,
    pub decode_ms: f64,
}
