//! The trait that each engine's crate implements, and the values that cross it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};

use crate::EngineError;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Talks to one replica of one engine.
///
/// Cheap to share; every method may be called concurrently. Dropping a returned future abandons the
/// call and closes its connection.
pub trait Adapter: Send + Sync {
    fn kind(&self) -> EngineKind;

    /// What requests to this engine can ask for; what is not here fails with `Unsupported`.
    fn features(&self) -> Features;

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

    /// The prompt that the model's chat template makes of `messages`, up to where the assistant
    /// answers; `answer` is the beginning of that, and may be empty.
    fn apply_template(
        &self,
        messages: &[ChatMessage],
        answer: &str,
    ) -> BoxFuture<'_, Result<Prompt, EngineError>>;

    /// One vector for each text, in their order. Waits for as long as the caller does. `Unsupported` by
    /// engines that make none.
    fn embed(&self, _texts: &[String]) -> BoxFuture<'_, Result<Embeddings, EngineError>> {
        let message = format!("{} makes no vectors", self.kind().as_str());
        Box::pin(async { Err(EngineError::Unsupported { message }) })
    }

    /// How well each document answers the query, in their order. Waits for as long as the caller does.
    /// `Unsupported` by engines that do not rank.
    fn rerank(
        &self,
        _query: &str,
        _documents: &[String],
    ) -> BoxFuture<'_, Result<Scores, EngineError>> {
        let message = format!("{} does not rank", self.kind().as_str());
        Box::pin(async { Err(EngineError::Unsupported { message }) })
    }
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
    /// Longest prompt plus answer of one slot, in tokens; `None` where the engine does not tell.
    pub context_tokens: Option<u32>,
    /// Sequences the engine runs at once; `None` where it does not tell.
    pub slots: Option<u32>,
    pub chat_template: bool,
}

/// What an engine's protocol can express.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// Conversations, where the model has a template for them.
    pub messages: bool,
    /// Prompts of token ids.
    pub token_ids: bool,
    /// Answers with token ids.
    pub answer_ids: bool,
    /// Answers that are any JSON object.
    pub json: bool,
    /// Answers that follow a JSON schema.
    pub json_schema: bool,
    /// Answers that follow a grammar.
    pub grammar: Option<Grammar>,
    /// Those of [`SETTINGS`] that are more than their neutral value there.
    pub settings: Vec<&'static str>,
    /// Those of `settings` that count what the engine itself has made: they forget what an attempt
    /// before made, which comes as prompt.
    pub own_output: Vec<&'static str>,
}

/// The settings of a sampler, by their names in the public API.
pub const SETTINGS: [&str; 8] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
];

impl Features {
    /// Whether the engine has a word for one of [`SETTINGS`].
    #[must_use]
    pub fn takes(&self, setting: &str) -> bool {
        self.settings.contains(&setting)
    }
}

/// In what a grammar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// llama.cpp's <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>.
    Gbnf,
    /// What xgrammar takes: an EBNF close to GBNF.
    Ebnf,
    /// A regular expression.
    Regex,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Sequences that occupy a slot now.
    pub running: u32,
    /// Requests the engine holds back; `None` where it does not tell.
    pub waiting: Option<u32>,
    /// Share of the KV cache that is in use, 0 to 1; `None` where it does not tell.
    pub kv_cache_usage: Option<f64>,
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
    pub constraint: Option<Constraint>,
    /// Whether the answer's token ids are wanted.
    pub answer_ids: bool,
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

/// What every answer must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// Any JSON object.
    Json,
    /// The text of a JSON schema.
    JsonSchema(String),
    /// In the engine's own notation, see [`Features::grammar`].
    Grammar(String),
}

/// Sampler settings; the ranges are checked before they come here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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

impl Sampling {
    /// The likeliest token each time, and nothing else.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
    };

    /// Those of [`SETTINGS`] that are not neutral here and unknown to an engine with these features.
    #[must_use]
    pub fn beyond(self, features: &Features) -> Vec<&'static str> {
        let within = self.within(features);
        let differ = |a: f32, b: f32| (a - b).abs() > f32::EPSILON;
        let changed = |setting: &&str| match *setting {
            "temperature" => differ(self.temperature, within.temperature),
            "top_p" => differ(self.top_p, within.top_p),
            "top_k" => self.top_k != within.top_k,
            "min_p" => differ(self.min_p, within.min_p),
            "repeat_penalty" => differ(self.repeat_penalty, within.repeat_penalty),
            "presence_penalty" => differ(self.presence_penalty, within.presence_penalty),
            "frequency_penalty" => differ(self.frequency_penalty, within.frequency_penalty),
            // It is no setting of the sampler's.
            _ => false,
        };
        SETTINGS.into_iter().filter(changed).collect()
    }

    /// Those of [`SETTINGS`] that are not neutral here and begin anew with each attempt.
    #[must_use]
    pub fn restarting(self, features: &Features) -> Vec<&'static str> {
        let own = |it: &&str| !features.own_output.contains(it);
        let settings = features.settings.iter().copied().filter(own).collect();
        self.within(features).beyond(&Features { settings, ..Features::default() })
    }

    /// As an engine with these features can have it: what it has no word for is neutral.
    #[must_use]
    pub fn within(self, features: &Features) -> Self {
        let or = |setting: &str, value: f32, neutral: f32| {
            if features.takes(setting) { value } else { neutral }
        };
        Self {
            temperature: or("temperature", self.temperature, 0.0),
            top_p: or("top_p", self.top_p, 1.0),
            top_k: if features.takes("top_k") { self.top_k } else { 0 },
            min_p: or("min_p", self.min_p, 0.0),
            repeat_penalty: or("repeat_penalty", self.repeat_penalty, 1.0),
            presence_penalty: or("presence_penalty", self.presence_penalty, 0.0),
            frequency_penalty: or("frequency_penalty", self.frequency_penalty, 0.0),
        }
    }
}

/// Vectors of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    pub vectors: Vec<Vec<f32>>,
    /// Of all texts together.
    pub prompt_tokens: u32,
}

/// Scores on the model's own scale; higher is better.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub scores: Vec<f32>,
    /// Of the query and all documents together.
    pub prompt_tokens: u32,
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

#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
