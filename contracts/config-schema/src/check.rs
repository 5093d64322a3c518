//! Checks that one field's type cannot express. All of them run; none stops at the first.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::config::{MANAGER_PORT, ORCHESTRATOR_PORT};
use crate::document::{Document, ManagerDoc, PoolDoc};
use crate::parse::Problem;

pub(crate) fn problems(doc: &Document) -> Vec<Problem> {
    let mut found = Findings::default();
    if let Some(addresses) = &doc.bind {
        found.bind("/bind", addresses, !doc.keys.is_empty(), "a key in /keys");
    }
    for (index, key) in doc.keys.iter().enumerate() {
        let is_digest =
            key.sha256.len() == 64 && key.sha256.bytes().all(|it| it.is_ascii_hexdigit());
        found.check(is_digest, format!("/keys/{index}/sha256"), || {
            "is not a SHA-256 digest: expected 64 hex digits (`llorch key new` makes one)".into()
        });
    }
    for (index, manager) in doc.pool_managers.iter().flatten().enumerate() {
        found.url(format!("/pool_managers/{index}/url"), &manager.url);
    }
    found.at_least("/queue/capacity", doc.queue.capacity.map(u64::from), 1);
    found.at_least("/queue/unready_wait_ms", doc.queue.unready_wait_ms, 1);
    for (name, class) in [("interactive", &doc.classes.interactive), ("batch", &doc.classes.batch)]
    {
        found.at_least(&format!("/classes/{name}/weight"), class.weight.map(u64::from), 1);
        found.at_least(&format!("/classes/{name}/max_wait_ms"), class.max_wait_ms, 1);
    }
    found.at_least("/watchdog/wall_ms", doc.watchdog.wall_ms, 1);
    found.at_least("/watchdog/idle_ms", doc.watchdog.idle_ms, 1);
    found.at_least("/watchdog/first_token_ms", doc.watchdog.first_token_ms, 1);
    found.at_least("/limits/body_bytes", doc.limits.body_bytes, 1_024);
    // hyper's smallest read buffer.
    found.at_least("/limits/header_bytes", doc.limits.header_bytes.map(u64::from), 8_192);
    found.at_least("/limits/header_timeout_ms", doc.limits.header_timeout_ms, 1);
    found.at_least("/limits/body_timeout_ms", doc.limits.body_timeout_ms, 1);
    found.at_least("/limits/connections", doc.limits.connections.map(u64::from), 1);
    found.at_least("/stream/heartbeat_ms", doc.stream.heartbeat_ms, 1);
    found.at_least("/stream/reader_lag_bytes", doc.stream.reader_lag_bytes, 1_024);
    found.at_least("/stream/write_stall_ms", doc.stream.write_stall_ms, 1);
    if let Some(manager) = &doc.pool_manager {
        manager_problems(doc, manager, &mut found);
    }
    found.0
}

fn manager_problems(doc: &Document, manager: &ManagerDoc, found: &mut Findings) {
    if let Some(addresses) = &manager.bind {
        found.bind("/pool_manager/bind", addresses, manager.token_file.is_some(), "a token_file");
    }
    let ours =
        doc.bind.as_ref().and_then(|it| it.first()).map_or(ORCHESTRATOR_PORT, SocketAddr::port);
    let theirs =
        manager.bind.as_ref().and_then(|it| it.first()).map_or(MANAGER_PORT, SocketAddr::port);
    found.check(ours != theirs || ours == 0, "/pool_manager/bind".into(), || {
        format!("port {theirs} is also orchestratord's: the two daemons need different ports")
    });
    if let Some((first, last)) = manager.port_range {
        found.check(first <= last && first > 0, "/pool_manager/port_range".into(), || {
            format!("[{first}, {last}] is not a range: expected first ≤ last, both above 0")
        });
    }
    let mut devices = BTreeSet::new();
    for (index, device) in manager.devices.iter().enumerate() {
        found.id(format!("/pool_manager/devices/{index}/id"), &device.id, &mut devices);
    }
    if manager.devices.is_empty() {
        devices.insert("cpu0");
    }
    let mut pools = BTreeSet::new();
    for (index, pool) in manager.pools.iter().enumerate() {
        let at = format!("/pool_manager/pools/{index}");
        found.id(format!("{at}/id"), &pool.id, &mut pools);
        pool_problems(&at, pool, &devices, found);
    }
}

