//! The scheduler in virtual time: engines, loads and crashes under the real core, beside what others
//! do with the same trace. `cargo xtask sim` runs it.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod baseline;
mod cost;
mod engine;
mod figures;
mod gaps;
mod hosts;
mod load;
mod plot;
mod random;
mod scenarios;
mod scheduler;
#[cfg(test)]
mod tests;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Context;
use clap::Parser;
use serde_json::Value;

use figures::{Outcome, Report};
use scenarios::{Settings, backlog, deadline, flood, mixed, storm, swap, vtc};

const SCENARIOS: &str = include_str!("../scenarios.json");
const GOLDEN: &str = include_str!("../golden/swap-seed-1.sha256");

#[derive(Parser)]
struct Arguments {
    /// Where the figures go, beside the table.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Seeds 1 to this; the figure is the worst.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Print the golden digest instead.
    #[arg(long)]
    golden: bool,
    /// Measure what the core costs instead.
    #[arg(long)]
    cost: bool,
    /// Where the plots go.
    #[arg(long)]
    plots: Option<PathBuf>,
}

type Run = fn(Settings<'_>, u64) -> Outcome;

/// Name, how it runs, and whether seeds make a difference.
const RUNS: [(&str, Run, bool); 8] = [
    ("flood", flood::run, true),
    ("backlog", backlog::equal, true),
    ("weights", backlog::weighted, true),
    ("vtc", vtc::run, false),
    ("swap", swap::run, true),
    ("deadline", deadline::run, true),
    ("mixed", mixed::run, true),
    ("storm", storm::run, true),
];

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let all: Value = serde_json::from_str(SCENARIOS).context("reading the scenarios")?;
    let swap_settings = Settings::new(&all, "swap");
    if arguments.golden {
        println!("{}", swap::golden(swap_settings, 1));
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.cost {
        let settings = Settings::new(&all, "core_cost");
        let mut report = Report::default();
        report.add("core_cost", &settings.own["figures"], &[cost::run(settings)]);
        return finish(&report, arguments.json.as_deref());
    }
    let known = |it: &String| RUNS.iter().any(|run| run.0 == it);
    if let Some(unknown) = arguments.scenarios.iter().find(|it| !known(it)) {
        let names: Vec<&str> = RUNS.iter().map(|it| it.0).collect();
        anyhow::bail!("there is no scenario `{unknown}`; there are {}", names.join(", "));
    }
    let wanted = |name: &str| {
        arguments.scenarios.is_empty() || arguments.scenarios.iter().any(|it| it == name)
    };
    let mut report = Report::default();
    for (name, run, seeded) in RUNS.into_iter().filter(|it| wanted(it.0)) {
        let settings = Settings::new(&all, name);
        let seeds = if seeded { arguments.seeds } else { 1 };
        let outcomes = in_parallel(seeds, |seed| run(settings, seed));
        report.add(name, &settings.own["figures"], &outcomes);
    }
    if wanted("swap") {
        let mut outcome = Outcome::default();
        let found = swap::golden(swap_settings, 1);
        outcome.check("the golden timeline", found == GOLDEN.trim(), found);
        report.add("swap", &Value::Null, &[outcome]);
    }
    if let Some(folder) = &arguments.plots {
        plot::draw(&all, folder).context("drawing the plots")?;
    }
    finish(&report, arguments.json.as_deref())
}

fn finish(report: &Report, json: Option<&Path>) -> anyhow::Result<ExitCode> {
    print!("{}", report.table());
    if let Some(path) = json {
        std::fs::write(path, report.json()).context("writing the figures")?;
    }
    Ok(if report.all_checks_hold() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each seed on its own, as many at once as there are cores; in the order of the seeds.
fn in_parallel(seeds: u64, run: impl Fn(u64) -> Outcome + Sync) -> Vec<Outcome> {
    let next = Mutex::new(1..=seeds);
    let done = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(seed) = next.lock().ok().and_then(|mut it| it.next()) {
                    let outcome = run(seed);
                    done.lock()
                        .expect("no worker panics while it holds this")
                        .push((seed, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panics while it holds this");
    done.sort_by_key(|it| it.0);
    done.into_iter().map(|it| it.1).collect()
}
