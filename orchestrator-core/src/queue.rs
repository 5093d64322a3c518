//! The waiting tasks, and which of them is next.
//!
//! A *lane* holds the tasks of one tenant and class that the same replicas of a model can run, by
//! due time. Those replicas are described by a *route*; nearly every model has one. For each route
//! and class the tenants with a waiting task stand in the order of their counters. Order of decision:
//! class, tenant, task.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::SavedCounters;
use crate::ledger::{ClassShares, Cost, Group, Ledger};
use crate::policy::CoreConfig;
use crate::ranked::{Arena, Key, Set};
use crate::types::{Class, EngineId, ModelId, PoolId, TaskId, TenantId, Timestamp};

/// What a replica must be for a task to run there, its size and state apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) engine: Option<EngineId>,
    /// Smallest known room of a replica of the model that holds the task.
    pub(crate) tokens: u64,
    /// Nowhere else than here, unless empty.
    pub(crate) pin: Vec<PoolId>,
    pub(crate) avoid: Vec<PoolId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteId(u32);

/// Where a task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) class: Class,
    pub(crate) route: RouteId,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    arena: Arena,
    lanes: BTreeMap<Place, Set>,
    routes: BTreeMap<RouteId, RouteState>,
    models: BTreeMap<ModelId, ModelQueue>,
    /// Models of the groups that have more than one.
    groups: BTreeMap<Group, Vec<ModelId>>,
    next_route: u32,
    pub(crate) ledger: Ledger,
    /// Tenants at a limit of their own: they wait and do not compete.
    held: BTreeSet<TenantId>,
    /// Shares of tenants in thousandths, where they are not 1.
    weights: BTreeMap<TenantId, u32>,
    len: usize,
}

#[derive(Debug)]
struct RouteState {
    route: Route,
    model: ModelId,
    classes: [RouteClass; 2],
}

#[derive(Debug, Default)]
struct RouteClass {
    /// Tenants with a waiting task, unless held, by counter and last dispatch.
    contenders: BTreeSet<(u64, u64, TenantId)>,
    /// Sum of their weights, in thousandths.
    weight: u64,
    /// Ids ascend with submission, so their order is that of arrival.
    arrivals: BTreeSet<TaskId>,
}

#[derive(Debug, Default)]
struct ModelQueue {
    group: Option<Group>,
    routes: BTreeMap<Route, RouteId>,
    queued: [usize; 2],
    shares: ClassShares,
    /// When the class was last served or began to wait.
    served: [Timestamp; 2],
}

