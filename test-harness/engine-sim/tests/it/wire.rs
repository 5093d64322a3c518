//! A client that hides nothing: what it returns is what came over the socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use engine_sim::SimProcess;
use serde_json::Value;

/// Longer than anything here takes; a test that reaches it has failed.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The parsed events of a stream, comments apart.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        data.filter(|json| *json != "[DONE]")
            .map(|json| serde_json::from_str(json).unwrap())
            .collect()
    }

    /// The text of all events together.
    pub(crate) fn text(&self) -> String {
        self.events().iter().filter_map(|it| it["content"].as_str().map(str::to_owned)).collect()
    }
}

pub(crate) fn connect(sim: &SimProcess) -> TcpStream {
    connect_to(sim.port())
}

pub(crate) fn connect_to(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

pub(crate) fn send(stream: &mut TcpStream, method: &str, path: &str, extra: &str, body: &str) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: sim\r\n{extra}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
}

/// Sends on a new connection that ends with the answer, and decodes it.
pub(crate) fn ask(sim: &SimProcess, method: &str, path: &str, extra: &str, body: &str) -> Answer {
    let mut stream = connect(sim);
    send(&mut stream, method, path, &format!("{extra}Connection: close\r\n"), body);
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    decode(&raw)
}

pub(crate) fn get(sim: &SimProcess, path: &str) -> Answer {
    ask(sim, "GET", path, "", "")
}

pub(crate) const JSON: &str = "Content-Type: application/json\r\n";

pub(crate) fn post(sim: &SimProcess, path: &str, body: &Value) -> Answer {
    ask(sim, "POST", path, JSON, &body.to_string())
}

/// Sends a JSON body on a new connection, without waiting for anything.
pub(crate) fn begin(sim: &SimProcess, path: &str, body: &Value) -> TcpStream {
    let mut socket = connect(sim);
    let extra = format!("{JSON}Connection: close\r\n");
    send(&mut socket, "POST", path, &extra, &body.to_string());
    socket
}

/// Bytes of an answer up to whatever ended it.
pub(crate) fn raw_post(
    sim: &SimProcess,
    path: &str,
    body: &Value,
) -> (String, std::io::Result<()>) {
    let mut raw = Vec::new();
    let end = begin(sim, path, body).read_to_end(&mut raw).map(|_| ());
    (String::from_utf8_lossy(&raw).into_owned(), end)
}

/// Streams a completion of `prompt` and returns it whole.
pub(crate) fn stream(sim: &SimProcess, prompt: &str, n_predict: i64) -> Answer {
    let body = serde_json::json!({ "prompt": prompt, "n_predict": n_predict, "stream": true });
    post(sim, "/completion", &body)
}

/// Bytes of a streamed completion up to whatever ended it.
pub(crate) fn raw_stream(sim: &SimProcess, prompt: &str) -> (String, std::io::Result<()>) {
    let mut socket = connect(sim);
    start(&mut socket, prompt);
    let mut raw = Vec::new();
    let end = socket.read_to_end(&mut raw).map(|_| ());
    (String::from_utf8_lossy(&raw).into_owned(), end)
}

/// Sends a streamed completion of five tokens without waiting for anything.
pub(crate) fn start(socket: &mut TcpStream, prompt: &str) {
    let body = serde_json::json!({ "prompt": prompt, "n_predict": 5, "stream": true });
    send(socket, "POST", "/completion", "Connection: close\r\n", &body.to_string());
}

/// Reads until `wanted` has come.
pub(crate) fn read_until(socket: &mut TcpStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = socket.read(&mut piece).unwrap();
        assert!(count > 0, "ended before {wanted:?}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&seen);
        if text.contains(wanted) {
            return text.into_owned();
        }
    }
}

/// Asks until `holds`, within the limit.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
    }
}

pub(crate) fn decode(raw: &[u8]) -> Answer {
    let text = std::str::from_utf8(raw).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(rest) } else { rest.into() };
    Answer { status, head: head.to_owned(), body }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            assert_eq!(after, "\r\n");
            return body;
        }
        body.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").unwrap();
    }
}
