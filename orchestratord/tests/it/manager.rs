//! A pool manager's watch stream and orders under a test's control.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_api::{
    Device, DeviceHealth, Job, JobRequest, JobState, Order, Origin, Pool, Replica, ReplicaState,
    Residency, Snapshot, WatchEvent,
};

/// Serves one watcher at a time and takes any order, on threads that end with the process.
pub(crate) struct Manager {
    pub(crate) url: String,
    events: Sender<WatchEvent>,
    orders: Mutex<Receiver<Order>>,
}

impl Manager {
    pub(crate) fn start(pools: Vec<Pool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (events, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let (taken, orders) = channel();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (pools, receiver, taken) =
                    (pools.clone(), Arc::clone(&receiver), taken.clone());
                std::thread::spawn(move || serve(&connection.unwrap(), &pools, &receiver, &taken));
            }
        });
        Self { url, events, orders: Mutex::new(orders) }
    }

    pub(crate) fn tell(&self, pool: Pool) {
        self.events.send(WatchEvent::Pool(pool)).unwrap();
    }

    pub(crate) fn no_order(&self) -> bool {
        self.orders.lock().unwrap().try_recv().is_err()
    }

    /// The next order, within 10 s.
    pub(crate) fn order(&self) -> Order {
        self.orders.lock().unwrap().recv_timeout(Duration::from_secs(10)).expect("an order comes")
    }
}

fn serve(
    connection: &TcpStream,
    pools: &[Pool],
    events: &Mutex<Receiver<WatchEvent>>,
    taken: &Sender<Order>,
) {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    loop {
        let start = head.len();
        match reader.read_line(&mut head) {
            Ok(0) | Err(_) => return,
            Ok(_) if head[start..].trim().is_empty() => break,
            Ok(_) => {}
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|it| it.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |it| it.trim().parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    match head.strip_prefix("put /v1/jobs/") {
        Some(rest) => {
            let request: JobRequest = serde_json::from_slice(&body).unwrap();
            assert_ne!(request.epoch, 0);
            let _over = taken.send(request.order.clone());
            let job = Job {
                job_id: rest.split(' ').next().unwrap().into(),
                order: request.order,
                state: JobState::Running,
                error: None,
            };
            answer(connection, &job);
        }
        None => watched(connection, pools, &events.lock().unwrap()),
    }
}

fn answer(mut connection: &TcpStream, job: &Job) {
    let body = serde_json::to_string(job).unwrap();
    let head = format!(
        "HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let _gone = write!(connection, "{head}{body}");
}

fn watched(mut connection: &TcpStream, pools: &[Pool], events: &Receiver<WatchEvent>) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    if connection.write_all(head.as_bytes()).is_err() {
        return;
    }
    let snapshot = Snapshot {
        manager_instance: "test".into(),
        version: "0".into(),
        devices: vec![device(1 << 30)],
        pools: pools.to_vec(),
    };
    let mut next = WatchEvent::Snapshot(snapshot);
    loop {
        let data = serde_json::to_string(&next).unwrap();
        if write!(connection, "data: {data}\n\n").is_err() {
            return;
        }
        next = match events.recv_timeout(Duration::from_millis(500)) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => WatchEvent::Heartbeat,
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

fn device(memory_bytes: u64) -> Device {
    Device {
        device_id: "cpu0".into(),
        kind: "cpu".into(),
        name: None,
        uuid: None,
        memory_total_bytes: memory_bytes,
        memory_usable_bytes: memory_bytes,
        health: DeviceHealth::Healthy,
        last_error: None,
    }
}

/// A pool of one replica behind `endpoint`.
pub(crate) fn pool(id: &str, model: &str, endpoint: &str, slots: u32) -> Pool {
    Pool {
        pool_id: id.into(),
        engine: pool_api::Engine::Llamacpp,
        workload: pool_api::Workload::Completion,
        determinism: pool_api::Determinism::Unproved { reason: "it is a test".into() },
        origin: Origin::Managed,
        model_id: model.into(),
        devices: vec!["cpu0".into()],
        spread: 0,
        residency: Residency::Pinned,
        idle_ttl_ms: None,
        draining: false,
        replicas: vec![Replica {
            replica_id: format!("{id}-0"),
            model_id: model.into(),
            model_aliases: vec![format!("{model}-alias")],
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
            memory: Vec::new(),
            load_ms: None,
            load: None,
        }],
    }
}
