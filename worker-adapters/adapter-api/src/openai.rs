//! Embedding and reranking in the form that llama.cpp and vLLM share.

use serde::Deserialize;

use crate::{Embeddings, EngineError, Scores};

#[derive(Deserialize, Default)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u32,
    /// A server that counts no prompt counts all.
    #[serde(default)]
    total_tokens: u32,
}

impl Usage {
    fn tokens(&self) -> u32 {
        if self.prompt_tokens == 0 { self.total_tokens } else { self.prompt_tokens }
    }
}

#[derive(Deserialize)]
struct EmbeddingsAnswer {
    data: Vec<Embedding>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct RerankAnswer {
    results: Vec<Ranked>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
struct Ranked {
    index: usize,
    relevance_score: f32,
}

/// Reads an answer of `/v1/embeddings` to `count` texts.
///
/// # Errors
/// `Protocol`: it is no such answer, or not one of that many texts.
pub fn embeddings(body: &[u8], count: usize) -> Result<Embeddings, EngineError> {
    let answer: EmbeddingsAnswer =
        serde_json::from_slice(body).map_err(|it| EngineError::protocol(&it, body))?;
    let prompt_tokens = answer.usage.tokens();
    let vectors = in_order(answer.data.into_iter().map(|it| (it.index, it.embedding)), count)?;
    Ok(Embeddings { vectors, prompt_tokens })
}

/// Reads an answer of `/v1/rerank` to `count` documents.
///
/// # Errors
/// `Protocol`: it is no such answer, or not one of that many documents.
pub fn scores(body: &[u8], count: usize) -> Result<Scores, EngineError> {
    let answer: RerankAnswer =
        serde_json::from_slice(body).map_err(|it| EngineError::protocol(&it, body))?;
    let prompt_tokens = answer.usage.tokens();
    let scores =
        in_order(answer.results.into_iter().map(|it| (it.index, it.relevance_score)), count)?;
    Ok(Scores { scores, prompt_tokens })
}

/// One for each index below `count`, which may come in any order: rerankers sort by score.
fn in_order<T>(
    found: impl Iterator<Item = (usize, T)>,
    count: usize,
) -> Result<Vec<T>, EngineError> {
    let mut slots: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for (index, value) in found {
        if let Some(slot) = slots.get_mut(index) {
            *slot = Some(value);
        }
    }
    slots.into_iter().collect::<Option<_>>().ok_or_else(|| EngineError::Protocol {
        message: format!("the answer has not each of {count} results"),
    })
}
