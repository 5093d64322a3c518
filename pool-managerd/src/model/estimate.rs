//! What memory a loaded model takes.

use super::gguf::Gguf;

/// The numbers of a transformer that decide its memory; 0 where the file does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of keys and values that one token leaves in all layers.
    pub(crate) kv_bytes_per_token: u64,
    pub(crate) embedding: u64,
    pub(crate) vocabulary: u64,
}

/// Tokens that llama.cpp computes at once (`-ub`).
const MICRO_BATCH: u64 = 512;
/// Intermediate rows of a layer that are alive at once, in embeddings: query, key, value, the
/// attention's and the feed-forward's, which is about three wide.
const ROWS: u64 = 8;
const F32: u64 = 4;
const F16: u64 = 2;

impl Shape {
    pub(super) fn of(file: &Gguf) -> Self {
        let Some(architecture) = file.text("general.architecture") else { return Self::default() };
        let number = |key: &str| file.number(&format!("{architecture}.{key}"));
        let embedding = number("embedding_length").unwrap_or(0);
        let heads = number("attention.head_count").filter(|it| *it != 0);
        let kv_heads = number("attention.head_count_kv").or(heads).unwrap_or(0);
        let head = heads.map_or(0, |it| embedding / it);
        let key = number("attention.key_length").unwrap_or(head);
        let value = number("attention.value_length").unwrap_or(head);
        let layers = number("block_count").unwrap_or(0);
        let per_head = key.saturating_add(value).saturating_mul(F16);
        Self {
            kv_bytes_per_token: layers.saturating_mul(kv_heads).saturating_mul(per_head),
            embedding,
            vocabulary: file.texts("tokenizer.ggml.tokens").unwrap_or(0),
        }
    }

    /// KV cache of `context_tokens` in all slots together, and buffers: layers × KV heads × (key +
    /// value) × the bytes of a number a token, and one micro-batch of activations and logits.
    pub(super) fn working_bytes(&self, context_tokens: u64) -> u64 {
        let kv = self.kv_bytes_per_token.saturating_mul(context_tokens);
        let row = self.embedding.saturating_mul(ROWS).saturating_add(self.vocabulary);
        kv.saturating_add(MICRO_BATCH.saturating_mul(F32).saturating_mul(row))
    }
}
