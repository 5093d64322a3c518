//! The journaled events of one task, in memory.
//!
//! An event is appended first and shown later: readers see what the journal has, so that no replay
//! contradicts what somebody saw. Without a journal both are one step.

use api_types::{TaskResult, Token};
use serde::Serialize;

use super::frame::{self, TokenRef};

/// Room for the first events at once; growing to it byte by byte would copy them several times.
const FIRST_BYTES: usize = 512;

/// Append-only until closed. Event ids count from 1.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Every event, encoded, one after the other.
    frames: Vec<u8>,
    /// Where each event ends in `frames`; event `id` is `ends[id - 1]`.
    ends: Vec<u32>,
    tokens: u64,
    closed: bool,
    /// Events that readers may see.
    shown: usize,
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
    }

    /// Appends the last event. Nothing follows it.
    pub(crate) fn close(&mut self, name: &str, data: &impl Serialize) {
        self.event(name, data);
        self.closed = true;
        self.frames.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Tokens so far.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Nothing follows what readers see.
    pub(crate) fn is_over(&self) -> bool {
        self.closed && self.shown == self.ends.len()
    }

    /// What readers may see.
    pub(crate) fn shown(&self) -> &[u8] {
        &self.frames[..self.end_of(self.shown)]
    }

    /// Id of the newest event that readers may see.
    pub(crate) fn last_shown(&self) -> u64 {
        self.shown as u64
    }

    /// Readers may see events up to `id`.
    pub(crate) fn show(&mut self, id: u64) {
        let all = self.ends.len();
        self.shown = usize::try_from(id).unwrap_or(usize::MAX).clamp(self.shown, all);
    }

    /// Events after `id`, and the id of the last.
    pub(crate) fn after(&self, id: u64) -> (&[u8], u64) {
        let start = self.end_of(usize::try_from(id).unwrap_or(usize::MAX).min(self.ends.len()));
        (&self.frames[start..], self.last_id())
    }

    /// Takes back what readers have not seen.
    pub(crate) fn retract(&mut self) {
        self.frames.truncate(self.end_of(self.shown));
        self.ends.truncate(self.shown);
        self.closed = false;
        self.tokens = self.tokens_of(self.shown);
    }

    /// The log that these events are; `closed`: nothing follows them.
    ///
    /// # Errors
    /// Where they are not what a log encodes: bytes that were read may be damaged.
    pub(crate) fn replay(frames: Vec<u8>, closed: bool) -> Result<Self, serde_json::Error> {
        let mut log = Self { closed, ..Self::default() };
        // JSON has no raw line breaks, so an empty line is the end of an event.
        let ends = frames.windows(2).enumerate().filter(|(_, it)| *it == b"\n\n");
        log.ends = ends.filter_map(|(at, _)| u32::try_from(at + 2).ok()).collect();
        log.shown = log.ends.len();
        log.frames = frames;
        for events in 0..log.shown {
            let event = &log.frames[log.end_of(events)..log.end_of(events + 1)];
            if let Some(data) = data_of(event, b"event: token") {
                let token: Token = serde_json::from_slice(data)?;
                log.tokens = token.i + u64::from(token.n);
            } else if let Some(data) = data_of(event, b"event: result") {
                let _whole: TaskResult = serde_json::from_slice(data)?;
            }
        }
        Ok(log)
    }

    /// Bytes held.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    fn end_of(&self, events: usize) -> usize {
        events.checked_sub(1).map_or(0, |it| self.ends[it] as usize)
    }

    /// Tokens in the first events.
    fn tokens_of(&self, events: usize) -> u64 {
        let last = (0..events).rev().find_map(|it| {
            let event = &self.frames[self.end_of(it)..self.end_of(it + 1)];
            let data = data_of(event, b"event: token")?;
            Some(serde_json::from_slice(data).expect("the log holds what it encoded"))
        });
        last.map_or(0, |it: Token| it.i + u64::from(it.n))
    }

    /// Id of the newest event; 0 while there is none.
    pub(crate) fn last_id(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Where reading goes on for somebody who has seen event `id`; `None` if nobody can have seen it.
    /// 0 is the start.
    pub(crate) fn position_after(&self, id: u64) -> Option<usize> {
        let id = usize::try_from(id).ok()?;
        (id <= self.shown).then(|| self.end_of(id))
    }

    /// Where a chunk that starts at `start` and holds whole events ends: as many as fit into `bytes`,
    /// and at least one. `start` is before the end of what is shown.
    pub(crate) fn chunk_end(&self, start: usize, bytes: usize) -> usize {
        let limit = start + bytes;
        let ends = &self.ends[..self.shown];
        let fitting = ends.partition_point(|end| *end as usize <= limit);
        match fitting.checked_sub(1).map(|it| ends[it] as usize) {
            Some(end) if start < end => end,
            Some(_) | None => ends[fitting] as usize,
        }
    }

    /// The text of all tokens, shown or not.
    pub(crate) fn text(&self) -> String {
        self.text_of(self.ends.len())
    }

    pub(crate) fn text_shown(&self) -> String {
        self.text_of(self.shown)
    }

    pub(crate) fn tokens_shown(&self) -> u64 {
        if self.shown == self.ends.len() { self.tokens } else { self.tokens_of(self.shown) }
    }

    /// Decodes the frames: it is asked for rarely, and keeping it would double what every stream
    /// holds.
    fn text_of(&self, events: usize) -> String {
        let mut text = String::new();
        let mut start = 0;
        for end in &self.ends[..events] {
            let event = &self.frames[start..*end as usize];
            start = *end as usize;
            let Some(data) = data_of(event, b"event: token") else { continue };
            let token: Token = serde_json::from_slice(data).expect("the log holds what it encoded");
            text.push_str(&token.t);
        }
        text
    }

    /// The result, if readers may see one.
    pub(crate) fn result(&self) -> Option<TaskResult> {
        let mut start = 0;
        self.ends[..self.shown].iter().find_map(|end| {
            let event = &self.frames[start..*end as usize];
            start = *end as usize;
            let data = data_of(event, b"event: result")?;
            Some(serde_json::from_slice(data).expect("the log holds what it encoded"))
        })
    }

    fn next_id(&self) -> u64 {
        self.ends.len() as u64 + 1
    }

    fn mark(&mut self) {
        let end = u32::try_from(self.frames.len()).expect("max_tokens bounds a stream below 4 GiB");
        self.ends.push(end);
    }
}

/// The data of an event, if `name` is its second line.
fn data_of<'a>(event: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = event.split(|it| *it == b'\n').skip(1);
    (lines.next()? == name).then(|| lines.next()?.strip_prefix(b"data: "))?
}

#[cfg(test)]
mod tests;
