//! Named figures beside their goals and baselines, as a table and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

/// What one scenario found with one seed.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) figures: Vec<(&'static str, f64)>,
    /// The same trace under something else, for the table.
    pub(crate) beside: Vec<(&'static str, String)>,
    pub(crate) checks: Vec<Check>,
}

/// What must also be true, so that a strawman or an idle system cannot pass.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) found: String,
    pub(crate) holds: bool,
}

impl Outcome {
    pub(crate) fn check(&mut self, name: &'static str, holds: bool, found: String) {
        self.checks.push(Check { name, found, holds });
    }
}

/// A bound on a figure, as the scenarios write it: `<= 1.3 : …` or `0.85 to 0.95 …`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Goal {
    text: String,
    low: f64,
    high: f64,
}

impl Goal {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (first, second) = (words.next()?, words.next()?);
        let (low, high) = match first {
            "<=" => (f64::NEG_INFINITY, second.parse().ok()?),
            ">=" => (second.parse().ok()?, f64::INFINITY),
            "==" => (second.parse().ok()?, second.parse().ok()?),
            low => (low.parse().ok()?, words.next()?.parse().ok()?),
        };
        let text = match first {
            "<=" | ">=" | "==" => format!("{first} {second}"),
            _ => format!("{low} to {high}"),
        };
        Some(Self { text, low, high })
    }

    fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// How far on the wrong side, or how close to it: larger is worse.
    fn badness(&self, value: f64) -> f64 {
        (self.low - value).max(value - self.high)
    }
}

/// The report over all scenarios.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    checks: Vec<(String, Check)>,
}

#[derive(Debug)]
struct Row {
    name: String,
    value: f64,
    goal: Option<Goal>,
    beside: String,
}

impl Report {
    /// Takes the worst seed of each figure; a check must hold with every seed.
    pub(crate) fn add(&mut self, scenario: &str, goals: &Value, outcomes: &[Outcome]) {
        let Some(first) = outcomes.first() else { return };
        for (index, (name, _)) in first.figures.iter().enumerate() {
            let goal = goals.get(name).and_then(Value::as_str).and_then(Goal::parse);
            let worse = |value: f64| goal.as_ref().map_or(value, |it| it.badness(value));
            let values = outcomes.iter().map(|it| it.figures[index].1);
            let value = values.max_by(|a, b| worse(*a).total_cmp(&worse(*b))).unwrap_or(f64::NAN);
            let beside = first.beside.iter().find(|it| it.0 == *name);
            let beside = beside.map_or(String::new(), |it| it.1.clone());
            self.rows.push(Row { name: (*name).into(), value, goal, beside });
        }
        for (index, check) in first.checks.iter().enumerate() {
            let failed = outcomes.iter().map(|it| &it.checks[index]).find(|it| !it.holds);
            self.checks.push((scenario.into(), failed.unwrap_or(check).clone()));
        }
    }

    pub(crate) fn all_checks_hold(&self) -> bool {
        self.checks.iter().all(|it| it.1.holds)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for it in &self.rows {
            let goal = it.goal.as_ref().map_or("", |it| &it.text);
            let holds = it.goal.as_ref().map_or("", |goal| verdict(goal.holds(it.value)));
            let line =
                format!("{:<38} {:>12.4}  {goal:<13} {holds:<7} {}", it.name, it.value, it.beside);
            writeln!(text, "{}", line.trim_end()).expect("a string takes every line");
        }
        text.push('\n');
        for (scenario, it) in &self.checks {
            let holds = if it.holds { "holds" } else { "BROKEN" };
            let line = format!("check {scenario:<9} {holds:<7} {}: {}", it.name, it.found);
            writeln!(text, "{line}").expect("a string takes every line");
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let figures: Vec<Value> = self
            .rows
            .iter()
            .map(|it| {
                json!({
                    "name": it.name, "value": it.value, "unit": "",
                    "goal": it.goal.as_ref().map(|goal| goal.text.clone()),
                    "holds": it.goal.as_ref().map(|goal| goal.holds(it.value)),
                    "beside": it.beside,
                })
            })
            .collect();
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|(scenario, it)| {
                json!({"scenario": scenario, "name": it.name, "found": it.found, "holds": it.holds})
            })
            .collect();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({"figures": figures, "checks": checks, "environment": {"cores": cores}}).to_string()
            + "\n"
    }
}

fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "MISSED" }
}

/// Nearest rank; 0 of nothing.
pub(crate) fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(rank).copied().unwrap_or(0)
}

/// Jain, Chiu and Hawe 1984: 1 when all are equal, 1/n when one has everything.
#[expect(clippy::cast_precision_loss, reason = "few tenants")]
pub(crate) fn jain(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|it| it * it).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (values.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_read_as_the_scenarios_write_them() {
        let holds = |goal: &str, value| Goal::parse(goal).unwrap().holds(value);
        assert!(holds("<= 1.3 : more words", 1.3) && !holds("<= 1.3 : more words", 1.31));
        assert!(holds(">= 20", 20.0) && !holds(">= 20", 19.0));
        assert!(holds("== 0", 0.0) && !holds("== 0", 1.0));
        let range = "0.85 to 0.95 at load 0.8, steady";
        assert!(holds(range, 0.9) && !holds(range, 0.84) && !holds(range, 0.96));
    }

    #[test]
    fn jain_is_one_for_equals_and_one_nth_for_a_monopoly() {
        assert!((jain(&[3.0, 3.0, 3.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[3.0, 0.0, 0.0]) - 1.0 / 3.0).abs() < 1e-9);
    }
}
