//! `llorch submit`.

use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, ensure};
use api_types::{Admission, ChatMessage, Priority, PromptInput, Sampling, TaskRequest};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use uuid::Uuid;

use crate::client::Client;
use crate::stream::{self, Shown};

#[derive(Args)]
pub(crate) struct Submit {
    /// The prompt; left out: standard input.
    prompt: Vec<String>,
    /// Model id, alias or digest.
    #[arg(long)]
    model: Option<String>,
    #[arg(long)]
    max_tokens: Option<u32>,
    #[arg(long)]
    seed: Option<u32>,
    #[arg(long)]
    temperature: Option<f32>,
    /// Text at which to stop; may be repeated.
    #[arg(long)]
    stop: Vec<String>,
    /// Send the prompt as a user's message through the model's chat template.
    #[arg(long)]
    chat: bool,
    /// A system message; implies --chat.
    #[arg(long)]
    system: Option<String>,
    /// Let interactive work go first.
    #[arg(long)]
    batch: bool,
    /// Print the task's id and return; the task goes on.
    #[arg(long, conflicts_with_all = ["raw", "timings"])]
    detach: bool,
    /// Print the events as they are.
    #[arg(long)]
    raw: bool,
    /// Print token counts and times after the answer, on standard error.
    #[arg(long)]
    timings: bool,
}

pub(crate) fn run(client: &Client, submit: Submit) -> anyhow::Result<()> {
    let (detach, shown) =
        (submit.detach, Shown { silent: false, raw: submit.raw, timings: submit.timings });
    let task = Uuid::new_v4();
    let request = TaskRequest { task_id: Some(task), ..request(submit)? };
    if detach {
        let mut response = client.post("/v1/tasks", "application/json", &request)?;
        let admission: Admission =
            response.body_mut().read_json().context("reading the admission")?;
        println!("{}", admission.task_id);
        return Ok(());
    }
    let response = client.post("/v1/tasks", "text/event-stream", &request)?;
    cancel_on_interrupt(client, task)?;
    stream::print(client, task, response.into_body(), shown)
}

/// The signal that came, or 0.
static INTERRUPTED: AtomicI32 = AtomicI32::new(0);

/// How a program that was interrupted exits: 128 and the signal, as shells tell it.
pub(crate) fn interrupted() -> Option<ExitCode> {
    let signal = u8::try_from(INTERRUPTED.load(Ordering::Relaxed)).ok().filter(|it| *it != 0)?;
    Some(ExitCode::from(128 + signal))
}

/// Ctrl-C: the user wants it over now, and not after the grace that a broken connection has. The
/// stream's own end ends the program, unless nobody can be told.
fn cancel_on_interrupt(client: &Client, task: Uuid) -> anyhow::Result<()> {
    let client = client.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("handling Ctrl-C")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(signal, Ordering::Relaxed);
            if client.cancel(task).is_err() {
                leave(128 + signal);
            }
        }
    });
    Ok(())
}

#[expect(clippy::exit, reason = "the main thread waits for a server that is gone")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

fn request(submit: Submit) -> anyhow::Result<TaskRequest> {
    let text = if submit.prompt.is_empty() {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading the prompt")?;
        text
    } else {
        submit.prompt.join(" ")
    };
    ensure!(!text.is_empty(), "the prompt is empty: give it as arguments or on standard input");
    let mut request = TaskRequest {
        model_ref: submit.model,
        max_tokens: submit.max_tokens,
        seed: submit.seed,
        sampling: submit
            .temperature
            .map(|it| Sampling { temperature: Some(it), ..Sampling::default() }),
        stop: (!submit.stop.is_empty()).then_some(submit.stop),
        priority: if submit.batch { Priority::Batch } else { Priority::Interactive },
        ..TaskRequest::default()
    };
    if submit.chat || submit.system.is_some() {
        let message = |role: &str, content| ChatMessage { role: role.into(), content };
        let system = submit.system.map(|it| message("system", it));
        request.messages = Some(system.into_iter().chain([message("user", text)]).collect());
    } else {
        request.prompt = Some(PromptInput::Text(text));
    }
    Ok(request)
}
