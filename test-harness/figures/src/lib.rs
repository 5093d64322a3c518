//! Named figures with their goals, as a table and as JSON: what a harness that measures reports.

use std::fmt::Write;

use serde_json::{Value, json};

#[derive(Default)]
pub struct Figures(Vec<Figure>);

struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// `<=` or `>=`, and the bound.
    goal: Option<(&'static str, f64)>,
}

impl Figure {
    fn holds(&self) -> Option<bool> {
        let (relation, bound) = self.goal?;
        Some(if relation == "<=" { self.value <= bound } else { bound <= self.value })
    }
}

impl Figures {
    /// `goal` is `<=` or `>=` and the bound.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Option<(&'static str, f64)>,
    ) {
        self.0.push(Figure { name: name.into(), value, unit, goal });
    }

    /// Whether each figure that has a goal reaches it.
    #[must_use]
    pub fn all_hold(&self) -> bool {
        self.0.iter().all(|it| it.holds() != Some(false))
    }

    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for it in &self.0 {
            let goal =
                it.goal.map_or(String::new(), |(relation, bound)| format!("{relation} {bound}"));
            let holds = match it.holds() {
                None => "",
                Some(true) => "holds",
                Some(false) => "MISSED",
            };
            let line =
                format!("{:<32} {:>12.3} {:<6} {goal:<12} {holds}", it.name, it.value, it.unit);
            writeln!(text, "{}", line.trim_end()).expect("a string takes every line");
        }
        text
    }

    /// One document; `environment` is an object that the number of cores is added to.
    #[must_use]
    pub fn json(&self, mut environment: Value) -> String {
        let figures: Vec<_> = self
            .0
            .iter()
            .map(|it| {
                json!({
                    "name": it.name, "value": it.value, "unit": it.unit, "holds": it.holds(),
                    "goal": it.goal.map(|(relation, bound)| format!("{relation} {bound}")),
                })
            })
            .collect();
        environment["cores"] = std::thread::available_parallelism().map_or(0, usize::from).into();
        json!({"figures": figures, "environment": environment}).to_string() + "\n"
    }
}

#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 50)
}

/// Nearest rank; 0 of nothing.
pub fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(rank).copied().unwrap_or(0.)
}

#[cfg(test)]
mod tests;
