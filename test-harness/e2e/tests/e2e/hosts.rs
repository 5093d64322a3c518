//! Two hosts, each with its manager at an address of its own and a token, behind wires that can be
//! cut.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::stack::{Stack, program, wait_until};

const TOKEN: &str = "a-token-of-more-than-22-characters";

/// Passes bytes on, in both directions, while it is not cut. A cut wire loses nothing and carries
/// nothing, as when a cable is out.
struct Wire {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Wire {
    fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&cut);
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let Ok(callee) = TcpStream::connect(&address) else { continue };
                let ends = [(&caller, &callee), (&callee, &caller)];
                for (from, to) in ends.map(|(a, b)| (a.try_clone(), b.try_clone())) {
                    let cut = Arc::clone(&shared);
                    std::thread::spawn(move || pass(from.ok()?, to.ok()?, &cut));
                }
            }
        });
        Self { port, cut }
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) -> Option<()> {
    from.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    let mut chunk = [0; 4_096];
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) => return None,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        };
        while cut.load(Ordering::SeqCst) {
            crate::stack::pause(Duration::from_millis(20));
        }
        to.write_all(&chunk[..length]).ok()?;
    }
}

/// A pool manager with one engine of one slot; dies with the test.
struct Host {
    manager: Child,
    wire: Wire,
}

impl Host {
    fn start(folder: &Path, name: &str, address: &str) -> Self {
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let document = json!({
            "drain_ms": 0,
            "pool_manager": {
                "bind": [format!("{address}:{port}")],
                "engine_address": address,
                "allowed_hosts": ["127.0.0.1"],
                "token_file": folder.join("token"),
                "data_dir": folder.join(name),
                "pools": [{
                    "id": name,
                    "engine": "llamacpp",
                    "bin": engine_sim::binary_path().unwrap(),
                    "slots": 1,
                    "model": {"id": "m", "path": folder.join("model.gguf"), "context_tokens": 512},
                }],
            },
        });
        let config = folder.join(format!("{name}.json"));
        std::fs::write(&config, document.to_string()).unwrap();
        let log = File::create(folder.join(format!("{name}.log"))).unwrap();
        let mut command = Command::new(program("pool-managerd"));
        command.arg("--config").arg(config).stdin(Stdio::null()).stderr(log);
        let manager = command.spawn().unwrap();
        Self { manager, wire: Wire::to(format!("{address}:{port}")) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _gone = self.manager.kill();
        let _reaped = self.manager.wait();
    }
}

fn pool(stack: &Stack, name: &str) -> Value {
    let list = stack.get("/v1/pools").unwrap_or_default();
    let pools = list["pools"].as_array().cloned().unwrap_or_default();
    pools.iter().find(|it| it["pool_id"] == name).cloned().unwrap_or_default()
}

fn serves(stack: &Stack, name: &str) -> bool {
    let pool = pool(stack, name);
    pool["reachable"] == true && pool["replicas"][0]["state"] == "ready"
}

// OC-POOL-3044, OC-CTRL-2040
#[test]
fn a_host_that_cannot_be_reached_takes_no_new_work_and_heals_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let empty_gguf = [&b"GGUF\x03\0\0\0"[..], &[0; 16]].concat();
    std::fs::write(folder.path().join("model.gguf"), empty_gguf).unwrap();
    let hosts = [("one", "127.0.0.2"), ("two", "127.0.0.3")]
        .map(|(name, address)| Host::start(folder.path(), name, address));
    let follow = |host: &Host, token: &str| {
        let url = format!("http://127.0.0.1:{}", host.wire.port);
        json!({"url": url, "token_file": folder.path().join(token)})
    };
    std::fs::write(folder.path().join("wrong"), "another-token-of-28-characters").unwrap();
    let managers = [follow(&hosts[0], "token"), follow(&hosts[1], "token")];
    let stack = Stack::following(&json!(managers));
    wait_until("both hosts serve", || serves(&stack, "one") && serves(&stack, "two"));
    let slow = json!({"prompt": "[[sim:decode_us=40000]]", "max_tokens": 250,
        "placement": {"mode": "pin", "pool_ids": ["one"]}});
    let mut running = stack.open(&slow);
    assert_eq!(running.until("started").data["pool_id"], "one");
    hosts[0].wire.cut(true);
    wait_until("the silence is noticed", || !serves(&stack, "one"));
    assert_eq!(pool(&stack, "one")["reachable"], false);
    // New work goes elsewhere; what runs goes on, for its tokens do not come through the manager.
    for _ in 0..3 {
        let mut other = stack.open(&json!({"prompt": "a", "max_tokens": 2}));
        assert_eq!(other.until("started").data["pool_id"], "two");
        other.until("end");
    }
    hosts[0].wire.cut(false);
    wait_until("it heals", || serves(&stack, "one"));
    let end = running.until("end");
    assert_eq!(
        (&end.data["tokens_out"], &end.data["finish_reason"]),
        (&json!(250), &json!("length"))
    );
    assert_eq!(pool(&stack, "one")["replicas"][0]["restarts"], 0);
    let mut again = stack.open(&json!({"prompt": "a", "max_tokens": 2,
        "placement": {"mode": "pin", "pool_ids": ["one"]}}));
    again.until("end");

    let stranger = Stack::following(&json!([follow(&hosts[0], "wrong")]));
    wait_until("it runs", || stranger.get("/readyz").is_some());
    wait_until("it is refused", || stranger.log("orchestratord").0.contains("refuses our token"));
    assert_eq!(stranger.get("/v1/pools").unwrap()["pools"], json!([]));
}
