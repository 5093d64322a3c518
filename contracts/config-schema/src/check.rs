//! Rules between keys. They look at the tree, so that they hold where other keys are wrong; what
//! one value must look like stands in the schema.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;

use crate::config::{
    BACKOFF_MAX_MS, BACKOFF_MS, DEFAULT_TENANT, MANAGER_PORT, ORCHESTRATOR_PORT,
    QUEUE_CAPACITY_HOME, QUEUE_CAPACITY_TEAM, QUEUE_MODELS,
};
use crate::problem::{Problem, nearest, shown};
use crate::tree::Tree;

/// Adds every broken rule to `problems`. A value of the wrong form breaks none.
pub(crate) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    let document = &tree.value;
    let manager = &document["pool_manager"];
    let mut rules = Rules { tree, problems };
    let keyed = document["keys"].as_array().is_some_and(|it| !it.is_empty());
    let addressed = document["keys"].is_null() || document["keys"].is_array();
    rules.loopback("/bind", &document["bind"], keyed || !addressed, "a key in /keys");
    let tokened = !manager["token_file"].is_null();
    rules.loopback("/pool_manager/bind", &manager["bind"], tokened, "a token_file");
    if document["profile"] == "team" && addressed && !keyed {
        rules.broken("/profile", "\"team\" without a key", "home, or a key in /keys");
    }
    rules.ports(document);
    rules.keys(&document["keys"]);
    rules.tenants(document);
    rules.queued(document);
    rules.fairness(&document["fairness"]);
    rules.ids("/models", &document["models"]);
    let devices = rules.ids("/pool_manager/devices", &manager["devices"]);
    rules.ids("/pool_manager/pools", &manager["pools"]);
    for (index, pool) in manager["pools"].as_array().into_iter().flatten().enumerate() {
        let at = format!("/pool_manager/pools/{index}");
        rules.source(&at, pool);
        rules.restart(&at, &pool["restart"]);
        if let Some(known) = &devices {
            rules.devices(&at, pool, known);
        }
    }
}

struct Rules<'a> {
    tree: &'a Tree,
    problems: &'a mut Vec<Problem>,
}

