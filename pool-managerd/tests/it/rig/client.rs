//! HTTP as it stands on the wire, because the tests send what no client library would. Whatever a
//! daemon answers is held against the committed OpenAPI document.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use contract_check::{Exchange, Frame, POOL_MANAGERD, RawAnswer};
use pool_api::{Pool, Replica, WatchEvent};

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|it| {
            let (key, value) = it.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn error_code(&self) -> String {
        let error: pool_api::ErrorBody = serde_json::from_str(&self.body).unwrap();
        assert!(!error.message.is_empty());
        error.code
    }
}

/// One request with a fitting `Host`, one answer.
pub(crate) fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    let host = format!("Host: {to}");
    let headers = [&[host.as_str()], headers].concat();
    ask_raw(to, method, path, &headers, body)
}

pub(crate) fn ask_raw(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    let answer = ask_engine(to, method, path, headers, body);
    let text = format!("{}\r\n\r\n{}", answer.head, answer.body);
    check(&RawAnswer::parse(&text).unwrap().exchange(method, path));
    answer
}

fn check(exchange: &Exchange<'_>) {
    let findings = POOL_MANAGERD.check(exchange);
    assert!(findings.is_empty(), "{findings:#?}\n{:?}", exchange.body);
}

/// As [`ask_raw`], of a server that is no daemon of ours.
pub(crate) fn ask_engine(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    let mut stream = send(to, method, path, headers, body);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn send(to: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    stream
}

pub(crate) fn address(endpoint: &str) -> SocketAddr {
    endpoint.strip_prefix("http://").unwrap().parse().unwrap()
}

/// Breaks an engine-sim.
pub(crate) fn fault(endpoint: &str, order: &str) {
    let json = ["Host: sim", "Content-Type: application/json"];
    assert_eq!(ask_engine(address(endpoint), "POST", "/sim/fault", &json, order).status, 200);
}

/// A reader of `GET /v1/watch`.
pub(crate) struct Watch {
    lines: std::io::Lines<BufReader<TcpStream>>,
    opened: Instant,
}

impl Watch {
    pub(crate) fn open(to: SocketAddr) -> Self {
        let mut reader =
            BufReader::new(send(to, "GET", "/v1/watch", &[&format!("Host: {to}")], ""));
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut text).unwrap(), 0, "{text}");
        }
        let answer = RawAnswer::parse(&text).unwrap();
        check(&Exchange { body: None, ..answer.exchange("GET", "/v1/watch") });
        Self { lines: reader.lines(), opened: Instant::now() }
    }

    /// `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<WatchEvent> {
        assert!(self.opened.elapsed() < LIMIT, "what the test waits for does not come");
        // One event is one chunk, so that no chunk border stands within a line of data.
        let data =
            self.lines.find_map(|it| Some(it.unwrap().strip_prefix("data: ")?.to_owned()))?;
        let (id, name) = (None, "message".to_owned());
        let frame = Frame { id, name, data: serde_json::from_str(&data).unwrap() };
        let findings = POOL_MANAGERD.check_event("GET", "/v1/watch", &frame);
        assert!(findings.is_empty(), "{findings:#?}\n{data}");
        Some(serde_json::from_value(frame.data).unwrap())
    }

    pub(crate) fn next_pool(&mut self) -> Option<Pool> {
        loop {
            match self.next()? {
                WatchEvent::Snapshot(mut snapshot) => return Some(snapshot.pools.remove(0)),
                WatchEvent::Pool(pool) => return Some(pool),
                WatchEvent::Devices(_) | WatchEvent::Heartbeat => {}
            }
        }
    }

    /// The first state of the first replica that fits.
    pub(crate) fn until(&mut self, mut fits: impl FnMut(&Replica) -> bool) -> Replica {
        let mut last = None;
        loop {
            let Some(pool) = self.next_pool() else { panic!("the stream ended after {last:?}") };
            let replica = pool.replicas[0].clone();
            if fits(&replica) {
                return replica;
            }
            last = Some(replica);
        }
    }
}
