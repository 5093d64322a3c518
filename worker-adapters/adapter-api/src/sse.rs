//! An incremental decoder for the server-sent events that engines write.
//!
//! It accepts what the engines really send, which is less than the standard in places and more in
//! others: any line ending, comments as signs of life, an `error:` field line as an error event
//! (llama.cpp before October 2025), `event:` and `id:` lines that carry nothing we need.

use bytes::{Bytes, BytesMut};

use crate::EngineError;

/// Longest event that is taken; a longer one is not an engine's.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// One thing that an engine said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SseEvent<'a> {
    Data(&'a [u8]),
    /// The value of an `error:` field.
    Error(&'a [u8]),
    /// A comment: the engine lives and has nothing to say.
    KeepAlive,
}

/// Feed it with [`push`](Self::push), then call [`next_event`](Self::next_event) until it is empty.
///
/// An event that lies whole in one chunk is handed out in place; only one that is cut by a chunk
/// border is copied, once.
#[derive(Debug, Default)]
pub struct SseDecoder {
    /// What was pushed and is not consumed.
    region: Bytes,
    /// Start of the event under way.
    position: usize,
    /// Data of an event of several `data:` lines, joined.
    joined: Vec<u8>,
}

impl SseDecoder {
    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// `Protocol` when an event exceeds 1 MiB.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), EngineError> {
        let rest = self.region.slice(self.position..);
        self.position = 0;
        if EVENT_BYTES_MAX < rest.len() {
            let message = format!("an event exceeds {EVENT_BYTES_MAX} bytes");
            return Err(EngineError::Protocol { message });
        }
        self.region = if rest.is_empty() {
            chunk
        } else {
            let mut both = BytesMut::with_capacity(rest.len() + chunk.len());
            both.extend_from_slice(&rest);
            both.extend_from_slice(&chunk);
            both.freeze()
        };
        Ok(())
    }

    /// The next whole event, or `None` until more is pushed.
    pub fn next_event(&mut self) -> Option<SseEvent<'_>> {
        let found = self.scan()?;
        Some(match found {
            Found::Data(start, end) => SseEvent::Data(&self.region[start..end]),
            Found::Joined => SseEvent::Data(&self.joined),
            Found::Error(start, end) => SseEvent::Error(&self.region[start..end]),
            Found::KeepAlive => SseEvent::KeepAlive,
        })
    }

    /// Reads lines from the event's start. A comment counts when no event is under way, else the
    /// event itself is the sign of life.
    fn scan(&mut self) -> Option<Found> {
        let mut found = None;
        let mut at = self.position;
        loop {
            let rest = &self.region[at..];
            let length = memchr::memchr2(b'\n', b'\r', rest)?;
            let line = (at, at + length);
            at = self.next_line(line.1);
            if length == 0 {
                self.position = at;
                if found.is_some() {
                    return found;
                }
                continue;
            }
            match self.field(line) {
                Field::Data(value) => found = Some(self.add(found, value)),
                Field::Error(value) => found = Some(Found::Error(value.0, value.1)),
                Field::Comment if found.is_none() => found = Some(Found::KeepAlive),
                Field::Comment | Field::Other => {}
            }
        }
    }

    /// A line feed whose carriage return ended the region reads as an empty line. That is harmless:
    /// inside an event the line is read again, whole, and between events empty lines mean nothing.
    fn next_line(&self, end: usize) -> usize {
        match (self.region[end], self.region.get(end + 1)) {
            (b'\r', Some(b'\n')) => end + 2,
            _ => end + 1,
        }
    }

    fn field(&self, (start, end): (usize, usize)) -> Field {
        let line = &self.region[start..end];
        let value = |name: usize| {
            let space = usize::from(line.get(name) == Some(&b' '));
            (start + name + space, end)
        };
        if line.starts_with(b"data:") {
            Field::Data(value(5))
        } else if line.starts_with(b"error:") {
            Field::Error(value(6))
        } else if line.starts_with(b":") {
            Field::Comment
        } else {
            Field::Other
        }
    }

    fn add(&mut self, found: Option<Found>, (start, end): (usize, usize)) -> Found {
        match found {
            Some(Found::Data(first, first_end)) => {
                self.joined.clear();
                self.joined.extend_from_slice(&self.region[first..first_end]);
            }
            Some(Found::Joined) => {}
            Some(error @ Found::Error(..)) => return error,
            Some(Found::KeepAlive) | None => return Found::Data(start, end),
        }
        self.joined.push(b'\n');
        self.joined.extend_from_slice(&self.region[start..end]);
        Found::Joined
    }
}

#[derive(Debug, Clone, Copy)]
enum Found {
    Data(usize, usize),
    Joined,
    Error(usize, usize),
    KeepAlive,
}

enum Field {
    Data((usize, usize)),
    Error((usize, usize)),
    Comment,
    Other,
}
