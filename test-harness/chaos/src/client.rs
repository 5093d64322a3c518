//! The public API as a client sees it that expects its connection to break at any time.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body, BodyReader};

use crate::trace::Event;

/// Longest silence of a connection: longer than any freeze, shorter than anybody's patience.
const SILENCE: Duration = Duration::from_secs(6);

#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    key: String,
}

/// What came of a call whose connection did not break.
pub(crate) struct Answer {
    pub(crate) status: u16,
    response: Response<Body>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, key: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .max_idle_connections(0)
            .build();
        let url = format!("http://{address}");
        Self { agent: config.into(), url, key: format!("Bearer {key}") }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, ureq::Error> {
        self.follow(path, 0)
    }

    /// A stream after the event that was seen last.
    pub(crate) fn follow(&self, path: &str, last: u64) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if last != 0 {
            request = request.header("last-event-id", last.to_string());
        }
        Ok(Answer::of(request.header("authorization", &self.key).call()?))
    }

    pub(crate) fn post(&self, path: &str, body: &str, accept: &str) -> Result<Answer, ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.url));
        let request = request.header("authorization", &self.key).header("accept", accept);
        Ok(Answer::of(request.header("content-type", "application/json").send(body)?))
    }
}

impl Answer {
    fn of(response: Response<Body>) -> Self {
        Self { status: response.status().as_u16(), response }
    }

    pub(crate) fn json(mut self) -> Result<Value, ureq::Error> {
        self.response.body_mut().read_json()
    }

    pub(crate) fn events(self) -> Events {
        Events { lines: BufReader::new(self.response.into_body().into_reader()) }
    }
}

pub(crate) struct Events {
    lines: BufReader<BodyReader<'static>>,
}

impl Iterator for Events {
    type Item = Event;

    /// The next whole event; `None` where the connection ends, properly or not.
    fn next(&mut self) -> Option<Event> {
        let mut event = Event { id: None, name: String::new(), data: String::new() };
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).ok()?;
            // What was cut off is not an event.
            let line = line.strip_suffix('\n')?;
            if let Some(value) = line.strip_prefix("id: ") {
                event.id = value.parse().ok();
            } else if let Some(value) = line.strip_prefix("event: ") {
                value.clone_into(&mut event.name);
            } else if let Some(value) = line.strip_prefix("data: ") {
                value.clone_into(&mut event.data);
            } else if line.is_empty() && !event.name.is_empty() {
                return Some(event);
            }
        }
    }
}