impl Rules<'_> {
    fn broken(&mut self, at: &str, found: impl Into<String>, expected: impl Into<String>) {
        self.problems.push(Problem {
            pointer: at.into(),
            line: self.tree.line(at),
            found: found.into(),
            expected: expected.into(),
            suggestion: None,
        });
    }

    /// An address that other machines can reach needs a guard.
    fn loopback(&mut self, at: &str, bind: &Value, guarded: bool, guard: &str) {
        for (index, address) in bind.as_array().into_iter().flatten().enumerate() {
            let Some(address) = address_of(address) else { continue };
            if !address.ip().is_loopback() && !guarded {
                self.broken(
                    &format!("{at}/{index}"),
                    format!("{address} (which other machines can reach)"),
                    format!("a loopback address, or {guard}"),
                );
            }
        }
    }

    fn ports(&mut self, document: &Value) {
        let manager = &document["pool_manager"];
        let first = |bind: &Value, default: u16| match &bind[0] {
            Value::Null => Some(default),
            address => address_of(address).map(|it| it.port()),
        };
        let ours = first(&document["bind"], ORCHESTRATOR_PORT);
        let theirs = first(&manager["bind"], MANAGER_PORT);
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours == theirs
            && ours != 0
        {
            let at = if manager["bind"].is_null() { "/bind" } else { "/pool_manager/bind" };
            self.broken(at, format!("port {ours} for both daemons"), "a port for each");
        }
        let range = &manager["port_range"];
        if let (Some(first), Some(last)) = (range[0].as_u64(), range[1].as_u64())
            && last < first
        {
            let found = format!("[{first}, {last}]");
            self.broken("/pool_manager/port_range", found, "[first, last] with first ≤ last");
        }
    }

    /// A caller is known by the name of its key: two keys of one name, or one key under two names,
    /// would be one caller with two tenants.
    fn keys(&mut self, keys: &Value) {
        let mut names = BTreeSet::new();
        let mut digests = BTreeMap::new();
        for (index, key) in keys.as_array().into_iter().flatten().enumerate() {
            let at = format!("/keys/{index}");
            if let Some(name) = key["name"].as_str()
                && !names.insert(name)
            {
                let found = format!("{} again", shown(&key["name"], false));
                self.broken(&format!("{at}/name"), found, "each name once");
            }
            let Some(digest) = key["sha256"].as_str() else { continue };
            if let Some(first) = digests.insert(digest.to_ascii_lowercase(), index) {
                let found = format!("the digest of /keys/{first} again");
                self.broken(&format!("{at}/sha256"), found, "each key once");
            }
        }
    }

    /// A tenant's limit of waiting tasks takes effect before the queue is full.
    fn queued(&mut self, document: &Value) {
        let capacity = match &document["queue"]["capacity"] {
            Value::Null if document["profile"] == "team" => Some(u64::from(QUEUE_CAPACITY_TEAM)),
            Value::Null => Some(u64::from(QUEUE_CAPACITY_HOME)),
            value => value.as_u64(),
        };
        let Some(most) = capacity.and_then(|it| it.checked_mul(QUEUE_MODELS)) else { return };
        let tenants = document["tenants"].as_array();
        for (index, tenant) in tenants.into_iter().flatten().enumerate() {
            if let Some(queued) = tenant["queued"].as_u64()
                && most < queued
            {
                self.broken(
                    &format!("/tenants/{index}/queued"),
                    format!("{queued}, which the queue never reaches"),
                    format!("at most {most}, four times the queue's capacity, or none"),
                );
            }
        }
    }

    /// Tenants have names of their own, and keys name tenants that there are.
    fn tenants(&mut self, document: &Value) {
        let tenants = document["tenants"].as_array().map_or(&[][..], Vec::as_slice);
        let mut names = BTreeSet::from([DEFAULT_TENANT]);
        let mut seen = BTreeSet::new();
        for (index, tenant) in tenants.iter().enumerate() {
            let at = format!("/tenants/{index}");
            if let Some(name) = tenant["name"].as_str() {
                names.insert(name);
                if !seen.insert(name) {
                    let found = format!("{} again", shown(&tenant["name"], false));
                    self.broken(&format!("{at}/name"), found, "each name once");
                }
            }
            if !tenant["burst"].is_null() && tenant["requests_per_s"].is_null() {
                let found = "`burst` without `requests_per_s`";
                self.broken(&format!("{at}/burst"), found, "a rate beside it, or neither");
            }
        }
        for (index, key) in document["keys"].as_array().into_iter().flatten().enumerate() {
            let Some(name) = key["tenant"].as_str() else { continue };
            if names.contains(name) {
                continue;
            }
            let at = format!("/keys/{index}/tenant");
            let known: Vec<&str> = names.iter().copied().collect();
            self.problems.push(Problem {
                line: self.tree.line(&at),
                pointer: at,
                found: shown(&key["tenant"], false),
                expected: format!("a name from `tenants`: {}", known.join(", ")),
                suggestion: nearest(name, names.iter().copied()),
            });
        }
    }

    /// A generated token costs more work than one of the prompt, and never less here: the bound of
    /// the token counters rests on it.
    fn fairness(&mut self, fairness: &Value) {
        let given = |key: &str, default: u64| match &fairness[key] {
            Value::Null => Some(default),
            value => value.as_u64(),
        };
        if let (Some(input), Some(output)) =
            (given("input_token_cost", 1), given("output_token_cost", 2))
            && output < input
        {
            self.broken(
                "/fairness",
                format!("output_token_cost {output} below input_token_cost {input}"),
                "input_token_cost ≤ output_token_cost",
            );
        }
    }

    /// The ids of a list, none of which may stand twice; `None` if not all can be read.
    fn ids<'v>(&mut self, at: &str, list: &'v Value) -> Option<BTreeSet<&'v str>> {
        let mut seen = BTreeSet::new();
        let mut all_read = list.is_null() || list.is_array();
        for (index, item) in list.as_array().into_iter().flatten().enumerate() {
            match item["id"].as_str() {
                Some(id) if !seen.insert(id) => self.broken(
                    &format!("{at}/{index}/id"),
                    format!("{} again", shown(&item["id"], false)),
                    "each id once",
                ),
                Some(_) => {}
                None => all_read = false,
            }
        }
        all_read.then_some(seen)
    }

    /// A pool either runs its engine or uses one that runs elsewhere.
    fn source(&mut self, at: &str, pool: &Value) {
        if !pool.is_object() {
            return;
        }
        if pool["external"].is_null() {
            if pool["model"].is_object() && pool["model"]["path"].is_null() {
                self.broken(
                    &format!("{at}/model/path"),
                    "nothing",
                    "a model file, which a managed engine needs (or `external: {url: …}`)",
                );
            }
            return;
        }
        for key in ["bin", "flags", "env"] {
            let is_empty = match &pool[key] {
                Value::Null => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(entries) => entries.is_empty(),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
            };
            if !is_empty {
                self.broken(
                    &format!("{at}/{key}"),
                    format!("`{key}` beside `external`"),
                    "neither `bin`, `flags` nor `env`: somebody else runs that server",
                );
            }
        }
        if let Some(replicas) = pool["replicas"].as_u64()
            && replicas > 1
        {
            let expected = "1: an external server is one replica";
            self.broken(&format!("{at}/replicas"), replicas.to_string(), expected);
        }
    }

    fn restart(&mut self, at: &str, restart: &Value) {
        let given = |key: &str, default: u64| match &restart[key] {
            Value::Null => Some(default),
            value => value.as_u64(),
        };
        if let (Some(first), Some(longest)) =
            (given("backoff_ms", BACKOFF_MS), given("backoff_max_ms", BACKOFF_MAX_MS))
            && longest < first
        {
            self.broken(
                &format!("{at}/restart"),
                format!("backoff_ms {first} above backoff_max_ms {longest}"),
                "backoff_ms ≤ backoff_max_ms",
            );
        }
    }

    /// A pool names devices that there are, and names some where there is a choice.
    fn devices(&mut self, at: &str, pool: &Value, declared: &BTreeSet<&str>) {
        let fallback = BTreeSet::from(["cpu0"]);
        let known = if declared.is_empty() { &fallback } else { declared };
        let list = || known.iter().copied().collect::<Vec<_>>().join(", ");
        if pool.is_object() && pool["devices"].is_null() && known.len() > 1 {
            let expected = format!("some of {}", list());
            self.broken(&format!("{at}/devices"), "nothing", expected);
        }
        for (index, device) in pool["devices"].as_array().into_iter().flatten().enumerate() {
            let Some(name) = device.as_str() else { continue };
            if !known.contains(name) {
                let at = format!("{at}/devices/{index}");
                self.problems.push(Problem {
                    line: self.tree.line(&at),
                    pointer: at,
                    found: shown(device, false),
                    expected: format!("a declared device: {}", list()),
                    suggestion: nearest(name, known.iter().copied()),
                });
            }
        }
    }
}

fn address_of(value: &Value) -> Option<SocketAddr> {
    value.as_str()?.parse().ok()
}
