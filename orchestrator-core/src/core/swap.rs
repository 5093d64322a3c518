//! Which models are resident: planned from the queue.
//!
//! A resident model is served until its queue is empty, then a waiting one takes its place. When the
//! oldest task of a waiting model has waited `max_wait`, the residents in its way are *fenced*: they
//! take only what arrived before that task. Busy, loading and pinned models are never evicted, and
//! waiting models go in the order of their oldest tasks. The plan is made anew after each event; all
//! it remembers is which loads and unloads are on their way.

use std::collections::{BTreeMap, BTreeSet};

use super::timers::Timer;
use super::{Core, Replica};
use crate::event::{Availability, Effect};
use crate::eviction::{Resident, least_cost};
use crate::types::{DeviceId, Micros, ModelId, ReplicaId, TaskId, Timestamp};

/// After a load that failed, the next one waits at least this long.
const RETRY_AFTER: Micros = Micros(5_000_000);

/// For how many times its load a resident may serve what was queued when it came in: decision 0010
/// has the figures.
const GATE_LOADS: u64 = 3;

/// What the core knows of a replica's residency beyond its availability.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Swap {
    order: Order,
    ready_since: Timestamp,
    /// The first task that was submitted after it was ready.
    newcomer: TaskId,
    /// Of a load: measured, or expected until it was.
    load: Micros,
    measured: bool,
    not_before: Timestamp,
}

/// What the replica was told and has not yet done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Order {
    #[default]
    None,
    Load {
        since: Timestamp,
    },
    Unload,
}

impl Swap {
    /// `newcomer`: the first task that is not submitted yet.
    pub(super) fn observe(
        &mut self,
        (before, after): (Availability, Availability),
        now: Timestamp,
        newcomer: TaskId,
    ) {
        match (self.order, after) {
            (Order::Load { since }, Availability::Ready) => {
                let took = now.since(since);
                // The mean of a few loads: files may be cached the second time.
                self.load = if self.measured { Micros((self.load.0 + took.0) / 2) } else { took };
                self.measured = true;
                self.order = Order::None;
            }
            (Order::Load { .. }, Availability::Unloaded | Availability::Down) => {
                self.order = Order::None;
                self.not_before = now.after(self.load.max(RETRY_AFTER));
            }
            (Order::Unload, Availability::Unloaded | Availability::Down) => {
                self.order = Order::None;
            }
            // It was busy after all.
            (Order::Unload, Availability::Ready) if before == Availability::Draining => {
                self.order = Order::None;
            }
            _ => {}
        }
        if after == Availability::Ready && before != Availability::Ready {
            self.ready_since = now;
            self.newcomer = newcomer;
        }
    }

    pub(super) fn expect_load(&mut self, load: Micros) {
        if !self.measured {
            self.load = load;
        }
    }

    fn gate_closes(&self) -> Timestamp {
        self.ready_since.after(Micros(self.load.0.saturating_mul(GATE_LOADS)))
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.order == Order::Unload
    }

    pub(super) fn has_order(&self) -> bool {
        self.order != Order::None
    }
}

/// A waiting model and how it gets in.
struct Want {
    model: ModelId,
    oldest: TaskId,
    expired: bool,
}

/// What one round of planning found.
#[derive(Default)]
struct Round {
    /// Devices that are spoken for.
    claimed: BTreeSet<DeviceId>,
    fences: BTreeMap<ReplicaId, TaskId>,
    look_again: Option<Timestamp>,
}

impl Core {
    pub(super) fn plan_swaps(&mut self, effects: &mut Vec<Effect>) {
        if self.unloaded.is_empty() {
            return;
        }
        let mut round = Round::default();
        for replica in self.replicas.values().filter(|it| it.swap.order != Order::None) {
            round.claimed.extend(replica.footprint.memory_bytes.iter().map(|it| it.0));
        }
        for want in self.wants() {
            self.satisfy(&want, &mut round, effects);
        }
        self.set_fences(&round.fences, effects);
        if let Some(at) = round.look_again {
            self.set_timer(at, Timer::Swap);
        }
    }

    /// Models with waiting tasks and nothing that serves or will serve them, by their oldest task.
    fn wants(&self) -> Vec<Want> {
        let served = |model| {
            self.replicas_of(model).any(|(_, it)| {
                matches!(it.status.availability, Availability::Ready | Availability::Coming)
                    && !it.swap.is_leaving()
                    || matches!(it.swap.order, Order::Load { .. })
            })
        };
        let mut wants: Vec<Want> = self
            .queue
            .models()
            .filter(|model| !served(*model))
            .filter_map(|model| {
                let oldest = self.oldest_waiting(model)?;
                let expired = self.admitted(oldest).after(self.config.swap.max_wait) <= self.now;
                Some(Want { model, oldest, expired })
            })
            .collect();
        wants.sort_by_key(|it| it.oldest);
        wants
    }

