//! Events of tasks in memory that only the journal still has.

use bytes::{Bytes, BytesMut};
use journal::{JournalError, JournalReader, StoredEvents};
use orchestrator_core::TaskId;

use super::shared_reader::SharedReader;
use super::task_no;
use crate::stream::{frame, log};

/// Read at once: more would be held while a connection takes it.
const CHUNK_BYTES: usize = 64 << 10;

/// Reads events back. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shelf {
    reader: SharedReader,
    /// Bytes of a stream's newest events that are kept in memory.
    pub(crate) window: usize,
}

impl Shelf {
    pub(super) fn new(reader: Box<dyn JournalReader>, window: usize) -> Self {
        Self { reader: SharedReader::new(reader), window }
    }

    /// The next events of a task after `after`, encoded, whole ones, and the id of the last; none
    /// where the task is no longer kept.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) async fn events(
        &self,
        task: TaskId,
        after: u64,
    ) -> Result<(Bytes, u64), JournalError> {
        self.reader.look(move |reader| next(reader, task, after)).await
    }

    /// The text of a task's events up to `last`; `None`: they are no longer kept.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) async fn text(
        &self,
        task: TaskId,
        last: u64,
    ) -> Result<Option<String>, JournalError> {
        let (mut text, mut read) = (String::new(), 0);
        // Others read in between.
        while read < last {
            let (events, until) = self.events(task, read).await?;
            if until == read {
                return Ok(None);
            }
            let wanted = usize::try_from(until.min(last) - read).unwrap_or(usize::MAX);
            let end = frame::ends(&events).take(wanted).last().unwrap_or(0);
            text.push_str(&log::text_of(&events[..end]));
            read = until;
        }
        Ok(Some(text))
    }
}

fn next(
    reader: &mut dyn JournalReader,
    task: TaskId,
    after: u64,
) -> Result<(Bytes, u64), JournalError> {
    let rows = reader.events(task_no(task), after, CHUNK_BYTES)?;
    let last = rows.last().map_or(after, |it| it.last);
    let mut events = BytesMut::new();
    for StoredEvents { first, frames, .. } in rows {
        // The first row may begin with events that the reader has.
        let known = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let start = frame::ends(&frames).take(known).last().unwrap_or(0);
        events.extend_from_slice(&frames[start..]);
    }
    Ok((events.freeze(), last))
}
