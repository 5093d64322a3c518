//! The journaled events of one task, in memory.
//!
//! An event is appended first and shown later: readers see what the journal has, so that no replay
//! contradicts what somebody saw. Without a journal both are one step. What was shown may be dropped:
//! the journal has it.

use api_types::{TaskResult, Token};
use serde::Serialize;

use super::frame::{self, TokenRef};

/// Room for the first events at once; growing to it byte by byte would copy them several times.
const FIRST_BYTES: usize = 512;

/// Append-only until closed. Event ids count from 1.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Every event after the past, encoded, one after the other.
    frames: Vec<u8>,
    /// Where each of them ends, counted from the first byte of the stream.
    ends: Vec<u32>,
    tokens: u64,
    /// Id of the first event with tokens.
    first_token: Option<usize>,
    closed: bool,
    /// Events that readers may see.
    shown: usize,
    past: Past,
}

/// The first events of a stream, which only the journal has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Past {
    events: usize,
    bytes: usize,
    tokens: u64,
}

/// What a reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// Whole events, and the id of the last.
    Events(&'a [u8], u64),
    /// Something that is no longer here: the journal has it.
    Past,
    /// It has everything that readers may see.
    Nothing,
}

impl Log {
    /// Appends an event that is neither a token nor the last.
    pub(crate) fn event(&mut self, name: &str, data: &impl Serialize) {
        let id = self.next_id();
        if self.frames.capacity() == 0 {
            self.frames.reserve_exact(FIRST_BYTES);
        }
        frame::write(&mut self.frames, Some(id), name, data);
        self.mark();
    }

    pub(crate) fn token(&mut self, text: &str, count: u32, ids: Option<&[u32]>) {
        let id = self.next_id();
        let token = TokenRef { t: text, i: self.tokens, n: count, ids };
        frame::write(&mut self.frames, Some(id), "token", &token);
        self.tokens += u64::from(count);
        self.mark();
        self.first_token.get_or_insert(self.events());
    }

    /// Appends the last event. Nothing follows it.
    pub(crate) fn close(&mut self, name: &str, data: &impl Serialize) {
        self.event(name, data);
        self.closed = true;
        self.fit();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Tokens so far.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Readers may see a token.
    pub(crate) fn has_shown_token(&self) -> bool {
        self.first_token.is_some_and(|it| it <= self.shown)
    }

    /// Nothing follows what readers see.
    pub(crate) fn is_over(&self) -> bool {
        self.closed && self.shown == self.events()
    }

    /// Bytes that readers may see, or might have seen.
    pub(crate) fn bytes_shown(&self) -> usize {
        self.end_of(self.shown)
    }

    /// Id of the newest event that readers may see.
    pub(crate) fn last_shown(&self) -> u64 {
        self.shown as u64
    }

    /// Readers may see events up to `id`.
    pub(crate) fn show(&mut self, id: u64) {
        let all = self.events();
        self.shown = usize::try_from(id).unwrap_or(usize::MAX).clamp(self.shown, all);
    }

    /// Drops the oldest of what is shown, so that of that at least `window` bytes stay, and at most half
    /// as many more. The journal must have it.
    pub(crate) fn trim(&mut self, window: usize) {
        let shown = self.bytes_shown();
        if shown - self.past.bytes <= window.saturating_add(window / 2) {
            return;
        }
        let dropped = self.ends.partition_point(|end| *end as usize <= shown - window);
        let Some(last) = dropped.checked_sub(1) else { return };
        let events = self.past.events + dropped;
        let past = Past { events, bytes: self.ends[last] as usize, tokens: self.tokens_of(events) };
        self.frames.drain(..past.bytes - self.past.bytes);
        self.ends.drain(..dropped);
        self.past = past;
        if self.closed {
            self.fit();
        }
    }

    /// Id of the newest event that is dropped; 0 while there is none.
    pub(crate) fn last_past(&self) -> u64 {
        self.past.events as u64
    }

    /// Events after `id`, none of which is dropped, and the id of the last.
    pub(crate) fn after(&self, id: u64) -> (&[u8], u64) {
        let id = usize::try_from(id).unwrap_or(usize::MAX).min(self.events());
        (self.range(id, self.events()), self.last_id())
    }

    /// Takes back what readers have not seen.
    pub(crate) fn retract(&mut self) {
        self.frames.truncate(self.bytes_shown() - self.past.bytes);
        self.ends.truncate(self.shown - self.past.events);
        self.closed = false;
        self.tokens = self.tokens_of(self.shown);
        self.first_token = self.first_token.filter(|it| *it <= self.shown);
    }

    /// Appends events that were read back; readers may see them.
    ///
    /// # Errors
    /// Where they are not what a log encodes: bytes that were read may be damaged.
    pub(crate) fn read_back(&mut self, frames: &[u8]) -> Result<(), serde_json::Error> {
        for event in frame::split(frames) {
            if let Some(data) = frame::data_of(event, "token") {
                let token: Token = serde_json::from_slice(data)?;
                self.tokens = token.i + u64::from(token.n);
                self.first_token.get_or_insert(self.events() + 1);
            } else if let Some(data) = frame::data_of(event, "result") {
                let _whole: TaskResult = serde_json::from_slice(data)?;
            }
            self.frames.extend_from_slice(event);
            self.mark();
        }
        self.shown = self.events();
        Ok(())
    }

    /// Nothing follows what was read back.
    pub(crate) fn read_to_the_end(&mut self) {
        self.closed = true;
    }

    /// Bytes held.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Id of the newest event; 0 while there is none.
    pub(crate) fn last_id(&self) -> u64 {
        self.events() as u64
    }

    /// What somebody gets next who has seen event `id`: as many whole events as fit into `bytes`, and
    /// at least one.
    pub(crate) fn next(&self, id: u64, bytes: usize) -> Next<'_> {
        let seen = usize::try_from(id).unwrap_or(usize::MAX);
        if self.shown <= seen {
            return Next::Nothing;
        }
        if seen < self.past.events {
            return Next::Past;
        }
        let limit = self.end_of(seen) + bytes;
        let fitting = self.ends.partition_point(|end| *end as usize <= limit) + self.past.events;
        let last = fitting.clamp(seen + 1, self.shown);
        Next::Events(self.range(seen, last), last as u64)
    }

