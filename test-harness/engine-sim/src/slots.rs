//! The slots that generations run in. A request beyond them is deferred; how many may be is the
//! dialect's affair, and for llama-server there is no bound.

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

/// What an admitted request has.
pub(crate) enum Place<'a> {
    Held(Held<'a>),
    Queued(Deferred<'a>),
    /// Nothing yet, not even a place in the queue: the engine sleeps.
    Later,
}

/// A request that waits. Dropping it gives the place up.
pub(crate) struct Deferred<'a>(&'a AtomicU32);

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            free: Semaphore::new(count as usize),
            table: (0..count).map(|_| Slot::default()).collect(),
            deferred: AtomicU32::new(0),
            tasks: AtomicU64::new(0),
        }
    }

    /// Takes a slot if one is free now, otherwise a place among at most `queue_max` that wait for
    /// one; `None` if there is none of either.
    pub(crate) fn enter(&self, wanted: Option<u32>, queue_max: Option<u32>) -> Option<Place<'_>> {
        match self.free.try_acquire() {
            Ok(permit) => Some(Place::Held(self.occupy(permit, wanted))),
            Err(_) => Deferred::enter(&self.deferred, queue_max).map(Place::Queued),
        }
    }

    /// Waits for the slot that `place` leads to.
    pub(crate) async fn take<'a>(&'a self, place: Place<'a>, wanted: Option<u32>) -> Held<'a> {
        let _deferred = match place {
            Place::Held(held) => return held,
            Place::Queued(deferred) => Some(deferred),
            Place::Later => Deferred::enter(&self.deferred, None),
        };
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

impl<'a> Deferred<'a> {
    fn enter(count: &'a AtomicU32, most: Option<u32>) -> Option<Self> {
        let most = most.unwrap_or(u32::MAX);
        let more = |waiting: u32| (waiting < most).then(|| waiting + 1);
        count.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Self(count))
    }
}

impl Drop for Deferred<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
