//! Replicas coming, changing and going.

use std::collections::BTreeMap;

use super::timers::Timer;
use super::{Core, Model, Replica, Rooms};
use crate::decision::DropReason;
use crate::event::{Availability, Effect, Footprint, ReplicaStatus};
use crate::ledger::Group;
use crate::placement::room;
use crate::types::{DeviceId, ModelId, ReplicaId, TaskId};

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
        let newcomer = TaskId(self.last_task.map_or(0, |it| it.0 + 1));
        let change = (before.availability, status.availability);
        replica.swap.observe(change, self.now, newcomer);
        if before.model != status.model {
            self.disown(id, before.model);
            self.note_readiness(before.model);
        }
        let reserved = self.replicas[&id].reserved_for;
        if !matches!(status.availability, Availability::Ready | Availability::Coming)
            && let Some(task) = reserved.filter(|it| self.task(*it).running().is_none())
        {
            // Another one is to be emptied for it.
            self.drop_reservation(task);
        }
        if status.availability == Availability::Unloaded {
            self.unloaded.insert(id);
        } else {
            self.unloaded.remove(&id);
        }
        let is_new = self.models.entry(status.model).or_default().replicas.insert(id);
        if is_new {
            self.regroup();
        }
        self.refresh_free(id);
        self.watch_idle(id);
        self.note_readiness(status.model);
        if is_new || room(&before) != room(&status) {
            self.reroute(status.model);
        }
        self.dispatch(status.model, effects);
    }

    pub(super) fn replica_removed(&mut self, id: ReplicaId, effects: &mut Vec<Effect>) {
        // What it runs goes on until its attempts say otherwise.
        let Some(model) = self.replicas.get(&id).map(|it| it.status.model) else { return };
        self.disown(id, model);
        self.replicas.remove(&id);
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
            self.watch_idle(replica);
        }
    }

    /// Why the replica may not take a task, whatever the task; `None`: it is free.
    pub(super) fn drop_reason(&self, replica: &Replica) -> Option<DropReason> {
        match replica.status.availability {
            Availability::Unloaded => Some(DropReason::ModelNotResident),
            Availability::Coming | Availability::Down => Some(DropReason::NotReady),
            Availability::Draining => Some(DropReason::Draining),
            Availability::Ready if replica.suspect_until.is_some_and(|it| self.now < it) => {
                Some(DropReason::Suspect)
            }
            Availability::Ready
                if replica.reserved_for.is_some()
                    || replica.fence.is_some()
                    || replica.swap.is_leaving() =>
            {
                Some(DropReason::Reserved)
            }
            Availability::Ready if replica.free_slots() == 0 => Some(DropReason::NoSlot),
            Availability::Ready => None,
        }
    }

    /// Keeps what is known of a model's free replicas true, after a change of one.
    pub(super) fn refresh_free(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.get(&id) else { return };
        let (model, before, now) =
            (replica.status.model, replica.ruled_out, self.drop_reason(replica));
        let state = self.models.entry(model).or_default();
        state.count(before, now);
        match now {
            None => state.free.insert(id),
            Some(_) => state.free.remove(&id),
        };
        if let Some(it) = self.replicas.get_mut(&id) {
            it.ruled_out = now;
        }
    }

    /// Takes a replica out of its model.
    fn disown(&mut self, id: ReplicaId, model: ModelId) {
        let ruled_out = self.replicas.get_mut(&id).and_then(|it| it.ruled_out.take());
        let state = self.models.entry(model).or_default();
        state.count(ruled_out, None);
        state.replicas.remove(&id);
        state.free.remove(&id);
        state.reserved.retain(|_, reserved| *reserved != id);
        self.fenced.remove(&id);
        self.unloaded.remove(&id);
    }

    /// Whether some replica of the model may become ready.
    pub(super) fn is_hopeful(&self, model: ModelId) -> bool {
        self.replicas_of(model).any(|(_, it)| it.status.availability != Availability::Down)
    }

    pub(super) fn note_readiness(&mut self, model: ModelId) {
        let ready: Vec<u64> = self
            .replicas_of(model)
            .filter(|(_, it)| it.status.availability == Availability::Ready && it.refusals == 0)
            .map(|(_, it)| u64::from(it.status.slots))
            .collect();
        let rooms = self.rooms_of(model);
        let now = self.now;
        let state = self.models.entry(model).or_default();
        state.rooms = rooms;
        state.ready_slots = ready.iter().sum();
        state.unready_since =
            if ready.is_empty() { state.unready_since.or(Some(now)) } else { None };
        self.watch_unready(model);
    }

    fn rooms_of(&self, model: ModelId) -> Rooms {
        let mut rooms = Rooms::default();
        for (_, it) in self.replicas_of(model) {
            let own = room(&it.status);
            rooms.known.extend(own);
            if it.status.availability != Availability::Down {
                rooms.hopeful += 1;
                rooms.hopeful_max = rooms.hopeful_max.max(own.unwrap_or(0));
                rooms.hopeful_unknown |= own.is_none();
            }
        }
        rooms.known.sort_unstable();
        rooms.known.dedup();
        rooms
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
            // In this order its tenant never stops to compete: leaving and coming back would move
            // its counters.
            let next = self.queue.push(model, route, (place.tenant, place.class), key, self.now);
            self.queue.remove(place, key);
            self.task_mut(key.1).phase = super::Phase::Queued(next);
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

impl Model {
    /// A replica that was ruled out, or free, now is for another reason, or free.
    fn count(&mut self, before: Option<DropReason>, now: Option<DropReason>) {
        if before == now {
            return;
        }
        if let Some(reason) = now {
            *self.ruled_out.entry(reason).or_default() += 1;
        }
        if let Some(reason) = before
            && let Some(count) = self.ruled_out.get_mut(&reason)
        {
            *count -= 1;
            if *count == 0 {
                self.ruled_out.remove(&reason);
            }
        }
    }
}