    /// The text of the tokens that are here, shown or not.
    pub(crate) fn text(&self) -> String {
        text_of(self.range(self.past.events, self.events()))
    }

    /// As [`Self::text`], of what readers may see.
    pub(crate) fn text_shown(&self) -> String {
        text_of(self.range(self.past.events, self.shown))
    }

    pub(crate) fn tokens_shown(&self) -> u64 {
        if self.shown == self.events() { self.tokens } else { self.tokens_of(self.shown) }
    }

    /// The result, if readers may see one. It is never dropped: the little that follows it is less
    /// than any window.
    pub(crate) fn result(&self) -> Option<TaskResult> {
        let mut events = frame::split(self.range(self.past.events, self.shown));
        let data = events.find_map(|it| frame::data_of(it, "result"))?;
        Some(serde_json::from_slice(data).expect("the log holds what it encoded"))
    }

    fn events(&self) -> usize {
        self.past.events + self.ends.len()
    }

    /// Where the first `events` end. Those of the past are one.
    fn end_of(&self, events: usize) -> usize {
        let here = events.saturating_sub(self.past.events);
        here.checked_sub(1).map_or(self.past.bytes, |it| self.ends[it] as usize)
    }

    /// The events after the first `seen` up to the `last`th.
    fn range(&self, seen: usize, last: usize) -> &[u8] {
        let (start, end) = (self.end_of(seen), self.end_of(last));
        &self.frames[start - self.past.bytes..end - self.past.bytes]
    }

    /// Tokens in the first events, which are the past and more.
    fn tokens_of(&self, events: usize) -> u64 {
        let last = (self.past.events..events).rev().find_map(|it| {
            let data = frame::data_of(self.range(it, it + 1), "token")?;
            Some(serde_json::from_slice(data).expect("the log holds what it encoded"))
        });
        last.map_or(self.past.tokens, |it: Token| it.i + u64::from(it.n))
    }

    fn next_id(&self) -> u64 {
        self.last_id() + 1
    }

    fn fit(&mut self) {
        self.frames.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    fn mark(&mut self) {
        let end = self.past.bytes + self.frames.len();
        self.ends.push(u32::try_from(end).expect("max_tokens bounds a stream below 4 GiB"));
    }
}

/// The text of all tokens. It is asked for rarely, and keeping it would double what every stream holds.
pub(crate) fn text_of(frames: &[u8]) -> String {
    let mut text = String::new();
    for data in frame::split(frames).filter_map(|it| frame::data_of(it, "token")) {
        let token: Token = serde_json::from_slice(data).expect("a log encoded it");
        text.push_str(&token.t);
    }
    text
}

#[cfg(test)]
mod tests;
