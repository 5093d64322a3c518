//! A pool manager's watch stream under a test's control.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use pool_api::{Device, Origin, Pool, Replica, ReplicaState, Snapshot, WatchEvent};

/// Serves one watcher at a time, on a thread of its own that ends with the process.
pub(crate) struct Manager {
    pub(crate) url: String,
    events: Sender<WatchEvent>,
}

impl Manager {
    pub(crate) fn start(pools: Vec<Pool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (events, receiver) = channel();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if serve(connection.unwrap(), &pools, &receiver).is_none() {
                    return;
                }
            }
        });
        Self { url, events }
    }

    pub(crate) fn tell(&self, pool: Pool) {
        self.events.send(WatchEvent::Pool(pool)).unwrap();
    }
}

/// `None` once the test is over.
fn serve(connection: TcpStream, pools: &[Pool], events: &Receiver<WatchEvent>) -> Option<()> {
    let mut reader = BufReader::new(&connection);
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let mut out = &connection;
    write!(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").ok()?;
    let snapshot =
        Snapshot { manager_instance: "test".into(), version: "0".into(), pools: pools.to_vec() };
    let mut next = WatchEvent::Snapshot(snapshot);
    loop {
        let data = serde_json::to_string(&next).unwrap();
        if write!(out, "data: {data}\n\n").is_err() {
            return Some(());
        }
        next = match events.recv_timeout(Duration::from_millis(500)) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => WatchEvent::Heartbeat,
            Err(RecvTimeoutError::Disconnected) => return None,
        };
    }
}

/// A pool of one replica behind `endpoint`.
pub(crate) fn pool(id: &str, model: &str, endpoint: &str, slots: u32) -> Pool {
    Pool {
        pool_id: id.into(),
        engine: "llamacpp".into(),
        origin: Origin::Managed,
        model_id: model.into(),
        model_aliases: vec![format!("{model}-alias")],
        devices: vec![Device {
            device_id: "cpu0".into(),
            kind: "cpu".into(),
            memory_total_bytes: 1 << 30,
        }],
        draining: false,
        replicas: vec![Replica {
            replica_id: format!("{id}-0"),
            incarnation: 1,
            state: ReplicaState::Ready,
            endpoint: Some(endpoint.into()),
            engine_key: None,
            engine_version: Some("b1-test".into()),
            model_digest: Some(format!("sha256:{}", "a".repeat(64))),
            slots,
            context_tokens: 1_024,
            chat_template: true,
            last_error: None,
            restarts: 0,
            pid: None,
        }],
    }
}
