//! Replicas coming, changing and going.

use std::collections::BTreeMap;

use super::timers::Timer;
use super::{Core, Replica};
use crate::event::{Availability, Effect, Footprint, ReplicaStatus};
use crate::ledger::Group;
use crate::types::{DeviceId, ModelId, ReplicaId};

impl Core {
    pub(super) fn replica_changed(
        &mut self,
        id: ReplicaId,
        status: ReplicaStatus,
        effects: &mut Vec<Effect>,
    ) {
        let replica = self.replicas.entry(id).or_insert_with(|| Replica::new(status));
        let before = replica.status;
        if (before.incarnation, before.model) != (status.incarnation, status.model) {
            // The process that ran them is gone, since one process serves one model.
            self.replica_failed(id, before.incarnation, effects);
        }
        let replica = self.replicas.get_mut(&id).expect("inserted above");
        replica.status = status;
        replica.swap.observe(before.availability, status.availability, self.now);
        if status.availability == Availability::Unloaded {
            self.unloaded.insert(id);
        } else {
            self.unloaded.remove(&id);
        }
        if before.model != status.model {
            self.models.entry(before.model).or_default().replicas.remove(&id);
            self.models.entry(before.model).or_default().free.remove(&id);
            self.note_readiness(before.model);
        }
        let is_new = self.models.entry(status.model).or_default().replicas.insert(id);
        if is_new {
            self.regroup();
        }
        self.refresh_free(id);
        self.note_readiness(status.model);
        if is_new || crate::placement::room(&before) != crate::placement::room(&status) {
            self.reroute(status.model);
        }
        self.dispatch(status.model, effects);
    }

    pub(super) fn replica_removed(&mut self, id: ReplicaId, effects: &mut Vec<Effect>) {
        // What it runs goes on until its attempts say otherwise.
        let Some(replica) = self.replicas.remove(&id) else { return };
        let model = replica.status.model;
        self.unloaded.remove(&id);
        let state = self.models.entry(model).or_default();
        state.replicas.remove(&id);
        state.free.remove(&id);
        state.reserved.retain(|_, reserved| *reserved != id);
        self.note_readiness(model);
        self.regroup();
        self.reroute(model);
        self.dispatch(model, effects);
    }

    pub(super) fn footprint_changed(&mut self, replica: ReplicaId, footprint: Footprint) {
        if let Some(it) = self.replicas.get_mut(&replica) {
            it.swap.expect_load(footprint.load);
            it.footprint = footprint;
            self.regroup();
        }
    }

    /// Whether the replica may take a task, whatever the task.
    fn is_free(&self, replica: &Replica) -> bool {
        replica.status.availability == Availability::Ready
            && replica.suspect_until.is_none_or(|until| until <= self.now)
            && replica.reserved_for.is_none()
            && replica.fence.is_none()
            && !replica.swap.is_leaving()
            && 0 < replica.free_slots()
    }

    pub(super) fn refresh_free(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.get(&id) else { return };
        let (model, free) = (replica.status.model, self.is_free(replica));
        let state = self.models.entry(model).or_default();
        if free {
            state.free.insert(id);
        } else {
            state.free.remove(&id);
        }
    }

    /// Whether some replica of the model may become ready.
    pub(super) fn is_hopeful(&self, model: ModelId) -> bool {
        self.replicas_of(model).any(|(_, it)| it.status.availability != Availability::Down)
    }

    pub(super) fn note_readiness(&mut self, model: ModelId) {
        let ready: Vec<u64> = self
            .replicas_of(model)
            .filter(|(_, it)| it.status.availability == Availability::Ready)
            .map(|(_, it)| u64::from(it.status.slots))
            .collect();
        let now = self.now;
        let state = self.models.entry(model).or_default();
        state.ready_slots = ready.iter().sum();
        state.unready_since =
            if ready.is_empty() { state.unready_since.or(Some(now)) } else { None };
        self.watch_unready(model);
    }

    /// Sets the timer of tasks that wait for a model without a ready replica.
    pub(super) fn watch_unready(&mut self, model: ModelId) {
        if let Some((_, at)) = self.next_unready(model) {
            self.set_timer(at, Timer::Unready(model));
        }
    }

    /// The rooms of a model's replicas have changed: its tasks may fit elsewhere.
    fn reroute(&mut self, model: ModelId) {
        let waiting: Vec<_> = self
            .queue
            .lanes()
            .filter(|(id, ..)| *id == model)
            .flat_map(|(_, place, keys)| keys.map(move |key| (place, key)))
            .collect();
        for (place, key) in waiting {
            let route = self.route_of(&self.task(key.1).spec);
            if *self.queue.route(place.route) == route {
                continue;
            }
            self.queue.remove(place, key);
            let place = self.queue.push(model, route, (place.tenant, place.class), key, self.now);
            self.task_mut(key.1).phase = super::Phase::Queued(place);
        }
    }

    /// Joins models whose replicas can be loaded into the same memory.
    fn regroup(&mut self) {
        let mut groups: BTreeMap<ModelId, Group> =
            self.models.keys().map(|it| (*it, *it)).collect();
        let mut devices: BTreeMap<DeviceId, ModelId> = BTreeMap::new();
        let root = |groups: &BTreeMap<ModelId, Group>, mut it: ModelId| {
            while groups[&it] != it {
                it = groups[&it];
            }
            it
        };
        for replica in self.replicas.values() {
            for (device, _) in &replica.footprint.memory_bytes {
                let model = replica.status.model;
                let other = *devices.entry(*device).or_insert(model);
                let (one, two) = (root(&groups, model), root(&groups, other));
                groups.insert(one.max(two), one.min(two));
            }
        }
        let named = groups.keys().map(|it| (*it, root(&groups, *it))).collect();
        self.queue.regroup(&named);
    }
}
