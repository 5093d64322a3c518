//! A plain HTTP client, and events as a reader gets them. Whatever comes is held against the committed
//! OpenAPI documents.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use contract_check::{Exchange, Frame, ORCHESTRATORD, RawAnswer};
use serde_json::Value;
use ureq::http::HeaderMap;
use ureq::{Agent, BodyReader};

pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    agent: Agent,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let mut reader = Events::new(self.body.as_bytes(), "GET", "/v1/tasks/x/stream");
        std::iter::from_fn(|| reader.next()).collect()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build();
        Self { address, agent: config.into() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(("GET", path, None), request.call().unwrap())
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        self.get(path, &[]).json()
    }

    pub(crate) fn post(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.post(self.url(path));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(("POST", path, Some(body)), request.send(body).unwrap())
    }

    /// The status of the answer, if one came.
    pub(crate) fn try_post(&self, path: &str, body: &str) -> Option<u16> {
        let request = self.agent.post(self.url(path)).header("content-type", "application/json");
        request.send(body).ok().map(|it| it.status().as_u16())
    }

    pub(crate) fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.delete(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(("DELETE", path, None), request.call().unwrap())
    }

    /// Submits, expecting admission; returns the task's id.
    pub(crate) fn submit(&self, body: &str) -> String {
        let answer = self.post("/v1/tasks", body, &[]);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["task_id"].as_str().unwrap().to_owned()
    }

    /// Submits and reads the stream to its end.
    pub(crate) fn run(&self, body: &str) -> Vec<Event> {
        let answer = self.post("/v1/tasks", body, &[("accept", "text/event-stream")]);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.events()
    }

    /// Reads a task's stream to its end.
    pub(crate) fn stream(&self, task: &str) -> Vec<Event> {
        self.get(&format!("/v1/tasks/{task}/stream"), &[]).events()
    }

    pub(crate) fn cancel(&self, task: &str) -> u16 {
        self.post(&format!("/v1/tasks/{task}/cancel"), "{}", &[]).status
    }

    /// A submission whose stream the test reads event by event, and may drop at any time.
    pub(crate) fn open(&self, body: &str) -> Events<BufReader<BodyReader<'static>>> {
        let request = self.agent.post(self.url("/v1/tasks")).header("accept", "text/event-stream");
        let response = request.header("content-type", "application/json").send(body).unwrap();
        assert_eq!(response.status().as_u16(), 200);
        check(("POST", "/v1/tasks", Some(body)), 200, response.headers(), None);
        Events::new(BufReader::new(response.into_body().into_reader()), "POST", "/v1/tasks")
    }

    /// A task's stream, read event by event.
    pub(crate) fn read(&self, task: &str) -> Events<BufReader<BodyReader<'static>>> {
        let path = format!("/v1/tasks/{task}/stream");
        let response = self.agent.get(self.url(&path)).call().unwrap();
        check(("GET", &path, None), response.status().as_u16(), response.headers(), None);
        Events::new(BufReader::new(response.into_body().into_reader()), "GET", &path)
    }

    /// A request of which every byte is the test's.
    pub(crate) fn raw(&self, request: &str) -> Events<BufReader<TcpStream>> {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut words = request.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        Events::new(BufReader::new(socket), method, target)
    }
}

/// Method, target and body of a request.
type Asked<'a> = (&'a str, &'a str, Option<&'a str>);

fn answer(asked: Asked<'_>, mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let body = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    check(asked, response.status().as_u16(), response.headers(), Some(&body));
    Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
}

fn check(
    (method, target, request): Asked<'_>,
    status: u16,
    headers: &HeaderMap,
    body: Option<&str>,
) {
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let headers = headers.collect();
    let findings =
        ORCHESTRATORD.check(&Exchange { method, target, request, status, headers, body });
    assert!(findings.is_empty(), "{findings:#?}\n{body:?}");
}

/// Events of a body or a raw socket; lines that belong to no event (heads, chunk sizes) are skipped.
pub(crate) struct Events<R> {
    pub(crate) reader: R,
    method: String,
    target: String,
}

impl<R: BufRead> Events<R> {
    /// `method` and `target` are what opened the stream.
    pub(crate) fn new(reader: R, method: &str, target: &str) -> Self {
        Self { reader, method: method.into(), target: target.into() }
    }

    pub(crate) fn next(&mut self) -> Option<Event> {
        let (mut id, mut name) = (None, None);
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("id: ") {
                id = Some(value.parse().unwrap());
            } else if let Some(value) = line.strip_prefix("event: ") {
                name = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(value).unwrap();
                let frame = Frame { id, name: name.unwrap(), data };
                let findings = ORCHESTRATORD.check_event(&self.method, &self.target, &frame);
                assert!(findings.is_empty(), "{findings:#?}\n{frame:?}");
                return Some(Event { id, name: frame.name, data: frame.data });
            }
        }
    }

    pub(crate) fn until(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("no `{name}` came"));
            if event.name == name {
                return event;
            }
        }
    }
}

impl Events<BufReader<TcpStream>> {
    /// Everything until the server closes.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = String::new();
        // A reset after the answer is still an answer.
        let _reset = self.reader.read_to_string(&mut text);
        let answer = RawAnswer::parse(&text).unwrap();
        // A head that is far too large is answered below the API, without a body.
        if !(answer.status == 431 && answer.body.is_empty()) {
            let findings = ORCHESTRATORD.check(&answer.exchange(&self.method, &self.target));
            assert!(findings.is_empty(), "{findings:#?}\n{text}");
        }
        text
    }
}

pub(crate) fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|it| it.name.as_str()).collect()
}

pub(crate) fn text(events: &[Event]) -> String {
    let tokens = events.iter().filter(|it| it.name == "token");
    tokens.map(|it| it.data["t"].as_str().unwrap()).collect()
}

/// ` 0 1 2 …`, what the simulator says.
pub(crate) fn numbers(count: usize) -> String {
    (0..count).map(|it| format!(" {it}")).collect()
}
