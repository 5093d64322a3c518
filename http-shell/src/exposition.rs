//! Metric families, registered from their declarations, with bounded label values.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Family, Kind, OTHER};
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// A daemon's families.
#[derive(Default)]
pub struct Exposition {
    registry: Registry,
    budgets: Arc<Budgets>,
}

/// One family. Finding a series takes a lock; who moves one with every token keeps it.
pub struct Series<V> {
    vec: V,
    family: &'static Family,
    budgets: Arc<Budgets>,
}

pub type Counters = Series<IntCounterVec>;
pub type Gauges = Series<IntGaugeVec>;
/// Gauges between 0 and 1.
pub type Ratios = Series<GaugeVec>;
pub type Histograms = Series<HistogramVec>;

/// The values that each label has taken.
#[derive(Default)]
struct Budgets(Mutex<HashMap<&'static str, HashSet<String>>>);

impl Exposition {
    /// Of what [`render`](Self::render) returns.
    pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

    /// # Panics
    /// If the family is no counter or is registered already, as all three do.
    #[must_use]
    pub fn counters(&self, family: &'static Family) -> Counters {
        assert_eq!(family.kind, Kind::Counter, "{}", family.name);
        let vec = IntCounterVec::new(Opts::new(family.name, family.help), family.labels);
        self.register(family, vec.expect("a declared name is valid"))
    }

    #[must_use]
    pub fn gauges(&self, family: &'static Family) -> Gauges {
        assert_eq!(family.kind, Kind::Gauge, "{}", family.name);
        let vec = IntGaugeVec::new(Opts::new(family.name, family.help), family.labels);
        self.register(family, vec.expect("a declared name is valid"))
    }

    #[must_use]
    pub fn ratios(&self, family: &'static Family) -> Ratios {
        assert_eq!(family.kind, Kind::Gauge, "{}", family.name);
        let vec = GaugeVec::new(Opts::new(family.name, family.help), family.labels);
        self.register(family, vec.expect("a declared name is valid"))
    }

    #[must_use]
    pub fn histograms(&self, family: &'static Family) -> Histograms {
        let Kind::Histogram(buckets) = family.kind else {
            panic!("{} is no histogram", family.name)
        };
        let options = HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec());
        let vec = HistogramVec::new(options, family.labels);
        self.register(family, vec.expect("a declared name is valid"))
    }

    /// The exposition text (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    ///
    /// # Panics
    /// Never: a vector takes every byte.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let families = self.registry.gather();
        TextEncoder::new().encode(&families, &mut out).expect("a vector takes every byte");
        out
    }

    fn register<V: Collector + Clone + 'static>(
        &self,
        family: &'static Family,
        vec: V,
    ) -> Series<V> {
        self.registry.register(Box::new(vec.clone())).expect("each name is declared once");
        Series { vec, family, budgets: Arc::clone(&self.budgets) }
    }
}

impl<T: MetricVecBuilder> Series<MetricVec<T>> {
    /// The series with these values, in the order of the declaration's labels. A value past its
    /// label's budget is `other`.
    pub fn with(&self, values: &[&str]) -> T::M {
        self.vec.with_label_values(&self.budgets.admit(self.family.labels, values))
    }

    /// Shows the series with these values no longer, if it was.
    pub fn forget(&self, values: &[&str]) {
        let _was_shown =
            self.vec.remove_label_values(&self.budgets.admit(self.family.labels, values));
    }
}

impl Budgets {
    fn admit<'a>(&self, labels: &'static [&'static str], values: &[&'a str]) -> Vec<&'a str> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let admit = |(label, value): (&&'static str, &&'a str)| {
            let known = taken.entry(label).or_default();
            if known.contains(*value) {
                return *value;
            }
            if metrics::budget(label) <= known.len() {
                return OTHER;
            }
            known.insert((*value).to_owned());
            value
        };
        labels.iter().zip(values).map(admit).collect()
    }
}
