//! The metric families of both daemons, declared once.
//!
//! The daemons register from here, and `ci/metrics.lint.json` and `.docs/metrics.md` are generated
//! from here. Label values come from configuration, the fleet and our own enums, never from clients,
//! and each label has a budget all the same.

mod declared;
mod render;

pub use declared::{LABELS, ORCHESTRATOR, POOL_MANAGER, orchestrator, pool_manager};
pub use render::{lint_json, markdown};

/// One family of series.
#[derive(Debug, PartialEq)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// In the order in which values are given; each is one of [`LABELS`].
    pub labels: &'static [&'static str],
    /// The requirement that asks for it.
    pub requirement: &'static str,
    /// Engine metrics carry `engine`. Why this family does not, where it does not.
    pub without_engine: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// Upper bounds of the buckets, in the unit of the name's suffix.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As in a `# TYPE` line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// A label, and how many values of it one daemon exports.
#[derive(Debug)]
pub struct Label {
    pub name: &'static str,
    /// Values past this many are exported as [`OTHER`].
    pub budget: usize,
    pub meaning: &'static str,
}

/// The value that stands for all values past a label's budget.
pub const OTHER: &str = "other";

/// How many values of a label are exported.
///
/// # Panics
/// If no such label is declared, which is a mistake in a declaration.
#[must_use]
pub fn budget(label: &str) -> usize {
    let label = LABELS.iter().find(|it| it.name == label);
    label.expect("families use declared labels").budget
}

#[cfg(test)]
mod tests;
