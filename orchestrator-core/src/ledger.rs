//! Who has been served how much: the counters of the Virtual Token Counter.
//!
//! Sheng et al., *Fairness in Serving Large Language Models* (OSDI 2024), with weights. A counter
//! moves by the cost of what its owner used, divided by the owner's weight; whoever has the smallest
//! is served next. Fixed point with the remainder carried, so that a counter equals the sum of its
//! charges to the last thousandth of a token, and is the same on every machine.

use std::collections::BTreeMap;

use crate::core::{SavedCounters, SavedEntry, SavedMeter, SavedShares};
use crate::types::{Class, ModelId, TenantId, Timestamp};

/// Models whose replicas can serve each other's tasks, or take each other's place on a device; named
/// by the smallest of them.
pub(crate) type Group = ModelId;

/// What some work costs before weights, in thousandths of a token price unit; negative: given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost(i128);

impl Cost {
    /// `tokens` × `price` × the model's relative cost in thousandths.
    pub(crate) fn of(tokens: i64, price: u32, model_cost_milli: u32) -> Self {
        Self(i128::from(tokens) * i128::from(price) * i128::from(model_cost_milli))
    }
}

/// A counter in thousandths of a token, and what is left over from dividing by the weight.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    counter: u64,
    /// Less than the weight it was divided by.
    carry: i128,
}

impl Meter {
    fn saved(self) -> SavedMeter {
        SavedMeter { counter: self.counter, carry: self.carry }
    }

    fn of(saved: SavedMeter) -> Self {
        Self { counter: saved.counter, carry: saved.carry }
    }

    fn charge(&mut self, cost: Cost, weight_milli: u32) {
        let divisor = i128::from(weight_milli.max(1));
        let total = cost.0 * 1_000 + self.carry;
        self.carry = total.rem_euclid(divisor);
        let counter = i128::from(self.counter) + total.div_euclid(divisor);
        self.counter = u64::try_from(counter.max(0)).unwrap_or(u64::MAX);
    }

    /// Returns by how much it was raised.
    fn lift(&mut self, to: u64) -> u64 {
        let by = to.saturating_sub(self.counter);
        self.counter += by;
        by
    }
}

/// One tenant × class × group.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Entry {
    meter: Meter,
    /// Among equals: who came back and was not served since goes first, in the order of coming; then
    /// who was served longest ago.
    turn: u64,
    /// Sums of everything that moved the counter.
    charged: i128,
    lifted: u64,
}

impl Entry {
    pub(crate) fn rank(self) -> (u64, u64) {
        (self.meter.counter, self.turn)
    }

    pub(crate) fn charged_milli_tokens(self) -> i128 {
        self.charged
    }

    pub(crate) fn lifted(self) -> u64 {
        self.lifted
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<(Group, Class, TenantId), Entry>,
    /// Counter of the tenant that was the last to have nothing queued.
    left: BTreeMap<(Group, Class), u64>,
    turns: u64,
}

/// Set in the turn of a tenant that was served since it came.
const SERVED: u64 = 1 << 63;

impl Ledger {
    pub(crate) fn save(&self, into: &mut SavedCounters) {
        let entry = |(key, it): (&(Group, Class, TenantId), &Entry)| SavedEntry {
            group: key.0,
            class: key.1,
            tenant: key.2,
            meter: it.meter.saved(),
            turn: it.turn,
            charged: it.charged,
            lifted: it.lifted,
        };
        into.entries = self.entries.iter().map(entry).collect();
        into.left = self.left.iter().map(|(key, counter)| (key.0, key.1, *counter)).collect();
        into.turns = self.turns;
    }

    pub(crate) fn restore(&mut self, saved: &SavedCounters) {
        let entry = |it: &SavedEntry| Entry {
            meter: Meter::of(it.meter),
            turn: it.turn,
            charged: it.charged,
            lifted: it.lifted,
        };
        let key = |it: &SavedEntry| (it.group, it.class, it.tenant);
        self.entries = saved.entries.iter().map(|it| (key(it), entry(it))).collect();
        self.left = saved.left.iter().map(|it| ((it.0, it.1), it.2)).collect();
        self.turns = saved.turns;
    }

    pub(crate) fn entry(&self, group: Group, class: Class, tenant: TenantId) -> Entry {
        self.entries.get(&(group, class, tenant)).copied().unwrap_or_default()
    }

    pub(crate) fn charge(
        &mut self,
        (group, class, tenant): (Group, Class, TenantId),
        cost: Cost,
        weight_milli: u32,
    ) {
        let entry = self.entries.entry((group, class, tenant)).or_default();
        entry.meter.charge(cost, weight_milli);
        entry.charged += cost.0;
    }

    pub(crate) fn note_dispatch(&mut self, group: Group, class: Class, tenant: TenantId) {
        self.turns += 1;
        self.entries.entry((group, class, tenant)).or_default().turn = SERVED | self.turns;
    }

    /// A tenant starts to compete: idling has earned it nothing. `smallest` is the counter of the
    /// competitor furthest behind, if there is any.
    pub(crate) fn join(
        &mut self,
        (group, class, tenant): (Group, Class, TenantId),
        smallest: Option<u64>,
    ) {
        let level = smallest.or_else(|| self.left.get(&(group, class)).copied()).unwrap_or(0);
        self.turns += 1;
        let entry = self.entries.entry((group, class, tenant)).or_default();
        entry.turn = self.turns;
        entry.lifted += entry.meter.lift(level);
    }

    /// A tenant stops to compete.
    pub(crate) fn leave(&mut self, group: Group, class: Class, tenant: TenantId) {
        let counter = self.entry(group, class, tenant).meter.counter;
        self.left.insert((group, class), counter);
    }

    /// Models were regrouped. A tenant keeps the largest of the counters that become one.
    pub(crate) fn regroup(&mut self, moves: &[(Group, Group)]) {
        let (entries, left) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.left));
        let targets = |old: Group| moves.iter().filter(move |it| it.0 == old).map(|it| it.1);
        for ((old, class, tenant), entry) in entries {
            for group in targets(old) {
                let known = self.entries.entry((group, class, tenant)).or_default();
                if known.rank() < entry.rank() {
                    *known = entry;
                }
            }
        }
        for ((old, class), counter) in left {
            for group in targets(old) {
                let known = self.left.entry((group, class)).or_default();
                *known = counter.max(*known);
            }
        }
    }
}

/// How the two classes of one model share its replicas.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClassShares {
    meters: [Meter; 2],
    left: u64,
}

impl ClassShares {
    /// `served`: when each class was last served.
    pub(crate) fn saved(&self, served: [Timestamp; 2]) -> SavedShares {
        SavedShares { meters: self.meters.map(Meter::saved), left: self.left, served }
    }

    pub(crate) fn of(saved: SavedShares) -> Self {
        Self { meters: saved.meters.map(Meter::of), left: saved.left }
    }

    pub(crate) fn counter(&self, class: Class) -> u64 {
        self.meters[class.index()].counter
    }

    pub(crate) fn charge(&mut self, class: Class, cost: Cost, weight: u32) {
        self.meters[class.index()].charge(cost, weight.saturating_mul(1_000));
    }

    /// A class has something queued again. `other`: the other one has, too.
    pub(crate) fn join(&mut self, class: Class, other_waits: bool) {
        let other = self.meters[1 - class.index()].counter;
        self.meters[class.index()].lift(if other_waits { other } else { self.left });
    }

    pub(crate) fn leave(&mut self, class: Class) {
        self.left = self.counter(class);
    }
}
