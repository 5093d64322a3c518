//! Is a scrape what `ci/metrics.lint.json` says? Names, types, labels, budgets, and that nothing is
//! missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

const LINT: &str = include_str!("../../../ci/metrics.lint.json");

#[derive(Deserialize)]
struct Lint {
    label_budgets: BTreeMap<String, usize>,
    orchestratord: Vec<Family>,
    pool_managerd: Vec<Family>,
}

#[derive(Deserialize)]
struct Family {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    labels: BTreeSet<String>,
    #[serde(default)]
    buckets: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
pub enum Daemon {
    Orchestratord,
    PoolManagerd,
}

/// One series of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Everything in which the scrape and the lint differ; empty if they agree. A family of the lint that
/// is not in the scrape is a difference too: scrape after traffic of every kind.
///
/// # Panics
/// If `ci/metrics.lint.json` is malformed.
#[must_use]
pub fn differences(daemon: Daemon, scrape: &str) -> Vec<String> {
    let lint: Lint = serde_json::from_str(LINT).expect("`cargo xtask regen` writes it");
    let families = match daemon {
        Daemon::Orchestratord => &lint.orchestratord,
        Daemon::PoolManagerd => &lint.pool_managerd,
    };
    let mut found = Vec::new();
    let mut types = BTreeMap::new();
    for line in scrape.lines().filter_map(|it| it.strip_prefix("# TYPE ")) {
        if let Some((name, kind)) = line.split_once(' ') {
            types.insert(name, kind);
        }
    }
    for (name, kind) in &types {
        match families.iter().find(|it| it.name == *name) {
            None => found.push(format!("{name} is not declared")),
            Some(it) if it.kind != *kind => {
                found.push(format!("{name} is a {kind}, declared as {}", it.kind));
            }
            Some(_) => {}
        }
    }
    let samples = samples(scrape);
    for family in families {
        if !types.contains_key(family.name.as_str()) {
            found.push(format!("{} is declared and not exported", family.name));
        }
        found.extend(labels(family, &samples));
    }
    found.extend(budgets(&lint.label_budgets, &samples));
    found
}

/// The samples of an exposition text, comments left out.
#[must_use]
pub fn samples(scrape: &str) -> Vec<Sample> {
    let lines = scrape.lines().filter(|it| !it.starts_with('#') && !it.is_empty());
    lines.filter_map(sample).collect()
}

/// `name{a="b",c="d"} 1`; our own label values hold no quote, comma or backslash.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let pairs = labels.trim_end_matches('}').split(',').filter_map(|it| it.split_once('='));
    let labels = pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()));
    Some(Sample { name: name.to_owned(), labels: labels.collect(), value: value.parse().ok()? })
}

fn labels(family: &Family, samples: &[Sample]) -> Vec<String> {
    let suffixes: &[&str] =
        if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
    let mut found = Vec::new();
    for suffix in suffixes {
        let name = format!("{}{suffix}", family.name);
        for it in samples.iter().filter(|it| it.name == name) {
            let mut keys: BTreeSet<String> = it.labels.keys().cloned().collect();
            if let Some(bound) = it.labels.get("le") {
                keys.remove("le");
                let bound: f64 = bound.parse().unwrap_or(f64::NAN);
                let declared = family.buckets.iter().any(|it| (it - bound).abs() < f64::EPSILON);
                if !declared && bound.is_finite() {
                    found.push(format!("{name} has a bucket at {bound}"));
                }
            }
            if keys != family.labels {
                found.push(format!("{name} has labels {keys:?}, declared {:?}", family.labels));
            }
        }
    }
    found
}

fn budgets(budgets: &BTreeMap<String, usize>, samples: &[Sample]) -> Vec<String> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (label, value) in samples.iter().flat_map(|it| &it.labels) {
        if value != "other" {
            values.entry(label).or_default().insert(value);
        }
    }
    values.remove("le");
    let over = values.iter().filter_map(|(label, values)| match budgets.get(*label) {
        None => Some(format!("the label {label} has no budget")),
        Some(budget) if *budget < values.len() => {
            Some(format!("{label} has {} values, budget {budget}", values.len()))
        }
        Some(_) => None,
    });
    over.collect()
}
