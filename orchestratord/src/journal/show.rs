//! From the writer's thread back to the runtime: what is written is shown to readers there.
//!
//! A reader that is woken on a worker of the runtime goes on on that worker; woken from a thread
//! outside, each one costs a system call. So the thread wakes one task for each commit, and that wakes
//! the readers.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::task::TaskRecord;

/// Commits that may be waiting to be shown; the writer waits beyond.
const COMMITS_MAX: usize = 64;

enum Show {
    /// Records, with the last event of each that is written.
    Written(Vec<(Arc<TaskRecord>, u64)>),
    /// Ends for which there is no room yet.
    Late(Vec<(Arc<TaskRecord>, u64)>),
    /// Tells when everything before it was shown.
    Flush(SyncSender<()>),
}

/// The writer's end.
pub(super) struct Shows(Sender<Show>);

/// The runtime's end.
pub(super) struct Shower(Receiver<Show>);

pub(super) fn shows() -> (Shows, Shower) {
    let (sender, receiver) = channel(COMMITS_MAX);
    (Shows(sender), Shower(receiver))
}

impl Shows {
    pub(super) fn written(&self, records: Vec<(Arc<TaskRecord>, u64)>) {
        if !records.is_empty() {
            self.send(Show::Written(records));
        }
    }

    pub(super) fn late(&self, records: Vec<(Arc<TaskRecord>, u64)>) {
        self.send(Show::Late(records));
    }

    /// Returns when all that was written has been shown.
    pub(super) fn flush(&self) {
        let (done, shown) = sync_channel(1);
        self.send(Show::Flush(done));
        // An error: the runtime has ended, and nobody reads.
        let _ended = shown.recv();
    }

    fn send(&self, show: Show) {
        let _ended = self.0.blocking_send(show);
    }
}

impl Shower {
    /// Runs until the writer has ended.
    pub(super) async fn run(mut self) {
        while let Some(show) = self.0.recv().await {
            match show {
                Show::Written(records) => {
                    records.iter().for_each(|(record, last)| record.written(*last));
                }
                Show::Late(records) => {
                    records.iter().for_each(|(record, last)| record.shown_unwritten(*last));
                }
                Show::Flush(done) => {
                    let _gone = done.try_send(());
                }
            }
        }
    }
}
