//! Work whose result comes at once: vectors and scores.

use adapter_api::EngineError;
use api_types::{FinishReason, TaskResult};
use tokio::time::Instant;

use super::relay::announce;
use super::{Attempt, Failure, Outcome, not_taken};
use crate::driver::close_with_end;
use crate::task::Input;
use crate::telemetry::Telemetry;

impl Attempt {
    /// `None` for a task that generates.
    pub(super) async fn compute(&self, started: Instant) -> Option<Outcome> {
        let adapter = &self.replica.adapter;
        let work = async {
            Ok(match &self.record.job.input {
                Input::Prompt(_) | Input::Messages(_) => return Ok(None),
                Input::Texts(texts) => {
                    let found = adapter.embed(texts).await?;
                    let embeddings = Some(found.vectors);
                    Some((TaskResult { embeddings, scores: None }, found.prompt_tokens))
                }
                Input::Documents { query, documents } => {
                    let found = adapter.rerank(query, documents).await?;
                    let scores = Some(found.scores);
                    Some((TaskResult { embeddings: None, scores }, found.prompt_tokens))
                }
            })
        };
        let limit = self.config.first_token.min(self.config.wall);
        let found: Result<Option<(TaskResult, u32)>, EngineError> = tokio::select! {
            found = work => found,
            outcome = self.interrupted() => return Some(outcome),
            () = tokio::time::sleep_until(started + limit) => {
                let limit = Failure::Timeout { limit: "result", after: limit, again: true };
                return Some(Outcome::Failed(limit));
            }
        };
        match found {
            Ok(None) => None,
            Ok(Some((result, prompt_tokens))) => Some(self.told(&result, prompt_tokens)),
            Err(error) if not_taken(&error) => Some(Outcome::NotTaken(error)),
            Err(error) => Some(Outcome::Failed(Failure::Engine(error))),
        }
    }

    /// The result, and the end.
    fn told(&self, result: &TaskResult, prompt_tokens: u32) -> Outcome {
        let mut current = true;
        let open = self.record.update(|stream| {
            current = self.is_current(stream);
            if current {
                announce(self, stream);
                stream.log.event("result", result);
                stream.progress.usage.tokens_in = u64::from(prompt_tokens);
                close_with_end(stream, FinishReason::Stop, None);
            }
        });
        if !open || !current {
            return Outcome::Closed;
        }
        let usage = adapter_api::Usage { prompt_tokens, ..adapter_api::Usage::default() };
        Telemetry::completed(self, usage);
        Outcome::Completed
    }
}
