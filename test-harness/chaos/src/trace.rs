//! What a stream must look like: every event once and in order, every token of the numbered answer
//! once and in order, and one end.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

/// One event of a stream, its data as it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    /// Of a journaled one.
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_default()
    }

    pub(crate) fn is_last(&self) -> bool {
        matches!(self.name.as_str(), "end" | "error")
    }

    pub(crate) fn is_token(&self) -> bool {
        self.name == "token"
    }
}

/// The answer that a task must have: numbers from `first` on, at most `tokens` of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) first: u64,
    pub(crate) tokens: u64,
}

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flaws {
    pub(crate) missing: u64,
    pub(crate) doubled: u64,
    /// Tokens that came after a later one.
    pub(crate) disordered: u64,
    /// Where the stream does not agree with itself, with its request or with what another reader saw.
    pub(crate) contradictions: u64,
}

impl Flaws {
    pub(crate) fn add(&mut self, other: Self) {
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.contradictions += other.contradictions;
    }

    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }

    fn worst(self, other: Self) -> Self {
        Self {
            missing: self.missing.max(other.missing),
            doubled: self.doubled.max(other.doubled),
            disordered: self.disordered.max(other.disordered),
            contradictions: self.contradictions.max(other.contradictions),
        }
    }
}

/// Everything that is wrong with the journaled events of one task, from the first to the last.
pub(crate) fn check(events: &[Event], asked: Asked) -> Flaws {
    let last = events.last();
    let end = last.map(Event::json).unwrap_or_default();
    // Only `end` says how many there were; after `error` the largest that came must do.
    let told = last.filter(|it| it.name == "end").and_then(|_| end["tokens_out"].as_u64());
    let (mut indexes, mut numbers) = (Vec::new(), Vec::new());
    for token in events.iter().filter(|it| it.is_token()).map(Event::json) {
        let (index, count) = (token["i"].as_u64(), token["n"].as_u64().unwrap_or(1));
        indexes.extend((0..count).map(|it| index.map(|index| index + it)));
        let words = token["t"].as_str().unwrap_or("not a text").split_whitespace();
        let number = |it: &str| it.parse::<u64>().ok()?.checked_sub(asked.first);
        numbers.extend(words.map(number));
    }
    let mut flaws = sequence(&indexes, told).worst(sequence(&numbers, told));
    let ids = events.iter().filter_map(|it| it.id);
    let agreements = [
        ids.eq(1..=events.len() as u64),
        events.iter().filter(|it| it.is_last()).count() == 1 && last.is_some_and(Event::is_last),
        told.is_none_or(|it| it <= asked.tokens),
        end["finish_reason"] != "length" || told == Some(asked.tokens),
        events.iter().skip(1).all(|it| it.name != "started"),
        events.iter().take(1).all(|it| it.name == "started" || it.is_last()),
    ];
    flaws.contradictions += agreements.iter().filter(|it| !**it).count() as u64;
    flaws
}

/// What is wrong with numbers that should be 0, 1, 2 and so on, `count` of them if that is known;
/// `None` is no number at all.
fn sequence(found: &[Option<u64>], count: Option<u64>) -> Flaws {
    let known: Vec<u64> = found.iter().copied().flatten().collect();
    let count = count.unwrap_or_else(|| known.iter().max().map_or(0, |it| it + 1));
    let (inside, outside): (BTreeSet<u64>, BTreeSet<u64>) =
        known.iter().partition(|it| **it < count);
    let distinct = (inside.len() + outside.len()) as u64;
    Flaws {
        missing: count.saturating_sub(inside.len() as u64),
        doubled: known.len() as u64 - distinct,
        disordered: known.windows(2).filter(|it| it[1] < it[0]).count() as u64,
        contradictions: (found.len() - known.len() + outside.len()) as u64,
    }
}

/// The text of all tokens.
pub(crate) fn text(events: &[Event]) -> String {
    let tokens = events.iter().filter(|it| it.is_token()).map(Event::json);
    tokens.filter_map(|it| it["t"].as_str().map(str::to_owned)).collect()
}

/// Stands for a stream that is compared later.
pub(crate) fn digest(events: &[Event]) -> u64 {
    let mut hasher = DefaultHasher::new();
    events.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
