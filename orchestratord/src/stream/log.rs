//! The journaled events of one task, in memory.

use api_types::TaskResult;
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

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.frames
    }

    /// Id of the newest event; 0 while there is none.
    pub(crate) fn last_id(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Where reading goes on for somebody who has seen event `id`; `None` if there is no such event
    /// yet. 0 is the start.
    pub(crate) fn position_after(&self, id: u64) -> Option<usize> {
        match usize::try_from(id).ok()? {
            0 => Some(0),
            id => self.ends.get(id - 1).map(|end| *end as usize),
        }
    }

    /// Where a chunk that starts at `start` and holds whole events ends: as many as fit into `bytes`,
    /// and at least one. `start` is before the end of the log.
    pub(crate) fn chunk_end(&self, start: usize, bytes: usize) -> usize {
        let limit = start + bytes;
        let fitting = self.ends.partition_point(|end| *end as usize <= limit);
        match fitting.checked_sub(1).map(|it| self.ends[it] as usize) {
            Some(end) if start < end => end,
            Some(_) | None => self.ends[fitting] as usize,
        }
    }

    /// The text of all tokens. Decodes the frames: it is asked for rarely, and keeping it would
    /// double what every stream holds.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut start = 0;
        for end in &self.ends {
            let event = &self.frames[start..*end as usize];
            start = *end as usize;
            let Some(data) = data_of(event, b"event: token") else { continue };
            let token: api_types::Token =
                serde_json::from_slice(data).expect("the log holds what it encoded");
            text.push_str(&token.t);
        }
        text
    }

    /// The result, if there is one. Decodes the frames, as [`Self::text`] does.
    pub(crate) fn result(&self) -> Option<TaskResult> {
        let mut start = 0;
        self.ends.iter().find_map(|end| {
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
