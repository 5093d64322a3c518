//! Which replica has been promised how much of each device.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pool_api::MemoryNeed;

/// What a device may give now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) device_id: String,
    /// Its memory without the margin.
    pub(crate) usable_bytes: u64,
    /// What its driver or the operating system says is free, without the margin; `None`: it cannot
    /// be asked.
    pub(crate) free_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Shortage {
    #[error(
        "the model needs about {} MiB on `{device_id}`, which may give {} MiB: choose a smaller \
         model or context, or raise `memory_mib`",
        mib(*.needed), mib(*.usable)
    )]
    TooSmall { device_id: String, needed: u64, usable: u64 },
    #[error(
        "the model needs about {} MiB on `{device_id}`, where models of this host hold {} of {} MiB",
        mib(*.needed), mib(*.held), mib(*.usable)
    )]
    Promised { device_id: String, needed: u64, held: u64, usable: u64 },
    #[error(
        "the model needs about {} MiB on `{device_id}`, where {} MiB are free: other programs use \
         the rest",
        mib(*.needed), mib(*.free)
    )]
    Used { device_id: String, needed: u64, free: u64 },
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    holds: Mutex<Holds>,
}

#[derive(Debug, Default)]
struct Holds {
    next: u64,
    by_id: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    needs: Vec<MemoryNeed>,
    /// The engine has taken it: the device's free memory no longer contains it.
    taken: bool,
}

/// A promise. Dropping it gives the memory back.
#[derive(Debug)]
pub(crate) struct Hold {
    memory: Arc<Memory>,
    id: u64,
}

impl Memory {
    /// What is promised of a device.
    pub(crate) fn held(&self, device: &str) -> u64 {
        self.holds.lock().expect("no holder panics").sum(device, |_| true)
    }

    /// Promises `needs`, all or nothing.
    pub(crate) fn hold(
        self: &Arc<Self>,
        needs: &[MemoryNeed],
        limits: &[Limit],
    ) -> Result<Hold, Shortage> {
        let mut holds = self.holds.lock().expect("no holder panics");
        for need in needs {
            let limit = limits.iter().find(|it| it.device_id == need.device_id);
            limit.map_or(Ok(()), |it| holds.check(need, it))?;
        }
        let id = holds.next;
        holds.next += 1;
        holds.by_id.insert(id, Held { needs: needs.to_vec(), taken: false });
        Ok(Hold { memory: Arc::clone(self), id })
    }
}

impl Memory {
    /// Notes what an engine holds that runs already.
    pub(crate) fn adopt(self: &Arc<Self>, needs: Vec<MemoryNeed>) -> Hold {
        let mut holds = self.holds.lock().expect("no holder panics");
        let id = holds.next;
        holds.next += 1;
        holds.by_id.insert(id, Held { needs, taken: true });
        Hold { memory: Arc::clone(self), id }
    }
}

impl Holds {
    fn check(&self, need: &MemoryNeed, limit: &Limit) -> Result<(), Shortage> {
        let (device_id, needed, usable) = (need.device_id.clone(), need.bytes, limit.usable_bytes);
        if usable < needed {
            return Err(Shortage::TooSmall { device_id, needed, usable });
        }
        let held = self.sum(&device_id, |_| true);
        if usable.saturating_sub(held) < needed {
            return Err(Shortage::Promised { device_id, needed, held, usable });
        }
        let Some(free) = limit.free_bytes else { return Ok(()) };
        let free = free.saturating_sub(self.sum(&device_id, |it| !it.taken));
        if free < needed { Err(Shortage::Used { device_id, needed, free }) } else { Ok(()) }
    }

    fn sum(&self, device: &str, counts: impl Fn(&Held) -> bool) -> u64 {
        let held = self.by_id.values().filter(|it| counts(it)).flat_map(|it| &it.needs);
        held.filter(|it| it.device_id == device).map(|it| it.bytes).fold(0, u64::saturating_add)
    }
}

impl Hold {
    /// The engine has loaded, and holds `needs` in truth.
    pub(crate) fn taken(&self, needs: Vec<MemoryNeed>) {
        let mut holds = self.memory.holds.lock().expect("no holder panics");
        holds.by_id.insert(self.id, Held { needs, taken: true });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.memory.holds.lock().expect("no holder panics").by_id.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
