//! The document's rules, seen from outside: text in, pointers out.

use crate::{Bind, EngineSource, FullPolicy, Profile, parse};

fn pointers(text: &str) -> Vec<String> {
    let error = parse(text).expect_err("the document is wrong");
    error.problems.into_iter().map(|it| it.pointer).collect()
}

#[test]
fn an_empty_document_is_the_home_profile() {
    let config = parse("# nothing\n").unwrap();
    assert_eq!(config.profile, Profile::Home);
    assert_eq!(config.bind, Bind::Loopback { port: 8420 });
    assert_eq!(config.queue.capacity.get(), 256);
    assert_eq!(config.queue.full_policy, FullPolicy::Reject);
    assert_eq!(config.pool_managers[0].url, "http://127.0.0.1:8421");
}

#[test]
fn a_section_of_comments_only_is_all_defaults() {
    assert_eq!(parse("queue:\n  # capacity: 1\n").unwrap(), parse("").unwrap());
}

#[test]
fn the_profile_chooses_the_defaults() {
    let team = parse("profile: team").unwrap();
    assert_eq!(team.queue.capacity.get(), 4_096);
    assert_eq!(team.watchdog.wall_ms, 600_000);
    assert_eq!(parse("").unwrap().watchdog.wall_ms, 1_800_000);
}

// OC-CONFIG-6001
#[test]
fn an_unknown_key_is_refused_where_it_stands() {
    assert_eq!(pointers("queue: {capacty: 3}"), ["/queue/capacty"]);
}

#[test]
fn a_wrong_type_is_refused_where_it_stands() {
    assert_eq!(pointers("queue: {capacity: many}"), ["/queue/capacity"]);
}

// OC-CTRL-2081
#[test]
fn a_reachable_address_needs_a_key() {
    assert_eq!(pointers("bind: ['0.0.0.0:8420']"), ["/bind/0"]);
    assert_eq!(pointers("pool_manager: {bind: ['192.0.2.1:8421']}"), ["/pool_manager/bind/0"]);
    let digest = "0123456789abcdef".repeat(4);
    let guarded = format!("bind: ['0.0.0.0:8420']\nkeys: [{{name: me, sha256: {digest}}}]");
    assert_eq!(parse(&guarded).unwrap().keys[0].sha256[..2], [0x01, 0x23]);
}

#[test]
fn every_failed_check_is_reported_at_once() {
    let text = "
queue: {capacity: 0}
keys: [{name: me, sha256: abc}]
pool_manager:
  pools:
    - {id: 'a b', engine: llamacpp, model: {id: m}, devices: [gpu7]}
";
    assert_eq!(
        pointers(text),
        [
            "/keys/0/sha256",
            "/queue/capacity",
            "/pool_manager/pools/0/id",
            "/pool_manager/pools/0/model/path",
            "/pool_manager/pools/0/devices/0",
        ]
    );
}

#[test]
fn an_external_engine_takes_no_process_settings() {
    let text = "
pool_manager:
  pools:
    - {id: a, engine: llamacpp, model: {id: m}, external: {url: 'http://127.0.0.1:1'}, bin: x}
";
    assert_eq!(pointers(text), ["/pool_manager/pools/0"]);
    let config = parse(&text.replace(", bin: x", "")).unwrap();
    assert!(matches!(config.pool_manager.pools[0].source, EngineSource::External { .. }));
}
