//! The text of an answer as it grows, and the three ways in which engines look for stop strings.

use crate::numbering::{self, FIRST_ANSWER_ID, Style};

/// How an engine deals with text that is, or may become, a stop string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum StopRule {
    /// llama-server: the first occurrence ends the text before it, and all unsent text is held back
    /// while its end could begin one.
    #[default]
    HoldSuspects,
    /// vLLM: the first of the list that occurs ends the text, and as much is held back as the longest
    /// could still need.
    HoldLongest,
    /// vLLM with `include_stop_str_in_output`: nothing is held back and the string stays.
    Include,
    /// TGI: the text must end in a stop string right after a token, and the string stays.
    TokenEnd,
}

#[derive(Debug, Default)]
pub(crate) struct Stops {
    pub(crate) words: Vec<String>,
    pub(crate) rule: StopRule,
}

/// Where the text of an answer comes from.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Numbers { first: u64, style: Style },
    Script(&'a [String]),
}

pub(crate) struct Speech<'a> {
    source: Source<'a>,
    stops: &'a Stops,
    /// What was generated: for [`StopRule::HoldSuspects`] since the last piece that was given out,
    /// otherwise since the start.
    text: Vec<u8>,
    /// Bytes of `text` that were given out.
    given: usize,
}

impl<'a> Speech<'a> {
    pub(crate) fn numbers(first: u64, style: Style, stops: &'a Stops) -> Self {
        Self { source: Source::Numbers { first, style }, stops, text: Vec::new(), given: 0 }
    }

    /// Says the pieces of `script`, one per token.
    pub(crate) fn script(script: &'a [String], stops: &'a Stops) -> Self {
        Self { source: Source::Script(script), stops, text: Vec::new(), given: 0 }
    }

    /// The id of token `index` of the answer.
    pub(crate) fn id(&self, index: u32) -> u64 {
        match self.source {
            Source::Numbers { first, .. } => FIRST_ANSWER_ID + first + u64::from(index),
            Source::Script(_) => FIRST_ANSWER_ID + u64::from(index),
        }
    }

    /// Appends to `out`, escaped for JSON, what token `index` makes sayable; returns the stop string
    /// that it completed.
    #[inline]
    pub(crate) fn say(&mut self, out: &mut Vec<u8>, index: u32, last: bool) -> Option<&'a str> {
        if self.stops.words.is_empty()
            && let Source::Numbers { first, style } = self.source
        {
            numbering::push_text(out, first + u64::from(index), style);
            return None;
        }
        self.say_with_care(out, index, last)
    }

    /// As [`Self::say`], where text has to be escaped or searched.
    #[inline(never)]
    fn say_with_care(&mut self, out: &mut Vec<u8>, index: u32, last: bool) -> Option<&'a str> {
        let before = self.text.len();
        match self.source {
            Source::Numbers { first, style } => {
                numbering::push_text(&mut self.text, first + u64::from(index), style);
            }
            Source::Script(pieces) => {
                self.text.extend_from_slice(pieces[index as usize].as_bytes());
            }
        }
        if self.stops.words.is_empty() {
            self.flush(out);
            return None;
        }
        match self.stops.rule {
            StopRule::HoldSuspects => self.say_unless_suspect(out),
            StopRule::HoldLongest => self.say_all_but_longest(out, before, last),
            StopRule::Include => self.say_up_to_and_with(out, before),
            StopRule::TokenEnd => {
                self.give(out, self.text.len());
                let words = self.stops.words.iter();
                words.map(String::as_str).find(|word| self.text.ends_with(word.as_bytes()))
            }
        }
    }

    /// Appends what was held back.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        self.give(out, self.text.len());
    }

    /// Recorded: what is held back when the answer ends is never said.
    fn say_unless_suspect(&mut self, out: &mut Vec<u8>) -> Option<&'a str> {
        let words = &self.stops.words;
        let found = words
            .iter()
            .filter_map(|word| Some((memchr::memmem::find(&self.text, word.as_bytes())?, word)))
            .min_by_key(|(at, _)| *at);
        if let Some((at, word)) = found {
            self.give(out, at);
            return Some(word);
        }
        if !words.iter().any(|word| ends_in_start_of(&self.text, word.as_bytes())) {
            self.give(out, self.text.len());
            self.text.clear();
            self.given = 0;
        }
        None
    }

    fn say_all_but_longest(
        &mut self,
        out: &mut Vec<u8>,
        before: usize,
        last: bool,
    ) -> Option<&'a str> {
        if let Some((at, word)) = self.first_listed(before) {
            self.give(out, at);
            self.text.truncate(at);
            return Some(word);
        }
        let longest = self.stops.words.iter().map(|word| word.chars().count()).max().unwrap_or(0);
        let held = if last { 0 } else { longest.saturating_sub(1) };
        let end = self.without_last_chars(held);
        self.give(out, end);
        None
    }

    fn say_up_to_and_with(&mut self, out: &mut Vec<u8>, before: usize) -> Option<&'a str> {
        let found = self.first_listed(before);
        let end = found.map_or(self.text.len(), |(at, word)| at + word.len());
        self.give(out, end);
        self.text.truncate(end);
        found.map(|(_, word)| word)
    }

    /// The first stop string of the list that the text since `before` completed, and where it starts.
    fn first_listed(&self, before: usize) -> Option<(usize, &'a str)> {
        self.stops.words.iter().find_map(|word| {
            let start = (before + 1).saturating_sub(word.len());
            let at = memchr::memmem::find(&self.text[start..], word.as_bytes())?;
            Some((start + at, word.as_str()))
        })
    }

    fn without_last_chars(&self, count: usize) -> usize {
        let starts = self.text.iter().enumerate().filter(|(_, byte)| (**byte & 0xC0) != 0x80);
        starts.rev().map(|(at, _)| at).take(count).last().unwrap_or(self.text.len())
    }

    fn give(&mut self, out: &mut Vec<u8>, end: usize) {
        if let Some(piece) = self.text.get(self.given..end) {
            match self.source {
                Source::Numbers { .. } => out.extend_from_slice(piece),
                Source::Script(_) => push_escaped(out, piece),
            }
            self.given = end;
        }
    }
}

fn ends_in_start_of(text: &[u8], word: &[u8]) -> bool {
    (1..word.len()).any(|len| text.ends_with(&word[..len]))
}

/// Appends the inside of a JSON string.
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            // Scripts are serialised JSON, which has no control characters.
            _ => out.push(byte),
        }
    }
}
