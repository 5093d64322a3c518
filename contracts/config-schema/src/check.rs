//! Rules between keys. They look at the tree, so that they hold where other keys are wrong; what
//! one value must look like stands in the schema.

mod pools;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;

use crate::config::{
    DEFAULT_TENANT, MANAGER_PORT, ORCHESTRATOR_PORT, QUEUE_CAPACITY_HOME, QUEUE_CAPACITY_TEAM,
    QUEUE_MODELS,
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
    rules.listens_once("/bind", &document["bind"]);
    rules.listens_once("/pool_manager/bind", &manager["bind"]);
    rules.ports(document);
    rules.keys(&document["keys"]);
    rules.tenants(document);
    rules.queued(document);
    rules.fairness(&document["fairness"]);
    rules.ids("/models", &document["models"]);
    rules.sampler_profiles(&document["sampler_profiles"]);
    let devices = rules.ids("/pool_manager/devices", &manager["devices"]);
    rules.ids("/pool_manager/pools", &manager["pools"]);
    rules.devices(&manager["devices"]);
    rules.pools(manager, devices.as_ref());
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

    /// Nothing can listen twice in one place.
    fn listens_once(&mut self, at: &str, bind: &Value) {
        let mut seen = BTreeSet::new();
        for (index, address) in bind.as_array().into_iter().flatten().enumerate() {
            let Some(address) = address_of(address) else { continue };
            if address.port() != 0 && !seen.insert(address) {
                let found = format!("{address} again");
                self.broken(&format!("{at}/{index}"), found, "each address once");
            }
        }
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
    /// What `v1` means is not the operator's to say.
    fn sampler_profiles(&mut self, profiles: &Value) {
        self.ids("/sampler_profiles", profiles);
        for (index, profile) in profiles.as_array().into_iter().flatten().enumerate() {
            if profile["id"] == "v1" {
                let expected = "another name: what `v1` means never changes";
                self.broken(&format!("/sampler_profiles/{index}/id"), "`v1`", expected);
            }
        }
    }

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
}

fn address_of(value: &Value) -> Option<SocketAddr> {
    value.as_str()?.parse().ok()
}
