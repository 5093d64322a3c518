//! Stop sequences found by us, for engines that find them in another way than we promise: the text
//! ends before the first one in it, wherever tokens begin and end.

use crate::TokenPiece;

/// Looks for the first stop sequence in a text that arrives in pieces.
#[derive(Debug)]
pub(crate) struct StopFilter {
    stop: Vec<String>,
    /// What may yet become a stop sequence, and the tokens it is of.
    held: TokenPiece,
}

impl StopFilter {
    pub(crate) fn new(mut stop: Vec<String>) -> Self {
        stop.retain(|it| !it.is_empty());
        Self { stop, held: TokenPiece::default() }
    }

    /// Nothing is looked for.
    pub(crate) fn is_off(&self) -> bool {
        self.stop.is_empty()
    }

    /// The next piece goes in, what can be said comes out: nothing while the text so far could end in
    /// the beginning of a stop sequence. With it the sequence that was found.
    pub(crate) fn push(&mut self, piece: TokenPiece) -> (TokenPiece, Option<String>) {
        self.held.text.push_str(&piece.text);
        self.held.count += piece.count;
        self.held.ids.extend(piece.ids);
        let text = &self.held.text;
        let found = self.stop.iter().filter_map(|word| Some((text.find(word.as_str())?, word)));
        // Of two that begin at one place the longer one: which was asked for first must not matter.
        let first = found.min_by_key(|(at, word)| (*at, std::cmp::Reverse(word.len())));
        if let Some((at, word)) = first {
            let word = word.clone();
            self.held.text.truncate(at);
            return (self.rest(), Some(word));
        }
        if self.stop.iter().any(|word| ends_in_start_of(text.as_bytes(), word.as_bytes())) {
            return (TokenPiece::default(), None);
        }
        (self.rest(), None)
    }

    /// What is held back, to be said after all.
    pub(crate) fn rest(&mut self) -> TokenPiece {
        std::mem::take(&mut self.held)
    }
}

fn ends_in_start_of(text: &[u8], word: &[u8]) -> bool {
    (1..word.len()).any(|length| text.ends_with(&word[..length]))
}

#[cfg(test)]
mod tests;