    fn satisfy(&mut self, want: &Want, round: &mut Round, effects: &mut Vec<Effect>) {
        let now = self.now;
        let loadable: Vec<ReplicaId> = self
            .replicas_of(want.model)
            .filter(|(_, it)| it.status.availability == Availability::Unloaded)
            .filter(|(_, it)| it.swap.order == Order::None)
            .map(|(id, _)| id)
            .collect();
        let Some(target) = loadable.into_iter().min_by_key(|id| self.effort(*id, want)) else {
            return;
        };
        let replica = &self.replicas[&target];
        let devices: Vec<DeviceId> = replica.footprint.memory_bytes.iter().map(|it| it.0).collect();
        let claimed = devices.iter().any(|it| round.claimed.contains(it));
        // The first in line keeps its place: nobody behind it may take what it waits for.
        round.claimed.extend(devices);
        if claimed {
            return;
        }
        if now < replica.swap.not_before {
            round.look_at(replica.swap.not_before);
            return;
        }
        let lacking = self.lacking(replica);
        if lacking.is_empty() {
            self.load(target, effects);
            return;
        }
        let evictable = self.residents(&lacking, |id, it| self.may_go(id, it, want));
        if let Some(evicted) = self.cheapest(&lacking, &evictable) {
            evicted.into_iter().for_each(|it| self.unload(it, effects));
            return;
        }
        let in_the_way = self.residents(&lacking, |_, it| !it.footprint.pinned);
        for id in &in_the_way {
            let leaves_at = self.may_leave_at(&self.replicas[id]);
            let closes_at = self.replicas[id].swap.gate_closes();
            for at in [leaves_at, closes_at].into_iter().filter(|it| now < *it) {
                round.look_at(at);
            }
        }
        if want.expired {
            let leaving = self.cheapest(&lacking, &in_the_way).unwrap_or_default();
            // Until its stay is over a model serves whatever is queued for it.
            for id in leaving {
                let replica = &self.replicas[&id];
                if self.has_stayed(replica) {
                    round.fences.insert(id, self.fence(replica, want.oldest));
                }
            }
        } else {
            round.look_at(self.admitted(want.oldest).after(self.config.swap.max_wait));
        }
    }

    /// How little it takes to load a replica, of several of one model: room on its device, then
    /// residents that may go now, then the shorter wait after a load that failed.
    fn effort(&self, id: ReplicaId, want: &Want) -> (bool, u8, Timestamp) {
        let replica = &self.replicas[&id];
        let lacking = self.lacking(replica);
        let evictable = || self.residents(&lacking, |id, it| self.may_go(id, it, want));
        let eviction = match lacking.is_empty() {
            true => 0,
            false => 1 + u8::from(self.cheapest(&lacking, &evictable()).is_none()),
        };
        (self.now < replica.swap.not_before, eviction, replica.swap.not_before)
    }

    /// When a resident may be made to go.
    fn may_leave_at(&self, replica: &Replica) -> Timestamp {
        replica.swap.ready_since.after(self.config.swap.min_resident)
    }

    fn has_stayed(&self, replica: &Replica) -> bool {
        self.may_leave_at(replica) <= self.now
    }

    /// The first task that a fenced resident does not take: it serves what came before the oldest
    /// task that waits for its place, and for as long as [`GATE_LOADS`] loads take also what was
    /// queued when it came in. Otherwise a short stay would be spent on few of those who waited for
    /// it, and most of the time on loading.
    fn fence(&self, replica: &Replica, oldest: TaskId) -> TaskId {
        let open = self.now < replica.swap.gate_closes();
        if open { oldest.max(replica.swap.newcomer) } else { oldest }
    }

    /// Bytes that must come free on each device for the replica to be loaded; no zeros.
    fn lacking(&self, replica: &Replica) -> Vec<(DeviceId, u64)> {
        let needs = replica.footprint.memory_bytes.iter();
        let lacks = needs.map(|(device, bytes)| {
            let memory = self.devices.get(device).copied().unwrap_or(0);
            let used = self
                .replicas
                .values()
                .filter(|it| it.is_resident())
                .flat_map(|it| &it.footprint.memory_bytes)
                .filter(|it| it.0 == *device)
                .fold(0_u64, |sum, it| sum.saturating_add(it.1));
            (*device, bytes.saturating_add(used).saturating_sub(memory))
        });
        lacks.filter(|it| it.1 != 0).collect()
    }

