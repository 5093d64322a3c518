//! What must hold after every event; asserted by the property tests and the simulator.

use std::collections::BTreeMap;

use super::{Core, Phase};
use crate::placement::admits;
use crate::types::{Class, TenantId};

impl Core {
    /// One sentence for each invariant that does not hold; empty in a sound state. O(n).
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.one_state_per_task(&mut found);
        self.counts_agree(&mut found);
        self.slots_respected(&mut found);
        self.quotas_respected(&mut found);
        self.work_conserving(&mut found);
        self.due_first(&mut found);
        self.never_stuck(&mut found);
        self.turns_in_order(&mut found);
        found
    }

    /// I1: a task waits, is isolated or runs, and the lanes say the same.
    fn one_state_per_task(&self, found: &mut Vec<String>) {
        let mut waiting = 0;
        for (model, place, keys) in self.queue.lanes() {
            for (due, id) in keys {
                waiting += 1;
                let Some(task) = self.tasks.get(&id) else {
                    found.push(format!("I1: {id:?} is queued and not known"));
                    continue;
                };
                let agrees = task.phase == Phase::Queued(place)
                    && task.due == due
                    && task.spec.model == model
                    && (task.spec.tenant, task.spec.class) == (place.tenant, place.class);
                if !agrees {
                    found.push(format!("I1: {id:?} is {:?} and in lane {place:?}", task.phase));
                }
            }
        }
        let queued = self.tasks.values().filter(|it| matches!(it.phase, Phase::Queued(_))).count();
        if waiting != queued || waiting != self.queue.len() {
            let counted = self.queue.len();
            found.push(format!("I1: {queued} tasks wait, {waiting} in lanes, {counted} counted"));
        }
        for (id, task) in &self.tasks {
            let isolated = self.models.get(&task.spec.model).map(|it| it.isolated.contains(id));
            if isolated == Some(true) && task.phase != Phase::Isolated
                || isolated != Some(true) && task.phase == Phase::Isolated
            {
                found.push(format!("I1: {id:?} is {:?}, isolated: {isolated:?}", task.phase));
            }
        }
    }

    fn counts_agree(&self, found: &mut Vec<String>) {
        for (id, model) in &self.models {
            for class in Class::ALL {
                let running = self.tasks.values().filter(|it| {
                    it.spec.model == *id && it.spec.class == class && it.running().is_some()
                });
                let (counted, real) = (model.running[class.index()], running.count() as u64);
                if counted != real {
                    found.push(format!("I1: {id:?} {class:?} runs {real}, counts {counted}"));
                }
            }
        }
        let mut tenants: BTreeMap<TenantId, (u32, u32)> = BTreeMap::new();
        for task in self.tasks.values() {
            let counts = tenants.entry(task.spec.tenant).or_default();
            match task.phase {
                Phase::Queued(_) | Phase::Behind => counts.0 += 1,
                Phase::Running { .. } => counts.1 += 1,
                Phase::Isolated => {}
            }
        }
        for (id, tenant) in &self.tenants {
            let real = tenants.get(id).copied().unwrap_or_default();
            if real != (tenant.queued, tenant.running) {
                let counted = (tenant.queued, tenant.running);
                found.push(format!("I1: {id:?} has {real:?} queued and running, not {counted:?}"));
            }
        }
    }

    /// I3: an attempt holds a slot of the replica it runs on and of no other.
    fn slots_respected(&self, found: &mut Vec<String>) {
        for (task, entry) in &self.tasks {
            let Some(run) = entry.running() else { continue };
            let elsewhere = self
                .replicas
                .iter()
                .any(|(id, it)| *id != run.replica && it.held.contains_key(&(*task, run.attempt)));
            if elsewhere {
                found.push(format!("I3: {task:?} holds a slot of a replica it does not run on"));
            }
        }
        for (id, replica) in &self.replicas {
            let held: u64 = replica.held.values().sum();
            if held != replica.kv_reserved {
                found.push(format!(
                    "I3: {id:?} holds {held} tokens, counts {}",
                    replica.kv_reserved
                ));
            }
        }
    }

    /// I3: no tenant runs more than it may.
    fn quotas_respected(&self, found: &mut Vec<String>) {
        for (id, tenant) in &self.tenants {
            if tenant.is_held() != self.queue.is_held(*id) {
                found.push(format!("I3: {id:?} is at a limit: {}", tenant.is_held()));
            }
        }
    }

    /// I4: no slot is free while a queued task could use it, once a tick that is due has come. A
    /// task that the cache has no room for keeps the slot it waits for.
    fn work_conserving(&self, found: &mut Vec<String>) {
        if self.next_wakeup().is_some_and(|it| it <= self.now) {
            return;
        }
        for id in self.queue.models() {
            let Some(model) = self.models.get(&id) else { continue };
            let next = self.queue.next(id, self.now, &self.config, |_, route, class| {
                model.free.iter().any(|it| {
                    let replica = &self.replicas[it];
                    admits(route, &replica.status).is_none() && self.has_slot_for(replica, class)
                })
            });
            let Some(next) = next else { continue };
            let needed = crate::placement::needed(&self.task(next.key.1).spec);
            let route = self.queue.route(next.place.route);
            let fits = model.free.iter().map(|it| &self.replicas[it]).any(|it| {
                let capacity = u64::from(it.status.kv_tokens);
                admits(route, &it.status).is_none()
                    && self.has_slot_for(it, next.place.class)
                    && (capacity == 0 || it.kv_reserved + needed <= capacity)
            });
            if fits {
                found.push(format!("I4: {:?} waits while a slot is free", next.key.1));
            }
        }
        for (id, replica) in &self.replicas {
            let listed =
                self.models.get(&replica.status.model).is_some_and(|it| it.free.contains(id));
            let free = self.drop_reason(replica).is_none();
            if free != listed {
                found.push(format!("I4: {id:?} is free: {free}, listed as such: {listed}"));
            }
        }
    }

    /// I6, I11: a lane is in the order of due times, and its ranks count up.
    fn due_first(&self, found: &mut Vec<String>) {
        for (_, place, keys) in self.queue.lanes() {
            let keys: Vec<_> = keys.collect();
            if !keys.is_sorted() {
                found.push(format!("I6: lane {place:?} is not in order"));
            }
        }
    }

    /// A waiting task is looked at again, or something that will look at it is under way.
    fn never_stuck(&self, found: &mut Vec<String>) {
        for (id, model) in &self.models {
            let waits = 0 < self.queue.len_of_model(*id) || !model.isolated.is_empty();
            if waits && model.unready_since.is_some() && self.timers.is_empty() {
                found.push(format!("{id:?} has tasks, no ready replica and no timer"));
            }
        }
        for (id, replica) in &self.replicas {
            let reserved = replica.reserved_for.filter(|it| !self.tasks.contains_key(it));
            if let Some(task) = reserved {
                found.push(format!("{id:?} is set aside for {task:?}, which is gone"));
            }
        }
    }
}
