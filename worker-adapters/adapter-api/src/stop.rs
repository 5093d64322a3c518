//! Stop sequences found by us, for engines that find them in another way than we promise: the text
//! ends before the first one in it, wherever tokens begin and end.

use std::cmp::Reverse;

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
        let found = self.first().map(|it| it.0);
        // One that began before the one that was found may yet be complete, and is the first then.
        match self.begun().filter(|at| found.is_none_or(|found| *at < found)) {
            Some(_) => (TokenPiece::default(), None),
            None => self.finish(),
        }
    }

    /// What is held back is to be said after all, up to the first stop sequence: nothing follows it.
    pub(crate) fn finish(&mut self) -> (TokenPiece, Option<String>) {
        let found = self.first().map(|(at, word)| (at, word.to_owned()));
        if let Some((at, _)) = found {
            self.held.text.truncate(at);
        }
        (std::mem::take(&mut self.held), found.map(|it| it.1))
    }

    /// The first stop sequence in what is held back; of two that begin at one place the longer one:
    /// which was asked for first must not matter.
    fn first(&self) -> Option<(usize, &str)> {
        let text = &self.held.text;
        let found = self.stop.iter().filter_map(|it| Some((text.find(it.as_str())?, it.as_str())));
        found.min_by_key(|(at, word)| (*at, Reverse(word.len())))
    }

    /// Where the earliest stop sequence begins that what is held back may end in the middle of.
    fn begun(&self) -> Option<usize> {
        let text = self.held.text.as_bytes();
        let ends_inside = |word: &str| {
            let word = word.as_bytes();
            (1..word.len()).rev().find(|length| text.ends_with(&word[..*length]))
        };
        let longest = self.stop.iter().filter_map(|it| ends_inside(it)).max();
        longest.map(|it| text.len() - it)
    }
}

#[cfg(test)]
mod tests;
