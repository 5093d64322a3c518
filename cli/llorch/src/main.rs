//! llorch: submit prompts, follow streams, look at pools and the queue.
#![expect(clippy::print_stdout, reason = "standard output is what this program is for")]

mod client;
mod keys;
mod replay;
mod stream;
mod submit;
mod tables;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use uuid::Uuid;

use crate::client::Client;
use crate::stream::Shown;

/// Talks to an orchestratord.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where orchestratord listens.
    #[arg(long, env = "LLORCH_URL", default_value = "http://127.0.0.1:8420", global = true)]
    url: String,
    /// API key, where one is needed.
    #[arg(long, env = "LLORCH_KEY", hide_env_values = true, global = true)]
    key: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Submit a prompt and print the answer as it comes.
    Submit(submit::Submit),
    /// Print a task's stream, from its start or after an event.
    Stream {
        task: Uuid,
        /// Last event already seen.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Print the events as they are.
        #[arg(long)]
        raw: bool,
    },
    /// Cancel a task.
    Cancel { task: Uuid },
    /// Show pools and their replicas.
    Pools,
    /// Show models, and which are in memory.
    Models,
    /// Show devices, and what models take of their memory.
    Gpus,
    /// Have a pool take no new work; what runs may finish, then goes on elsewhere.
    Drain {
        pool: String,
        /// How long running tasks may finish, in seconds.
        #[arg(long, default_value_t = 60)]
        within: u64,
    },
    /// Have a pool take work again.
    Undrain { pool: String },
    /// Have a pool serve another model, or its own read anew.
    Reload {
        pool: String,
        /// Id or alias of a model of its host, or the absolute path of a file there.
        model: Option<String>,
    },
    /// Run a finished task again and tell whether the answer is the same, or what is different.
    Replay { task: Uuid },
    /// Show what waits and runs.
    Queue,
    /// Make API keys.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Print a new key and the digest that belongs in the configuration.
    New,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let client = Client::new(&arguments.url, arguments.key.as_deref());
    let done = match arguments.command {
        Command::Submit(submit) => submit::run(&client, submit),
        Command::Stream { task, after, raw } => {
            stream::follow(&client, task, after, Shown { silent: false, raw, timings: false })
        }
        Command::Cancel { task } => client.cancel(task),
        Command::Pools => tables::pools(&client),
        Command::Reload { pool, model } => client.reload(&pool, model),
        Command::Models => tables::models(&client),
        Command::Gpus => tables::gpus(&client),
        Command::Drain { pool, within } => client.drain(&pool, within.saturating_mul(1_000)),
        Command::Undrain { pool } => client.undrain(&pool),
        Command::Replay { task } => match replay::run(&client, task) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Queue => tables::queue(&client),
        Command::Key { command: KeyCommand::New } => keys::new(),
    };
    if let Some(code) = submit::interrupted() {
        return code;
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "standard output carries the answer only")]
fn complain(error: &anyhow::Error) {
    eprintln!("llorch: {error:#}");
}
