//! Named figures with their goals, as a table and as JSON.

use std::fmt::Write;

use serde_json::json;

#[derive(Default)]
pub(crate) struct Figures(Vec<Figure>);

struct Figure {
    name: &'static str,
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
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        value: f64,
        unit: &'static str,
        goal: Option<(&'static str, f64)>,
    ) {
        self.0.push(Figure { name, value, unit, goal });
    }

    pub(crate) fn table(&self) -> String {
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
                format!("{:<28} {:>12.3} {:<6} {goal:<12} {holds}", it.name, it.value, it.unit);
            writeln!(text, "{}", line.trim_end()).expect("a string takes every line");
        }
        text
    }

    pub(crate) fn json(&self) -> String {
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
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({"figures": figures, "environment": {"cores": cores}}).to_string() + "\n"
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 50)
}

/// Nearest rank; 0 of nothing.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(rank).copied().unwrap_or(0.)
}