/// A task that is next, and where it waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Next {
    pub(crate) place: Place,
    pub(crate) key: Key,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn len_of_model(&self, model: ModelId) -> usize {
        self.models.get(&model).map_or(0, |it| it.queued.iter().sum())
    }

    pub(crate) fn len_of_class(&self, model: ModelId, class: Class) -> usize {
        self.models.get(&model).map_or(0, |it| it.queued[class.index()])
    }

    /// Models with waiting tasks, ascending.
    pub(crate) fn models(&self) -> impl Iterator<Item = ModelId> {
        self.models.iter().filter(|(_, it)| it.queued != [0, 0]).map(|(id, _)| *id)
    }

    pub(crate) fn group(&self, model: ModelId) -> Group {
        self.models.get(&model).and_then(|it| it.group).unwrap_or(model)
    }

    pub(crate) fn route(&self, id: RouteId) -> &Route {
        &self.routes[&id].route
    }

    /// The routes of a model that have waiting tasks.
    pub(crate) fn routes_of(&self, model: ModelId) -> impl Iterator<Item = (RouteId, &Route)> {
        self.models
            .get(&model)
            .into_iter()
            .flat_map(|it| &it.routes)
            .map(|(route, id)| (*id, route))
    }

    pub(crate) fn push(
        &mut self,
        model: ModelId,
        route: Route,
        (tenant, class): (TenantId, Class),
        key: Key,
        now: Timestamp,
    ) -> Place {
        let route = self.intern(model, route);
        let place = Place { tenant, class, route };
        let entry = self.models.get_mut(&model).expect("interning made it");
        if entry.queued[class.index()] == 0 {
            let other_waits = entry.queued[1 - class.index()] != 0;
            entry.shares.join(class, other_waits);
            entry.served[class.index()] = now;
        }
        entry.queued[class.index()] += 1;
        self.len += 1;
        if !self.lanes.contains_key(&place) {
            self.compete(place);
        }
        let lane = self.lanes.entry(place).or_insert(Set::EMPTY);
        self.arena.insert(lane, key);
        let state = self.routes.get_mut(&route).expect("interning made it");
        state.classes[class.index()].arrivals.insert(key.1);
        place
    }

    /// Takes a task out, for whatever reason.
    pub(crate) fn remove(&mut self, place: Place, key: Key) {
        let lane = self.lanes.get_mut(&place).expect("a waiting task has a lane");
        let removed = self.arena.remove(lane, key);
        assert!(removed, "a waiting task is in its lane");
        let emptied = lane.is_empty();
        let class = place.class.index();
        let state = self.routes.get_mut(&place.route).expect("a waiting task has a route");
        state.classes[class].arrivals.remove(&key.1);
        let model = state.model;
        if emptied {
            self.withdraw(place);
            self.lanes.remove(&place);
        }
        let entry = self.models.get_mut(&model).expect("a waiting task has a model");
        entry.queued[class] -= 1;
        self.len -= 1;
        if entry.queued[class] == 0 {
            entry.shares.leave(place.class);
        }
        self.forget_if_empty(place.route);
    }

    /// The task that is served next among the routes that `admits` says can run now.
    pub(crate) fn next(
        &self,
        model: ModelId,
        now: Timestamp,
        config: &CoreConfig,
        admits: impl Fn(RouteId, &Route, Class) -> bool,
    ) -> Option<Next> {
        let entry = self.models.get(&model)?;
        let open = |class: Class| {
            let admits = &admits;
            entry.routes.iter().filter(move |(route, id)| {
                let contenders = &self.routes[id].classes[class.index()].contenders;
                !contenders.is_empty() && admits(**id, route, class)
            })
        };
        let class = Class::ALL
            .into_iter()
            .filter(|class| open(*class).next().is_some())
            .min_by_key(|class| entry.turn(*class, now, config))?;
        let first = |id: &RouteId| self.routes[id].classes[class.index()].contenders.first();
        let (_, _, tenant) = open(class).filter_map(|(_, id)| first(id)).min()?;
        open(class)
            .filter_map(|(_, id)| {
                let place = Place { tenant: *tenant, class, route: *id };
                let key = self.arena.first(*self.lanes.get(&place)?)?;
                Some(Next { place, key })
            })
            .min_by_key(|it| it.key)
    }

    /// Notes that a task of `place` goes to a replica; ahead of [`Self::remove`].
    pub(crate) fn served(&mut self, model: ModelId, place: Place, now: Timestamp) {
        let group = self.group(model);
        self.reposition(group, place.class, place.tenant, |ledger| {
            ledger.note_dispatch(group, place.class, place.tenant);
        });
        if let Some(entry) = self.models.get_mut(&model) {
            entry.served[place.class.index()] = now;
        }
    }

    /// Moves the counters of a tenant and of its class.
    pub(crate) fn charge(
        &mut self,
        model: ModelId,
        tenant: TenantId,
        (class, class_weight): (Class, u32),
        cost: Cost,
    ) {
        let group = self.group(model);
        let weight = self.weight(tenant);
        self.reposition(group, class, tenant, |ledger| {
            ledger.charge((group, class, tenant), cost, weight);
        });
        self.models.entry(model).or_default().shares.charge(class, cost, class_weight);
    }

    /// A tenant reaches or leaves a limit of its own.
    pub(crate) fn hold(&mut self, tenant: TenantId, held: bool) {
        if held == self.held.contains(&tenant) {
            return;
        }
        let places: Vec<Place> = self.lanes_of(tenant).collect();
        if held {
            places.iter().for_each(|it| self.withdraw(*it));
            self.held.insert(tenant);
        } else {
            self.held.remove(&tenant);
            places.iter().for_each(|it| self.compete(*it));
        }
    }

    pub(crate) fn is_held(&self, tenant: TenantId) -> bool {
        self.held.contains(&tenant)
    }

    /// How many tasks of its tenant, class and model go before `key`.
    pub(crate) fn rank(&self, model: ModelId, tenant: TenantId, class: Class, key: Key) -> u64 {
        let lanes = self
            .routes_of(model)
            .filter_map(|(route, _)| self.lanes.get(&Place { tenant, class, route }).copied());
        lanes.map(|it| self.arena.rank(it, key)).sum()
    }

    /// How far the tenant's counter is ahead of the one served next, in thousandths of a weighted
    /// token.
    pub(crate) fn lead(&self, model: ModelId, tenant: TenantId, class: Class) -> u64 {
        let group = self.group(model);
        let own = self.ledger.entry(group, class, tenant).rank().0;
        own.saturating_sub(self.smallest(group, class).unwrap_or(own))
    }

    /// Sum of the weights of the tenants that compete for a model, in thousandths.
    pub(crate) fn competing_weight(&self, model: ModelId, class: Class) -> u64 {
        self.routes_of(model).map(|(id, _)| self.routes[&id].classes[class.index()].weight).sum()
    }

    /// A tenant's share in thousandths.
    pub(crate) fn weight(&self, tenant: TenantId) -> u32 {
        self.weights.get(&tenant).copied().unwrap_or(1_000)
    }

    pub(crate) fn set_weight(&mut self, tenant: TenantId, weight_milli: u32) {
        let places: Vec<Place> = self.lanes_of(tenant).collect();
        if !self.is_held(tenant) {
            places.iter().for_each(|it| self.set_contender(*it, false));
        }
        self.weights.insert(tenant, weight_milli.max(1));
        if !self.is_held(tenant) {
            places.iter().for_each(|it| self.set_contender(*it, true));
        }
    }

    /// Models that a tenant has tasks waiting for.
    pub(crate) fn models_of(&self, tenant: TenantId) -> Vec<ModelId> {
        let models = self.lanes_of(tenant).map(|it| self.routes[&it.route].model);
        let distinct: BTreeSet<ModelId> = models.collect();
        distinct.into_iter().collect()
    }

    fn lanes_of(&self, tenant: TenantId) -> impl Iterator<Item = Place> {
        Class::ALL.into_iter().flat_map(move |class| self.places_of(tenant, class))
    }

    pub(crate) fn oldest(&self, model: ModelId, class: Class) -> Option<TaskId> {
        let first = |id| self.routes[&id].classes[class.index()].arrivals.first().copied();
        self.routes_of(model).filter_map(|(id, _)| first(id)).min()
    }

    pub(crate) fn oldest_on(&self, route: RouteId, class: Class) -> Option<TaskId> {
        self.routes[&route].classes[class.index()].arrivals.first().copied()
    }

    pub(crate) fn newest(&self, model: ModelId, class: Class) -> Option<TaskId> {
        let last = |id| self.routes[&id].classes[class.index()].arrivals.last().copied();
        self.routes_of(model).filter_map(|(id, _)| last(id)).max()
    }

    /// Every lane with its tasks in their order.
    pub(crate) fn lanes(
        &self,
    ) -> impl Iterator<Item = (ModelId, Place, impl Iterator<Item = Key>)> {
        self.lanes
            .iter()
            .map(|(place, set)| (self.routes[&place.route].model, *place, self.arena.iter(*set)))
    }

    /// Names the group of each model.
    pub(crate) fn regroup(&mut self, groups: &BTreeMap<ModelId, Group>) {
        if groups.iter().all(|(model, group)| self.group(*model) == *group) {
            return;
        }
        let moves: Vec<_> =
            groups.iter().map(|(model, group)| (self.group(*model), *group)).collect();
        let places: Vec<Place> = self.lanes.keys().copied().collect();
        places.iter().for_each(|it| self.set_contender(*it, false));
        self.ledger.regroup(&moves);
        self.groups.clear();
        for (model, group) in groups {
            self.models.entry(*model).or_default().group = Some(*group);
            self.groups.entry(*group).or_default().push(*model);
        }
        places.iter().for_each(|it| self.set_contender(*it, !self.is_held(it.tenant)));
    }

    pub(crate) fn saved_counters(&self) -> SavedCounters {
        let shares = self.models.iter().map(|(id, it)| (*id, it.shares.saved(it.served)));
        let mut saved = SavedCounters { shares: shares.collect(), ..SavedCounters::default() };
        self.ledger.save(&mut saved);
        saved
    }

    /// Puts every counter where it was, whoever waits now.
    pub(crate) fn restore_counters(&mut self, saved: &SavedCounters) {
        let places: Vec<Place> = self.lanes.keys().copied().collect();
        places.iter().for_each(|it| self.set_contender(*it, false));
        self.ledger.restore(saved);
        for (model, shares) in &saved.shares {
            let entry = self.models.entry(*model).or_default();
            entry.shares = ClassShares::of(*shares);
            entry.served = shares.served;
        }
        places.iter().for_each(|it| self.set_contender(*it, !self.is_held(it.tenant)));
    }

    fn intern(&mut self, model: ModelId, route: Route) -> RouteId {
        let entry = self.models.entry(model).or_default();
        if let Some(id) = entry.routes.get(&route) {
            return *id;
        }
        let id = RouteId(self.next_route);
        self.next_route = self.next_route.wrapping_add(1);
        entry.routes.insert(route.clone(), id);
        self.routes.insert(id, RouteState { route, model, classes: Default::default() });
        id
    }

    fn forget_if_empty(&mut self, id: RouteId) {
        if self.routes[&id].classes.iter().any(|it| !it.arrivals.is_empty()) {
            return;
        }
        let state = self.routes.remove(&id).expect("looked up above");
        let entry = self.models.get_mut(&state.model).expect("a route has a model");
        entry.routes.remove(&state.route);
    }

    /// A lane comes into being, or its tenant is no longer held.
    fn compete(&mut self, place: Place) {
        if self.is_held(place.tenant) {
            return;
        }
        let (tenant, class) = (place.tenant, place.class);
        let group = self.group(self.routes[&place.route].model);
        if self.contending(group, class, tenant) == 0 {
            let smallest = self.smallest(group, class);
            self.reposition(group, class, tenant, |ledger| {
                ledger.join((group, class, tenant), smallest);
            });
        }
        self.set_contender(place, true);
    }

    /// A lane ends, or its tenant is held.
    fn withdraw(&mut self, place: Place) {
        self.set_contender(place, false);
        let group = self.group(self.routes[&place.route].model);
        if self.contending(group, place.class, place.tenant) == 0 {
            self.ledger.leave(group, place.class, place.tenant);
        }
    }

    /// Lanes of the tenant that compete in the group.
    fn contending(&self, group: Group, class: Class, tenant: TenantId) -> usize {
        if self.is_held(tenant) {
            return 0;
        }
        let (counter, served) = self.ledger.entry(group, class, tenant).rank();
        let competes = |it: &Place| {
            let state = &self.routes[&it.route];
            self.group(state.model) == group
                && state.classes[class.index()].contenders.contains(&(counter, served, tenant))
        };
        self.places_of(tenant, class).filter(competes).count()
    }

    /// The smallest counter among those who compete.
    fn smallest(&self, group: Group, class: Class) -> Option<u64> {
        let alone = [group];
        let members = self.groups.get(&group).map_or(&alone[..], Vec::as_slice);
        members
            .iter()
            .filter_map(|it| self.models.get(it))
            .flat_map(|it| it.routes.values())
            .filter_map(|id| self.routes[id].classes[class.index()].contenders.first())
            .map(|it| it.0)
            .min()
    }

    fn places_of(&self, tenant: TenantId, class: Class) -> impl Iterator<Item = Place> {
        let at = |route| Place { tenant, class, route: RouteId(route) };
        self.lanes.range(at(0)..=at(u32::MAX)).map(|(place, _)| *place)
    }

    fn set_contender(&mut self, place: Place, competes: bool) {
        let state = self.routes.get_mut(&place.route).expect("a lane has a route");
        let model = state.model;
        let group = self.models.get(&model).and_then(|it| it.group).unwrap_or(model);
        let (counter, served) = self.ledger.entry(group, place.class, place.tenant).rank();
        let weight = u64::from(self.weights.get(&place.tenant).copied().unwrap_or(1_000));
        let class = &mut state.classes[place.class.index()];
        let member = (counter, served, place.tenant);
        if competes && class.contenders.insert(member) {
            class.weight += weight;
        } else if !competes && class.contenders.remove(&member) {
            class.weight -= weight;
        }
    }

    /// Changes a tenant's entry and its place among the contenders.
    fn reposition(
        &mut self,
        group: Group,
        class: Class,
        tenant: TenantId,
        change: impl FnOnce(&mut Ledger),
    ) {
        let before = self.ledger.entry(group, class, tenant).rank();
        change(&mut self.ledger);
        let after = self.ledger.entry(group, class, tenant).rank();
        if before == after || self.is_held(tenant) {
            return;
        }
        let at = |route| Place { tenant, class, route: RouteId(route) };
        for (place, _) in self.lanes.range(at(0)..=at(u32::MAX)) {
            let state = self.routes.get_mut(&place.route).expect("a lane has a route");
            let contenders = &mut state.classes[class.index()].contenders;
            let model = self.models.get(&state.model);
            let own = model.and_then(|it| it.group).unwrap_or(state.model);
            if own == group && contenders.remove(&(before.0, before.1, tenant)) {
                contenders.insert((after.0, after.1, tenant));
            }
        }
    }
}

impl ModelQueue {
    /// Smaller goes first: a class that was not served for its longest wait, by how long that is
    /// over; then the one furthest behind its share, or the interactive one if classes are strict.
    fn turn(&self, class: Class, now: Timestamp, config: &CoreConfig) -> (bool, u64, Class) {
        let due = self.served[class.index()].after(config.class(class).max_wait);
        if due <= now {
            return (false, due.0, class);
        }
        let share = if config.strict_classes { 0 } else { self.shares.counter(class) };
        (true, share, class)
    }
}
