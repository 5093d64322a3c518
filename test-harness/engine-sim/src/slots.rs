//! The slots that generations run in. A request beyond them is deferred, never refused, as with the
//! real engine.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use tokio::sync::{Semaphore, SemaphorePermit};

pub(crate) struct Slots {
    // Invariant: at most as many slots are `busy` as permits are out, so a holder finds a free one.
    free: Semaphore,
    table: Vec<Slot>,
    deferred: AtomicU32,
    tasks: AtomicU64,
}

/// The last task of one slot, as `/slots` tells it.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) busy: AtomicBool,
    /// 0 until the first task.
    pub(crate) task: AtomicU64,
    pub(crate) prompt_tokens: AtomicU32,
    pub(crate) decoded: AtomicU32,
    pub(crate) tokens_max: AtomicU32,
}

/// A slot that is held. Dropping it frees the slot.
pub(crate) struct Held<'a> {
    pub(crate) index: u32,
    pub(crate) slot: &'a Slot,
    _permit: SemaphorePermit<'a>,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            free: Semaphore::new(count as usize),
            table: (0..count).map(|_| Slot::default()).collect(),
            deferred: AtomicU32::new(0),
            tasks: AtomicU64::new(0),
        }
    }

    /// Takes a slot if one is free now.
    pub(crate) fn try_take(&self, wanted: Option<u32>) -> Option<Held<'_>> {
        self.free.try_acquire().ok().map(|permit| self.occupy(permit, wanted))
    }

    /// Waits for a slot. Counts as deferred until then, also when the future is dropped.
    pub(crate) async fn take(&self, wanted: Option<u32>) -> Held<'_> {
        let _deferred = Deferred::enter(&self.deferred);
        let permit = self.free.acquire().await.expect("the semaphore is never closed");
        self.occupy(permit, wanted)
    }

    pub(crate) fn table(&self) -> &[Slot] {
        &self.table
    }

    pub(crate) fn busy(&self) -> usize {
        self.table.iter().filter(|slot| slot.busy.load(Relaxed)).count()
    }

    pub(crate) fn deferred(&self) -> u32 {
        self.deferred.load(Relaxed)
    }

    fn occupy<'a>(&'a self, permit: SemaphorePermit<'a>, wanted: Option<u32>) -> Held<'a> {
        let task = self.tasks.fetch_add(1, Relaxed) + 1;
        let count = self.table.len();
        // Recorded: the real engine takes a wanted slot modulo the number of slots.
        let first = wanted.map_or(0, |index| index as usize % count);
        loop {
            for offset in 0..count {
                let index = (first + offset) % count;
                let slot = &self.table[index];
                if !slot.busy.swap(true, std::sync::atomic::Ordering::AcqRel) {
                    slot.task.store(task, Relaxed);
                    let index = u32::try_from(index).expect("the count came from a u32");
                    return Held { index, slot, _permit: permit };
                }
            }
            // Another holder marks its slot free just before it gives its permit back.
            std::hint::spin_loop();
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.slot.busy.store(false, std::sync::atomic::Ordering::Release);
    }
}

struct Deferred<'a>(&'a AtomicU32);

impl<'a> Deferred<'a> {
    fn enter(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Deferred<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
