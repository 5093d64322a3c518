//! Reads a task's events and prints the answer as it comes.

use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use anyhow::ensure;
use api_types::{End, ErrorEnvelope, Queued, Token};
use ureq::Body;
use uuid::Uuid;

use crate::client::{Client, told};

#[derive(Clone, Copy)]
pub(crate) struct Shown {
    /// Nothing is.
    pub(crate) silent: bool,
    pub(crate) raw: bool,
    pub(crate) timings: bool,
}

/// How long a server may be away that was there before, and the pauses between looks.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Follows a task to its end, over broken connections and restarts of the server.
///
/// # Errors
/// An `error` event, an answer that is one, and a server that stays away.
pub(crate) fn follow(client: &Client, task: Uuid, after: u64, shown: Shown) -> anyhow::Result<()> {
    let mut reader = Reader { shown, last: after };
    let response = client.open(&reader.path(task), EVENTS)?;
    reader.read_on(client, task, response.into_body())
}

/// As [`follow`], of which `body` is the beginning.
///
/// # Errors
/// As of [`follow`].
pub(crate) fn print(client: &Client, task: Uuid, body: Body, shown: Shown) -> anyhow::Result<()> {
    Reader { shown, last: 0 }.read_on(client, task, body)
}

/// As [`print`], and prints nothing.
///
/// # Errors
/// As of [`follow`].
pub(crate) fn wait(client: &Client, task: Uuid, body: Body) -> anyhow::Result<()> {
    let shown = Shown { silent: true, raw: false, timings: false };
    Reader { shown, last: 0 }.read_on(client, task, body)
}

const EVENTS: &str = "text/event-stream";

struct Reader {
    shown: Shown,
    /// Id of the last event that was seen.
    last: u64,
}

impl Reader {
    fn path(&self, task: Uuid) -> String {
        format!("/v1/tasks/{task}/stream?after={}", self.last)
    }

    fn read_on(&mut self, client: &Client, task: Uuid, body: Body) -> anyhow::Result<()> {
        let mut body = Some(body);
        let (mut since, mut pause) = (Instant::now(), PAUSE_FIRST);
        loop {
            if let Some(body) = body.take() {
                let before = self.last;
                if self.read(body)? {
                    return Ok(());
                }
                if before < self.last {
                    (since, pause) = (Instant::now(), PAUSE_FIRST);
                }
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "the connection broke and the server did not come back; `llorch stream --after {} \
                 {task}` goes on",
                self.last
            );
            rest(pause);
            pause = (pause * 2).min(PAUSE_MAX);
            body = match client.try_open(&self.path(task), EVENTS)? {
                Ok(response) => Some(response.into_body()),
                Err(_away) => None,
            };
        }
    }

    /// True after the last event, false if the stream broke off before.
    fn read(&mut self, body: Body) -> anyhow::Result<bool> {
        let shown = self.shown;
        let mut out = std::io::stdout().lock();
        let (mut id, mut event) = (None, String::new());
        for line in BufReader::new(body.into_reader()).lines() {
            let Ok(line) = line else { return Ok(false) };
            if shown.raw {
                writeln!(out, "{line}")?;
                out.flush()?;
            }
            if let Some(number) = line.strip_prefix("id: ") {
                id = number.parse().ok();
            } else if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data: ") {
                if handle(&event, data, shown, &mut out)? {
                    return Ok(true);
                }
                self.last = id.take().unwrap_or(self.last);
            }
        }
        Ok(false)
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing else is to be done meanwhile")]
fn rest(pause: Duration) {
    std::thread::sleep(pause);
}

/// True after the last event.
fn handle(event: &str, data: &str, shown: Shown, out: &mut impl Write) -> anyhow::Result<bool> {
    match event {
        "queued" => queued(&serde_json::from_str(data)?, shown),
        "token" if !shown.raw && !shown.silent => {
            let token: Token = serde_json::from_str(data)?;
            out.write_all(token.t.as_bytes())?;
            out.flush()?;
        }
        "end" => {
            let end: End = serde_json::from_str(data)?;
            if !shown.raw && !shown.silent {
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
        // `disconnected` is followed by the end of the connection.
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
    if waits && !shown.raw && !shown.silent {
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
