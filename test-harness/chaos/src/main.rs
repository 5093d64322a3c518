//! A load of numbered answers from engine-sim while daemons and engines are killed, connections cut
//! and the disk filled: nothing that was accepted may be lost, and no token may be lost, doubled or
//! moved. The same run on `--durability memory` must lose something, or the checks see nothing.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to its user")]

mod audit;
mod client;
mod harm;
mod load;
mod quota;
mod report;
mod run;
mod stack;
mod trace;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use run::Run;
use stack::Stack;

#[derive(Parser)]
struct Arguments {
    /// How long things go wrong, in minutes.
    #[arg(long, default_value_t = 3.)]
    minutes: f64,
    /// Draws the tasks and the harm; left out: any.
    #[arg(long)]
    seed: Option<u64>,
    /// What tasks survive; with `memory` the run must lose some.
    #[arg(long, value_enum, default_value_t = Durability::Process)]
    durability: Durability,
    /// Where the figures go, beside the table.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// As the configuration names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    Memory,
    Process,
    Disk,
}

pub(crate) struct Options {
    pub(crate) minutes: f64,
    pub(crate) seed: u64,
    pub(crate) durability: Durability,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let options = Options {
        minutes: arguments.minutes,
        seed: arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
        durability: arguments.durability,
    };
    println!("chaos: {} minutes, seed {}, {:?}", options.minutes, options.seed, options.durability);
    let stack = Stack::start(&format!("{:?}", options.durability).to_lowercase())?;
    let mut run = Run::new(options, stack);
    harass(&run);
    let audit = audit::audit(&run);
    let figures = report::figures(&run, &audit);
    print!("{}", figures.table());
    if let Some(path) = &arguments.json {
        std::fs::write(path, figures.json(report::environment(&run)))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    if figures.all_hold() {
        return Ok(ExitCode::SUCCESS);
    }
    report::surprises(&run).iter().for_each(|it| eprintln!("chaos: {it}"));
    let folder = run.stack.keep_folder();
    eprintln!("chaos: logs and journal are in {}", folder.display());
    Ok(ExitCode::FAILURE)
}

/// Returns when every client is through.
fn harass(run: &Run) {
    std::thread::scope(|scope| {
        for client in load::clients(run) {
            scope.spawn(client);
        }
        let harm: Vec<_> = harm::lanes(run).map(|it| scope.spawn(it)).collect();
        pause(Duration::from_secs_f64(run.options.minutes * 60.));
        run.calm_down();
        for lane in harm {
            lane.join().expect("a lane of harm does not panic");
        }
        run.healed();
    });
}

#[expect(clippy::disallowed_methods, reason = "real processes take their time; nothing wakes us")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}
