//! A request after validation: every default filled in, every name resolved.

use std::time::Duration;

use adapter_api::{ChatMessage, Constraint, Features, Generate, Prompt, Sampling};
use api_types::{Determinism, KvHint, Priority, TaskRequest};
use orchestrator_core::{EngineId, ModelId, PoolChoice};

/// What a task is to do. Two requests with the same id are the same task if their `canonical` is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    /// The request with its defaults, for telling a repetition from a conflict.
    pub(crate) canonical: TaskRequest,
    pub(crate) model: ModelId,
    pub(crate) model_name: String,
    pub(crate) engine: Option<EngineId>,
    pub(crate) input: Input,
    /// Exact, or an upper bound.
    pub(crate) prompt_tokens: u32,
    pub(crate) max_tokens: u32,
    pub(crate) seed: u32,
    pub(crate) sampling: Sampling,
    pub(crate) constraint: Option<Constraint>,
    pub(crate) cancel_on_disconnect: bool,
    pub(crate) disconnect_grace: Duration,
    /// From admission to the last token.
    pub(crate) deadline: Option<Duration>,
    /// Longest time in the queue.
    pub(crate) ttl: Option<Duration>,
    pub(crate) pools: Option<Box<PoolChoice>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    Prompt(Prompt),
    /// Becomes a prompt on the replica that runs it, through its model's template.
    Messages(Vec<ChatMessage>),
    /// Texts that become vectors.
    Texts(Vec<String>),
    /// Documents that are scored.
    Documents {
        query: String,
        documents: Vec<String>,
    },
}

impl Job {
    pub(crate) fn priority(&self) -> Priority {
        self.canonical.priority
    }

    /// Whether an answer that has begun can go on elsewhere: text follows text. No engine goes on in the
    /// middle of a grammar, and none is proved to go on with the bytes that would have come.
    pub(crate) fn is_resumable(&self) -> bool {
        match &self.input {
            Input::Prompt(Prompt::Text(_)) | Input::Messages(_) => {
                self.constraint.is_none() && !self.is_strict()
            }
            Input::Prompt(Prompt::TokenIds(_)) => false,
            // They have no beginning.
            Input::Texts(_) | Input::Documents { .. } => true,
        }
    }

    /// The request with what was left out of it: what makes the answer, besides engine and model.
    pub(crate) fn record(&self) -> TaskRequest {
        let generates = matches!(self.input, Input::Prompt(_) | Input::Messages(_));
        let it = self.sampling;
        let sampling = api_types::Sampling {
            temperature: Some(it.temperature),
            top_p: Some(it.top_p),
            top_k: Some(it.top_k),
            min_p: Some(it.min_p),
            repeat_penalty: Some(it.repeat_penalty),
            presence_penalty: Some(it.presence_penalty),
            frequency_penalty: Some(it.frequency_penalty),
        };
        TaskRequest {
            task_id: None,
            model_ref: Some(self.model_name.clone()),
            max_tokens: generates.then_some(self.max_tokens),
            sampling: generates.then_some(sampling),
            seed: Some(self.seed),
            ..self.canonical.clone()
        }
    }

    /// Whoever sent it wants it in no file.
    pub(crate) fn is_ephemeral(&self) -> bool {
        self.canonical.ephemeral == Some(true)
    }

    /// The same request must give the same bytes.
    fn is_strict(&self) -> bool {
        self.canonical.determinism == Determinism::Strict
    }

    /// About what the job holds in memory: its input, twice.
    pub(crate) fn bytes(&self) -> usize {
        let input = match &self.input {
            Input::Prompt(Prompt::Text(text)) => text.len(),
            Input::Prompt(Prompt::TokenIds(ids)) => size_of_val(&**ids),
            Input::Messages(messages) => messages.iter().map(|it| it.content.len()).sum(),
            Input::Texts(texts) => texts.iter().map(String::len).sum(),
            Input::Documents { query, documents } => {
                query.len() + documents.iter().map(String::len).sum::<usize>()
            }
        };
        2 * input
    }

    /// The engine's part of the job in its nth attempt, `kept` tokens of the answer being there.
    pub(crate) fn generate(
        &self,
        prompt: Prompt,
        features: &Features,
        kept: u32,
        attempt: u32,
        correlation_id: &str,
    ) -> Generate {
        // A strict task has nothing to show when it is run again, and must end as it would have.
        let later = if self.is_strict() { 0 } else { u64::from(attempt) - 1 };
        // 4294967295 means "random" to llama.cpp; seeds stay below it.
        let seed = (u64::from(self.seed) + later) % u64::from(u32::MAX);
        Generate {
            prompt,
            max_tokens: self.max_tokens.saturating_sub(kept),
            seed: u32::try_from(seed).expect("a remainder below 2^32"),
            sampling: self.sampling.within(features),
            stop: self.canonical.stop.clone().unwrap_or_default(),
            constraint: self.constraint.clone(),
            answer_ids: self.canonical.return_token_ids,
            // What is in a cache was rounded elsewhere.
            reuse_prefix: self.canonical.kv_hint == KvHint::Reuse && !self.is_strict(),
            correlation_id: correlation_id.to_owned(),
        }
    }
}
