//! Rows of the tail, put together to one blob and taken apart again.
//!
//! Beside the blob lies, for each row, how many events and how many bytes it has: two numbers of
//! four bytes, little-endian.

use bytes::Bytes;

use crate::port::StoredEvents;

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
