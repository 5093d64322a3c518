//! Events of one commit of many tasks, and of many commits of one task: put together to one blob and
//! taken apart again.
//!
//! Beside the blob of a task lies, for each row, how many events and how many bytes it has: two
//! numbers of four bytes, little-endian. Beside that of a commit, a line of text for each task.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;

use crate::port::{StoredEvents, TaskNo};

/// What one commit has of all tasks.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) heads: String,
    pub(super) frames: Vec<u8>,
}

impl Chunk {
    pub(super) fn add(&mut self, task: TaskNo, first: u64, last: u64, frames: &[u8]) {
        writeln!(self.heads, "{} {first} {last} {}", task.0, frames.len())
            .expect("a string takes everything");
        self.frames.extend_from_slice(frames);
    }

    pub(super) fn clear(&mut self) {
        self.heads.clear();
        self.frames.clear();
    }
}

/// What a chunk has of one task.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) task: TaskNo,
    pub(super) first: u64,
    pub(super) last: u64,
    /// Where its frames are.
    pub(super) at: Range<usize>,
}

/// Ends at a line that is none.
pub(super) fn heads(text: &str) -> impl Iterator<Item = Head> {
    let mut at = 0;
    text.lines().map_while(move |line| {
        let mut numbers = line.split(' ').map(|it| it.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let (task, first, last, bytes) = (TaskNo(next()?), next()?, next()?, next()?);
        if first == 0 || last < first {
            return None;
        }
        let start = at;
        at += usize::try_from(bytes).ok()?;
        Some(Head { task, first, last, at: start..at })
    })
}

/// A blob gets no further row past this, so that reading a page of events reads little more.
const BLOB_BYTES: usize = 32 << 10;

/// Rows that go on where each before ended.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) lengths: Vec<u8>,
    pub(super) frames: Vec<u8>,
}

impl Joined {
    pub(super) fn new(first: u64) -> Self {
        Self { first, last: first - 1, lengths: Vec::new(), frames: Vec::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        BLOB_BYTES <= self.frames.len()
    }

    pub(super) fn add(&mut self, last: u64, frames: &[u8]) {
        for number in [last - self.last, frames.len() as u64] {
            let number = u32::try_from(number).expect("SQLite's blobs are shorter");
            self.lengths.extend(number.to_le_bytes());
        }
        self.last = last;
        self.frames.extend(frames);
    }
}

/// The rows whose first event is `first`. Ends where the lengths and the frames do not agree.
pub(super) fn split(first: u64, lengths: &[u8], frames: &Bytes) -> Vec<StoredEvents> {
    let (mut next, mut at) = (first, 0);
    let numbers = lengths.as_chunks::<4>().0.iter().map(|it| u32::from_le_bytes(*it));
    let numbers: Vec<u32> = numbers.collect();
    let mut rows = Vec::new();
    for [events, bytes] in numbers.as_chunks::<2>().0 {
        let end = at + *bytes as usize;
        if frames.len() < end {
            break;
        }
        let last = next + u64::from(*events) - 1;
        rows.push(StoredEvents { first: next, last, frames: frames.slice(at..end) });
        (next, at) = (last + 1, end);
    }
    rows
}