fn pool_problems(at: &str, pool: &PoolDoc, devices: &BTreeSet<&str>, found: &mut Findings) {
    found.check(!pool.model.id.is_empty(), format!("{at}/model/id"), || "is empty".into());
    found.at_least(&format!("{at}/slots"), pool.slots.map(u64::from), 1);
    found.at_least(&format!("{at}/replicas"), pool.replicas.map(u64::from), 1);
    found.at_least(
        &format!("{at}/model/context_tokens"),
        pool.model.context_tokens.map(u64::from),
        1,
    );
    match &pool.external {
        Some(external) => {
            found.url(format!("{at}/external/url"), &external.url);
            let managed = pool.bin.is_some() || !pool.flags.is_empty() || !pool.env.is_empty();
            found.check(!managed, at.into(), || {
                "has `external` beside `bin`, `flags` or `env`: a server that others run takes none of these".into()
            });
            found.check(pool.replicas.unwrap_or(1) == 1, format!("{at}/replicas"), || {
                "an external pool is one server: expected 1".into()
            });
        }
        None => found.check(pool.model.path.is_some(), format!("{at}/model/path"), || {
            "is missing: a managed engine needs a model file (or give `external: {url: …}`)".into()
        }),
    }
    for (index, device) in pool.devices.iter().flatten().enumerate() {
        found.check(devices.contains(device.as_str()), format!("{at}/devices/{index}"), || {
            let known = devices.iter().copied().collect::<Vec<_>>().join(", ");
            format!("`{device}` is not declared: expected one of {known}")
        });
    }
    let named = pool.devices.as_ref().map_or(devices.len(), Vec::len);
    found.check(pool.devices.is_none() || named > 0, format!("{at}/devices"), || {
        "is empty: expected at least one device id".into()
    });
    found.check(pool.devices.is_some() || devices.len() == 1, format!("{at}/devices"), || {
        "is missing: there are several devices to choose from".into()
    });
}

#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn check(&mut self, holds: bool, pointer: String, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Problem { pointer, message: message() });
        }
    }

    fn at_least(&mut self, pointer: &str, value: Option<u64>, least: u64) {
        let found = value.unwrap_or(least);
        self.check(found >= least, pointer.into(), || {
            format!("{found} is too small: expected at least {least}")
        });
    }

    fn url(&mut self, pointer: String, url: &str) {
        let rest = url.strip_prefix("http://").unwrap_or_default().trim_end_matches('/');
        self.check(!rest.is_empty() && !rest.contains('/'), pointer, || {
            format!("`{url}` is not a base URL: expected http://host:port")
        });
    }

    fn bind(&mut self, pointer: &str, addresses: &[SocketAddr], guarded: bool, guard: &str) {
        self.check(!addresses.is_empty(), pointer.into(), || {
            "is empty: expected at least one address".into()
        });
        for (index, address) in addresses.iter().enumerate() {
            self.check(address.ip().is_loopback() || guarded, format!("{pointer}/{index}"), || {
                format!("{address} can be reached from other machines: expected a loopback address, or {guard}")
            });
        }
    }

    fn id<'a>(&mut self, pointer: String, id: &'a str, seen: &mut BTreeSet<&'a str>) {
        let valid = !id.is_empty()
            && id.len() <= 64
            && id.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it));
        self.check(valid, pointer.clone(), || {
            format!("`{id}` is not an id: expected 1 to 64 of letters, digits, `.`, `_`, `-`")
        });
        self.check(seen.insert(id), pointer, || format!("`{id}` is used twice"));
    }
}
