//! Reads a task's events and prints the answer as it comes.

use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, bail};
use api_types::{Disconnected, End, ErrorEnvelope, Queued, Token};
use ureq::Body;
use uuid::Uuid;

use crate::client::{Client, told};

#[derive(Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) raw: bool,
    pub(crate) timings: bool,
}

pub(crate) fn follow(client: &Client, task: Uuid, after: u64, raw: bool) -> anyhow::Result<()> {
    let path = format!("/v1/tasks/{task}/stream?after={after}");
    let response = client.open(&path, "text/event-stream")?;
    print(response.into_body(), Shown { raw, timings: false })
}

/// Returns at `end`; an `error` event, or a stream that just stops, is an error.
pub(crate) fn print(body: Body, shown: Shown) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut event = String::new();
    for line in BufReader::new(body.into_reader()).lines() {
        let line = line.context("the stream broke off")?;
        if shown.raw {
            writeln!(out, "{line}")?;
            out.flush()?;
        }
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut event);
        } else if let Some(data) = line.strip_prefix("data: ")
            && handle(&event, data, shown, &mut out)?
        {
            return Ok(());
        }
    }
    bail!("the stream ended without a last event")
}

/// True after the last event.
fn handle(event: &str, data: &str, shown: Shown, out: &mut impl Write) -> anyhow::Result<bool> {
    match event {
        "queued" => queued(&serde_json::from_str(data)?, shown),
        "token" if !shown.raw => {
            let token: Token = serde_json::from_str(data)?;
            out.write_all(token.t.as_bytes())?;
            out.flush()?;
        }
        "end" => {
            let end: End = serde_json::from_str(data)?;
            if !shown.raw {
                writeln!(out)?;
            }
            if shown.timings {
                timings(&end);
            }
            return Ok(true);
        }
        "error" => {
            let error: ErrorEnvelope = serde_json::from_str(data)?;
            return Err(told(&error));
        }
        "disconnected" => {
            let it: Disconnected = serde_json::from_str(data)?;
            bail!("the server closed the stream ({:?}); the task goes on", it.reason);
        }
        _ => {}
    }
    Ok(false)
}

#[expect(clippy::print_stderr, reason = "standard output carries the answer only")]
fn queued(event: &Queued, shown: Shown) {
    let (position, start, state) = match event {
        Queued::Admitted { admission, .. } => {
            (admission.queue_position, admission.predicted_start_ms, Some(admission.state))
        }
        Queued::Waiting { queue_position, predicted_start_ms, .. } => {
            (*queue_position, *predicted_start_ms, None)
        }
    };
    let waits = state.is_none_or(|it| it == api_types::TaskState::Queued);
    if waits && !shown.raw {
        eprintln!(
            "queued: {position} before this one, starts in about {} s",
            start.div_ceil(1_000)
        );
    }
}

#[expect(clippy::print_stderr, reason = "standard output carries the answer only")]
fn timings(end: &End) {
    let decode_ms = end.decode_time_ms.unwrap_or(0);
    let rate = match decode_ms {
        0 => String::new(),
        ms => format!(", {} tokens/s", end.tokens_out * 1_000 / ms),
    };
    eprintln!(
        "{} tokens in, {} out; queued {} ms, first token after {} ms, then {decode_ms} ms{rate}",
        end.tokens_in,
        end.tokens_out,
        end.queue_time_ms,
        end.first_token_ms.unwrap_or(0),
    );
}
