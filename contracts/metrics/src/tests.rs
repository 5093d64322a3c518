//! Rules that every declaration keeps.

use std::collections::BTreeSet;

use crate::{Family, Kind, LABELS, ORCHESTRATOR, POOL_MANAGER};

fn families() -> impl Iterator<Item = &'static Family> {
    ORCHESTRATOR.iter().chain(POOL_MANAGER)
}

// OC-METRICS-7101
#[test]
fn an_engine_metric_has_its_label_or_a_reason() {
    for it in families() {
        let labelled = it.labels.contains(&"engine");
        assert_ne!(labelled, it.without_engine.is_some(), "{}", it.name);
        if it.labels.contains(&"engine_version") {
            assert!(labelled, "{}: a version of what engine?", it.name);
        }
    }
}

// OC-METRICS-7102
#[test]
fn every_label_has_a_budget_and_every_budget_a_use() {
    let used: BTreeSet<_> = families().flat_map(|it| it.labels).copied().collect();
    let declared: BTreeSet<_> = LABELS.iter().map(|it| it.name).collect();
    assert_eq!(used, declared);
}

#[test]
fn names_say_what_is_counted() {
    for daemon in [ORCHESTRATOR, POOL_MANAGER] {
        let names: BTreeSet<_> = daemon.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), daemon.len(), "a name stands for one family");
    }
    for it in families() {
        let word = |it: char| it.is_ascii_lowercase() || it == '_';
        assert!(it.name.chars().all(word), "{}", it.name);
        assert_eq!(it.name.ends_with("_total"), it.kind == Kind::Counter, "{}", it.name);
        if let Kind::Histogram(buckets) = it.kind {
            assert!(it.name.ends_with("_ms"), "{}: unit last", it.name);
            assert!(buckets.is_sorted_by(|a, b| a < b), "{}", it.name);
        }
    }
}
