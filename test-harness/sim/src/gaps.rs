//! The largest difference of weighted service between two tenants that both wait.

use std::collections::BTreeMap;

use orchestrator_core::TenantId;

/// Follows every pair; weights are thousandths.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    tenants: BTreeMap<TenantId, Tenant>,
    pairs: BTreeMap<(TenantId, TenantId), (f64, f64)>,
    /// Largest gap ÷ bound so far.
    pub(crate) worst: f64,
    unit: f64,
    cost: f64,
}

#[derive(Debug)]
struct Tenant {
    weight: f64,
    queued: i64,
    /// Service so far, over the weight.
    served: f64,
}

impl Gaps {
    /// `unit`: U of the bound; `cost`: relative cost of the model.
    pub(crate) fn new(unit: f64, cost: f64) -> Self {
        Self { unit, cost, ..Self::default() }
    }

    pub(crate) fn add(&mut self, tenant: TenantId, weight: f64) {
        self.tenants.insert(tenant, Tenant { weight, queued: 0, served: 0.0 });
    }

    /// One more waits, or one less.
    pub(crate) fn queued(&mut self, tenant: TenantId, by: i64) {
        let Some(it) = self.tenants.get_mut(&tenant) else { return };
        let before = it.queued;
        it.queued += by;
        if before == 0 && 0 < by {
            // An interval begins with each other tenant that waits.
            let others = self.tenants.iter().filter(|(id, it)| **id != tenant && 0 < it.queued);
            let fresh: Vec<TenantId> = others.map(|(id, _)| *id).collect();
            for other in fresh {
                let pair = (tenant.min(other), tenant.max(other));
                let now = self.difference(pair);
                self.pairs.insert(pair, (now, now));
            }
        } else if it.queued == 0 {
            self.pairs.retain(|pair, _| pair.0 != tenant && pair.1 != tenant);
        }
    }

    pub(crate) fn served(&mut self, tenant: TenantId, tokens: u64) {
        let Some(it) = self.tenants.get_mut(&tenant) else { return };
        #[expect(clippy::cast_precision_loss, reason = "tokens of one event")]
        let cost = tokens as f64 * self.cost;
        it.served += cost / it.weight;
        let affected: Vec<_> =
            self.pairs.keys().filter(|it| it.0 == tenant || it.1 == tenant).copied().collect();
        for pair in affected {
            let now = self.difference(pair);
            let weight = self.tenants[&pair.0].weight.min(self.tenants[&pair.1].weight);
            if let Some((low, high)) = self.pairs.get_mut(&pair) {
                (*low, *high) = (low.min(now), high.max(now));
                let bound = 2.0 * self.unit / weight;
                self.worst = self.worst.max((*high - *low) / bound);
            }
        }
    }

    fn difference(&self, (a, b): (TenantId, TenantId)) -> f64 {
        self.tenants[&a].served - self.tenants[&b].served
    }
}
