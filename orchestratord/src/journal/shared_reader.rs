//! A journal's reader for the runtime.

use std::sync::{Arc, Mutex};

use journal::{JournalError, JournalReader};

/// Answers one question after the other, none on a worker of the runtime. Cheap to clone.
#[derive(Clone)]
pub(super) struct SharedReader(Arc<Mutex<Box<dyn JournalReader>>>);

impl SharedReader {
    pub(super) fn new(reader: Box<dyn JournalReader>) -> Self {
        Self(Arc::new(Mutex::new(reader)))
    }

    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut dyn JournalReader) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let reader = Arc::clone(&self.0);
        let looked = tokio::task::spawn_blocking(move || {
            look(reader.lock().expect("no holder panics").as_mut())
        });
        looked.await.expect("looking does not panic, and nobody aborts it")
    }
}
