//! What the relay costs: the same load on engine-sim directly and through orchestratord, in
//! interleaved rounds of one run, with every answer checked for lost, doubled or reordered tokens.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod client;
mod load;
mod restart;
mod stack;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use figures::Figures;

use stack::Stack;

#[derive(Parser)]
struct Arguments {
    /// Where the figures go, beside the table.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Interleaved rounds; figures are medians over them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each side of a round, in the profiles that run by time.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Streams of profile D.
    #[arg(long, default_value_t = 5_000)]
    streams: usize,
    /// Tasks that wait in profile restart.
    #[arg(long, default_value_t = 100_000)]
    queued: usize,
    /// What the tasks of the relay survive.
    #[arg(long, value_enum, default_value_t = Durability::Process)]
    durability: Durability,
    /// Only these profiles.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Profile::value_variants().to_vec())]
    profiles: Vec<Profile>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    Idle,
    A,
    B,
    C,
    D,
    Disconnect,
    Restart,
}

/// As the configuration names them.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Durability {
    Memory,
    Process,
    Disk,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(run(&arguments))?;
    print!("{}", figures.table());
    if let Some(path) = &arguments.json {
        std::fs::write(path, figures.json(serde_json::json!({})))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

async fn run(arguments: &Arguments) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let plan = load::Plan { rounds: arguments.rounds, seconds: arguments.seconds };
    let asked = |profile| arguments.profiles.contains(&profile);
    {
        let stack = Stack::start(256, 0, arguments.durability).await?;
        figures.add("start.listening_ms", stack.listening_ms, "ms", Some(("<=", 100.)));
        if asked(Profile::Idle) {
            load::idle(&stack, &mut figures).await?;
        }
        if asked(Profile::A) {
            load::a(&stack, plan, &mut figures).await?;
        }
        if asked(Profile::B) {
            load::b(&stack, plan, &mut figures).await?;
        }
        if asked(Profile::Disconnect) {
            load::disconnect(&stack, &mut figures).await?;
        }
    }
    if asked(Profile::C) {
        let stack = Stack::start(256, 20_000, arguments.durability).await?;
        load::c(&stack, plan, &mut figures).await?;
    }
    if asked(Profile::Restart) {
        let mut stack = Stack::start(1, 2_000_000, Durability::Process).await?;
        restart::restart(&mut stack, arguments.queued, &mut figures).await?;
    }
    if asked(Profile::D) {
        let stack = Stack::start(arguments.streams + 8, 2_000_000, arguments.durability).await?;
        load::d(&stack, arguments.streams, &mut figures).await?;
    }
    Ok(figures)
}

/// Each stream of profile D takes a connection on both sides of orchestratord, which inherits this.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A lower hard limit makes profile D fail with its own message.
    let _raised =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