    /// Ready replicas on the devices in question that `chosen` lets through.
    fn residents(
        &self,
        lacking: &[(DeviceId, u64)],
        chosen: impl Fn(ReplicaId, &Replica) -> bool,
    ) -> Vec<ReplicaId> {
        let shares = |it: &Replica| {
            let devices = &it.footprint.memory_bytes;
            devices.iter().any(|it| lacking.iter().any(|lacks| lacks.0 == it.0))
        };
        self.replicas
            .iter()
            .filter(|(_, it)| it.status.availability == Availability::Ready && shares(it))
            .filter(|(_, it)| it.swap.order == Order::None)
            .filter(|(id, it)| chosen(**id, it))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Whether a resident may be evicted now for a waiting model.
    fn may_go(&self, id: ReplicaId, replica: &Replica, want: &Want) -> bool {
        let stayed = self.has_stayed(replica);
        let idle = replica.held.is_empty() && replica.reserved_for.is_none();
        let elsewhere = || {
            self.replicas_of(replica.status.model)
                .any(|(other, it)| other != id && it.status.availability == Availability::Ready)
        };
        let unneeded = match self.oldest_waiting(replica.status.model) {
            None => true,
            Some(oldest) => {
                elsewhere() || want.expired && self.fence(replica, want.oldest) <= oldest
            }
        };
        stayed && idle && unneeded && !replica.footprint.pinned
    }

    fn cheapest(&self, lacking: &[(DeviceId, u64)], ids: &[ReplicaId]) -> Option<Vec<ReplicaId>> {
        let residents: Vec<Resident<'_>> = ids
            .iter()
            .map(|id| &self.replicas[id])
            .map(|it| Resident { cost: it.swap.load.0, memory_bytes: &it.footprint.memory_bytes })
            .collect();
        let chosen = least_cost(lacking, &residents)?;
        Some(chosen.into_iter().map(|it| ids[it]).collect())
    }

    fn load(&mut self, replica: ReplicaId, effects: &mut Vec<Effect>) {
        let since = self.now;
        if let Some(it) = self.replicas.get_mut(&replica) {
            it.swap.order = Order::Load { since };
        }
        effects.push(Effect::Load { replica });
    }

    pub(super) fn order_failed(&mut self, id: ReplicaId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        if replica.swap.order == Order::None {
            return;
        }
        replica.swap.order = Order::None;
        replica.swap.not_before = now.after(RETRY_AFTER);
        // What could not be unloaded stays as if it had just come.
        replica.swap.ready_since = now;
        let model = replica.status.model;
        self.refresh_free(id);
        self.dispatch(model, effects);
    }

    pub(super) fn unload(&mut self, replica: ReplicaId, effects: &mut Vec<Effect>) {
        if let Some(it) = self.replicas.get_mut(&replica) {
            it.swap.order = Order::Unload;
            it.fence = None;
            self.fenced.remove(&replica);
        }
        self.refresh_free(replica);
        effects.push(Effect::Unload { replica });
    }

    fn set_fences(&mut self, fences: &BTreeMap<ReplicaId, TaskId>, effects: &mut Vec<Effect>) {
        let changed: BTreeSet<ReplicaId> = self
            .fenced
            .iter()
            .chain(fences.keys())
            .filter(|id| self.replicas[id].fence != fences.get(id).copied())
            .copied()
            .collect();
        for id in changed {
            let Some(replica) = self.replicas.get_mut(&id) else { continue };
            replica.fence = fences.get(&id).copied();
            if replica.fence.is_some() {
                self.fenced.insert(id);
            } else {
                self.fenced.remove(&id);
            }
            let model = replica.status.model;
            self.refresh_free(id);
            self.dispatch(model, effects);
        }
    }

    /// Replicas that are to be loaded or unloaded, or that make way.
    pub(super) fn swaps_of(&self, model: ModelId) -> impl Iterator<Item = (ReplicaId, bool)> {
        self.replicas_of(model).filter_map(|(id, it)| match it.swap.order {
            Order::Load { .. } => Some((id, true)),
            Order::Unload => Some((id, false)),
            Order::None => it.fence.map(|_| (id, false)),
        })
    }
}

impl Round {
    fn look_at(&mut self, at: Timestamp) {
        self.look_again = Some(self.look_again.map_or(at, |it| it.min(at)));
    }
}

impl Replica {
    /// Whether it takes memory, or is about to.
    fn is_resident(&self) -> bool {
        match self.status.availability {
            Availability::Ready | Availability::Coming | Availability::Draining => true,
            Availability::Unloaded => matches!(self.swap.order, Order::Load { .. }),
            Availability::Down => false,
        }
    }
}
