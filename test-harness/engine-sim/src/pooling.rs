//! Embeddings and relevance, as numbers that follow from the bytes alone: the same in every dialect,
//! and simple enough for a test to work out.

use serde_json::{Value, json};

use crate::args::Args;
use crate::directives::Directives;
use crate::generation::Task;
use crate::numbering;

const DIMENSIONS: usize = 8;

/// One text or list of token ids to embed or to rank.
pub(crate) struct Input {
    bytes: Vec<u8>,
    pub(crate) tokens: u32,
}

impl Input {
    pub(crate) fn of_text(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), tokens: 1 + numbering::count(text) }
    }

    fn of_ids(ids: &[Value]) -> Option<Self> {
        let ids: Vec<u64> = ids.iter().map(Value::as_u64).collect::<Option<_>>()?;
        let bytes = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Some(Self { bytes, tokens: u32::try_from(ids.len()).unwrap_or(u32::MAX) })
    }

    /// A vector of length one.
    pub(crate) fn embedding(&self) -> Vec<f64> {
        let mut vector = [0.0; DIMENSIONS];
        for (index, &byte) in self.bytes.iter().enumerate() {
            vector[index % DIMENSIONS] += f64::from(byte) + 1.0;
        }
        let length = vector.iter().map(|it: &f64| it * it).sum::<f64>().sqrt();
        if length == 0.0 {
            vector[0] = 1.0;
            return vector.to_vec();
        }
        vector.iter().map(|it| it / length).collect()
    }
}

/// The inputs that a request names: a text, several, a list of ids, or several.
pub(crate) fn inputs(value: &Value) -> Option<Vec<Input>> {
    match value {
        Value::String(text) => Some(vec![Input::of_text(text)]),
        Value::Array(list) if list.first().is_some_and(Value::is_number) => {
            Some(vec![Input::of_ids(list)?])
        }
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|item| match item {
                Value::String(text) => Some(Input::of_text(text)),
                Value::Array(ids) => Input::of_ids(ids),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// A document and how well it fits.
pub(crate) struct Ranked {
    pub(crate) index: usize,
    pub(crate) document: String,
    pub(crate) score: f64,
}

/// A query and its documents, as all rerank routes name them.
pub(crate) struct Ranking {
    query: String,
    documents: Vec<String>,
    best: usize,
}

impl Ranking {
    /// `None` if the body lacks a query or a list of texts under `documents`.
    pub(crate) fn of(body: &Value, documents: &str) -> Option<Self> {
        let text = |value: &Value| {
            value.as_str().or_else(|| value.get("text")?.as_str()).map(str::to_owned)
        };
        let list = body.get(documents)?.as_array()?;
        let documents: Vec<String> = list.iter().map(text).collect::<Option<_>>()?;
        let best = body.get("top_n").and_then(Value::as_u64).filter(|&count| count > 0);
        let best = best.and_then(|count| usize::try_from(count).ok()).unwrap_or(documents.len());
        Some(Self { query: body.get("query")?.as_str()?.to_owned(), documents, best })
    }

    pub(crate) fn inputs(&self) -> Vec<Input> {
        let pair = |document: &String| Input::of_text(&format!("{}{document}", self.query));
        self.documents.iter().map(pair).collect()
    }

    /// The best documents, best first.
    pub(crate) fn ranked(&self) -> Vec<Ranked> {
        let mut ranked: Vec<Ranked> = self
            .documents
            .iter()
            .enumerate()
            .map(|(index, document)| {
                let score = relevance(&self.query, document);
                Ranked { index, document: document.clone(), score }
            })
            .collect();
        ranked.sort_by(|one, other| other.score.total_cmp(&one.score));
        ranked.truncate(self.best);
        ranked
    }
}

/// The share of the query's words that the document has.
pub(crate) fn relevance(query: &str, document: &str) -> f64 {
    let query = query.to_lowercase();
    let document = document.to_lowercase();
    let has = |word: &&str| document.split_whitespace().any(|it| it == *word);
    let words = u32::try_from(query.split_whitespace().count()).unwrap_or(u32::MAX);
    let found = u32::try_from(query.split_whitespace().filter(has).count()).unwrap_or(u32::MAX);
    f64::from(found) / f64::from(words.max(1))
}

pub(crate) fn tokens_of(inputs: &[Input]) -> u32 {
    inputs.iter().fold(0, |sum, input| sum.saturating_add(input.tokens))
}

/// The work that `inputs` are: all of prefill and no token. Directives are taken from all of them; an
/// error is the message of a refusal.
pub(crate) fn task(args: &Args, inputs: &[Input]) -> Result<Task, String> {
    let text: Vec<u8> = inputs.iter().flat_map(|input| input.bytes.iter().copied()).collect();
    let directives = Directives::parse(&String::from_utf8_lossy(&text))?;
    let tokens = tokens_of(inputs).min(args.slot_context);
    Ok(Task { prompt_tokens: tokens, directives, ..Task::default() })
}

/// The `data` of an embeddings answer.
pub(crate) fn embedding_objects(inputs: &[Input]) -> Value {
    let object = |(index, input): (usize, &Input)| json!({ "index": index, "object": "embedding", "embedding": input.embedding() });
    inputs.iter().enumerate().map(object).collect()
}
