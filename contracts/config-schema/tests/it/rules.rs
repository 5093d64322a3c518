//! Rules between keys: one test per rule.

use config_schema::{EngineSource, parse};
use expect_test::{Expect, expect};

use crate::told;

fn check(document: &str, expected: &Expect) {
    expected.assert_eq(&told(document));
}

const KEYS: &str = "keys: [{name: me, sha256: \
                    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}]";

// OC-CONFIG-6003
#[test]
fn the_two_daemons_need_different_ports() {
    check(
        "bind: ['127.0.0.1:1']\npool_manager: {bind: ['127.0.0.1:1']}",
        &expect![[r#"
        line 2: /pool_manager/bind: found port 1 for both daemons, expected a port for each
    "#]],
    );
    check(
        "bind: ['127.0.0.1:8421']",
        &expect![[r#"
        line 1: /bind: found port 8421 for both daemons, expected a port for each
    "#]],
    );
    check(
        "pool_manager: {bind: ['127.0.0.1:8420']}",
        &expect![[r#"
        line 1: /pool_manager/bind: found port 8420 for both daemons, expected a port for each
    "#]],
    );
    check("bind: ['127.0.0.1:0']\npool_manager: {bind: ['127.0.0.1:0']}", &expect![[""]]);
}

// OC-CONFIG-6003
#[test]
fn a_range_does_not_end_before_it_starts() {
    check(
        "pool_manager: {port_range: [2, 1]}",
        &expect![[r#"
        line 1: /pool_manager/port_range: found [2, 1], expected [first, last] with first ≤ last
    "#]],
    );
    check("pool_manager: {port_range: [2, 2]}", &expect![[""]]);
}

fn pools(pools: &str) -> String {
    format!("pool_manager:\n  pools:\n{pools}")
}

// OC-CONFIG-6003
#[test]
fn ids_are_unique() {
    check(
        "pool_manager: {devices: [{id: a, kind: cpu}, {id: a, kind: cpu}]}",
        &expect![[r#"
        line 1: /pool_manager/devices/1/id: found "a" again, expected each id once
    "#]],
    );
    let twice = "    - {id: a, engine: llamacpp, model: {id: m, path: x}}\n".repeat(2);
    check(
        &pools(&twice),
        &expect![[r#"
        line 4: /pool_manager/pools/1/id: found "a" again, expected each id once
    "#]],
    );
}

// OC-CONFIG-6003
#[test]
fn a_pool_names_declared_devices_and_some_where_there_is_a_choice() {
    let pool = "    - {id: a, engine: llamacpp, model: {id: m, path: x}, devices: [cpu1]}\n";
    check(
        &pools(pool),
        &expect![[r#"
        line 3: /pool_manager/pools/0/devices/0: found "cpu1", expected a declared device: cpu0; did you mean `cpu0`?
    "#]],
    );
    let devices = "  devices: [{id: cpu1, kind: cpu}, {id: cpu2, kind: cpu}]\n";
    check(&(pools(pool) + devices), &expect![[""]]);
    check(
        &(pools(&pool.replace(", devices: [cpu1]", "")) + devices),
        &expect![[r#"
        line 3: /pool_manager/pools/0/devices: found nothing, expected some of cpu1, cpu2
    "#]],
    );
    check(
        &pools(&pool.replace("cpu1", "")),
        &expect![[r#"
        line 3: /pool_manager/pools/0/devices: found a list of 0, expected a list of at least 1
    "#]],
    );
}

// OC-CONFIG-6003
#[test]
fn a_managed_engine_needs_a_model_file() {
    check(
        &pools("    - {id: a, engine: llamacpp, model: {id: m}}\n"),
        &expect![[r#"
        line 3: /pool_manager/pools/0/model/path: found nothing, expected a model file, which a managed engine needs (or `external: {url: …}`)
    "#]],
    );
}

// OC-CONFIG-6003
#[test]
fn an_external_engine_takes_no_process_settings() {
    let external = "    - id: a
      engine: llamacpp
      model: {id: m}
      external: {url: 'http://127.0.0.1:1'}
";
    let more = "      bin: x\n      flags: [-v]\n      env: {A: b}\n      replicas: 2\n";
    check(
        &pools(&format!("{external}{more}")),
        &expect![[r#"
            line 7: /pool_manager/pools/0/bin: found `bin` beside `external`, expected neither `bin`, `flags`, `env` nor `user`: somebody else runs that server
            line 8: /pool_manager/pools/0/flags: found `flags` beside `external`, expected neither `bin`, `flags`, `env` nor `user`: somebody else runs that server
            line 9: /pool_manager/pools/0/env: found `env` beside `external`, expected neither `bin`, `flags`, `env` nor `user`: somebody else runs that server
            line 10: /pool_manager/pools/0/replicas: found 2, expected 1: an external server is one replica
        "#]],
    );
    let config = parse(&pools(external)).unwrap();
    assert!(matches!(config.pool_manager.pools[0].source, EngineSource::External { .. }));
}

// OC-CONFIG-6003
#[test]
fn the_first_wait_is_not_above_the_longest() {
    let pool =
        "    - {id: a, engine: llamacpp, model: {id: m, path: x}, restart: {backoff_ms: 40000}}\n";
    check(
        &pools(pool),
        &expect![[r#"
        line 3: /pool_manager/pools/0/restart: found backoff_ms 40000 above backoff_max_ms 30000, expected backoff_ms ≤ backoff_max_ms
    "#]],
    );
    check(&pools(&pool.replace("40000", "40000, backoff_max_ms: 40000")), &expect![[""]]);
}

// OC-CONFIG-6003
#[test]
fn rules_hold_where_other_keys_are_wrong_and_blame_no_key_that_is() {
    check(
        "queue: {capacity: x}\nbind: ['0.0.0.0:1']\nkeys: [{name: me}]",
        &expect![[r#"
        line 1: /queue/capacity: found "x", expected a whole number from 1 to 4294967295
        line 3: /keys/0/sha256: found nothing, expected a SHA-256 digest of 64 hex digits (`llorch key new` makes one)
    "#]],
    );
    check(
        "bind: ['0.0.0.0:1']\nkeys: 5",
        &expect![[r#"
        line 2: /keys: found a value that is not a text, expected a list
    "#]],
    );
    check(
        "pool_manager:\n  devices: [{kind: cpu}]\n  pools: [{id: a, devices: [gpu7]}, 5]",
        &expect![[r#"
            line 2: /pool_manager/devices/0/id: found nothing, expected an id: 1 to 64 of letters, digits, `.`, `_`, `-`
            line 3: /pool_manager/pools/0/engine: found nothing, expected one of llamacpp, vllm, tgi, triton
            line 3: /pool_manager/pools/0/model: found nothing, expected a section with aliases, context_tokens, id, memory_mib, path, workload
            line 3: /pool_manager/pools/1: found 5, expected a section with bin, devices, engine, env, external, flags, id, idle_ttl_ms, model, replicas, residency, restart, slots, split, start_timeout_ms, stop_grace_ms, triton, user
        "#]],
    );
}

// OC-CONFIG-6030 OC-CTRL-2081
#[test]
fn an_address_of_orchestratord_that_others_reach_needs_a_key() {
    check(
        "bind: ['127.0.0.1:1', '0.0.0.0:1', '[::]:1', '192.0.2.1:1']",
        &expect![[r#"
        line 1: /bind/1: found 0.0.0.0:1 (which other machines can reach), expected a loopback address, or a key in /keys
        line 1: /bind/2: found [::]:1 (which other machines can reach), expected a loopback address, or a key in /keys
        line 1: /bind/3: found 192.0.2.1:1 (which other machines can reach), expected a loopback address, or a key in /keys
    "#]],
    );
    check(
        "bind: ['0.0.0.0:1']\nkeys: []",
        &expect![[r#"
        line 1: /bind/0: found 0.0.0.0:1 (which other machines can reach), expected a loopback address, or a key in /keys
    "#]],
    );
    check(
        "bind: []",
        &expect![[r#"
        line 1: /bind: found a list of 0, expected a list of at least 1
    "#]],
    );
    check(&format!("bind: ['0.0.0.0:1', '[::]:1']\n{KEYS}"), &expect![[""]]);
    check("bind: ['127.0.0.1:1', '[::1]:1', '127.9.9.9:2']", &expect![[""]]);
}

// OC-CONFIG-6031 OC-CTRL-2081
#[test]
fn an_address_of_pool_managerd_that_others_reach_needs_a_token() {
    check(
        "pool_manager: {bind: ['192.0.2.1:8421']}",
        &expect![[r#"
        line 1: /pool_manager/bind/0: found 192.0.2.1:8421 (which other machines can reach), expected a loopback address, or a token_file
    "#]],
    );
    check(
        &format!("pool_manager: {{bind: ['192.0.2.1:8421']}}\n{KEYS}"),
        &expect![[r#"
        line 1: /pool_manager/bind/0: found 192.0.2.1:8421 (which other machines can reach), expected a loopback address, or a token_file
    "#]],
    );
    check("pool_manager: {bind: ['192.0.2.1:8421'], token_file: /t}", &expect![[""]]);
}

// OC-CONFIG-6032
#[test]
fn a_key_is_a_name_and_a_digest() {
    check(
        "keys: [{name: me, sha256: abc}, {name: ''}, {sha256: 5}, me]",
        &expect![[r#"
            line 1: /keys/0/sha256: found a text of 3 characters, expected a SHA-256 digest of 64 hex digits (`llorch key new` makes one)
            line 1: /keys/1/name: found a text of 0 characters, expected a text that is not empty
            line 1: /keys/1/sha256: found nothing, expected a SHA-256 digest of 64 hex digits (`llorch key new` makes one)
            line 1: /keys/2/name: found nothing, expected a text that is not empty
            line 1: /keys/2/sha256: found a value that is not a text, expected a SHA-256 digest of 64 hex digits (`llorch key new` makes one)
            line 1: /keys/3: found a text of 2 characters, expected a section with name, sha256, tenant
        "#]],
    );
    let config = parse(&KEYS.replace("abcdef", "ABCDEF")).unwrap();
    assert_eq!(config.keys[0].name, "me");
    assert_eq!(config.keys[0].sha256[..4], [0x01, 0x23, 0x45, 0x67]);
    assert_eq!(config.keys[0].sha256[28..], [0x89, 0xab, 0xcd, 0xef]);
}

// OC-CONFIG-6033
#[test]
fn a_team_requires_keys_even_on_loopback() {
    check(
        "profile: team",
        &expect![[r#"
        line 1: /profile: found "team" without a key, expected home, or a key in /keys
    "#]],
    );
    check(
        "profile: team\nkeys: []",
        &expect![[r#"
        line 1: /profile: found "team" without a key, expected home, or a key in /keys
    "#]],
    );
    check(&format!("profile: team\n{KEYS}"), &expect![[""]]);
    check("profile: home", &expect![[""]]);
}

// OC-CONFIG-6003, ORCH-3075
#[test]
fn a_key_belongs_to_a_tenant_that_there_is() {
    let keys = |tenant: &str| KEYS.replace("{name: me,", &format!("{{name: me, tenant: {tenant},"));
    let document = |tenant: &str| format!("tenants: [{{name: research}}]\n{}", keys(tenant));
    check(
        &document("reserch"),
        &expect![[r#"
        line 2: /keys/0/tenant: found "reserch", expected a name from `tenants`: default, research; did you mean `research`?
    "#]],
    );
    check(&document("research"), &expect![[""]]);
    check(&document("default"), &expect![[""]]);
    check(
        "tenants: [{name: a}, {name: a}]",
        &expect![[r#"
        line 1: /tenants/1/name: found "a" again, expected each name once
    "#]],
    );
}

// OC-CONFIG-6003, ORCH-3076
#[test]
fn shares_and_limits_are_positive_and_do_not_contradict_each_other() {
    check(
        "
tenants:
  - {name: a, weight: 0}
  - {name: b, weight: -2}
  - {name: c, weight: 1e9}
  - {name: d, weight: heavy}
  - {name: e, queued: 0, concurrent: 0, requests_per_s: 0, tokens_per_min: 0}
  - {name: f, burst: 5}
  - {name: g, on_exceed: wait}
",
        &expect![[r#"
            line 3: /tenants/0/weight: found 0, expected a number from 0.001 to 1000
            line 4: /tenants/1/weight: found -2, expected a number from 0.001 to 1000
            line 5: /tenants/2/weight: found 1000000000.0, expected a number from 0.001 to 1000
            line 6: /tenants/3/weight: found "heavy", expected a number from 0.001 to 1000
            line 7: /tenants/4/concurrent: found 0, expected a whole number from 1 to 4294967295
            line 7: /tenants/4/queued: found 0, expected a whole number from 1 to 4294967295
            line 7: /tenants/4/requests_per_s: found 0, expected a whole number from 1 to 4294967295
            line 7: /tenants/4/tokens_per_min: found 0, expected a whole number from 1 to 1099511627776
            line 8: /tenants/5/burst: found `burst` without `requests_per_s`, expected a rate beside it, or neither
            line 9: /tenants/6/on_exceed: found "wait", expected one of reject, hold
        "#]],
    );
    check(
        "fairness: {output_token_cost: 1, input_token_cost: 3}",
        &expect![[r#"
        line 1: /fairness: found output_token_cost 1 below input_token_cost 3, expected input_token_cost ≤ output_token_cost
    "#]],
    );
    check(
        "fairness: {input_token_cost: 3}",
        &expect![[r#"
        line 1: /fairness: found output_token_cost 2 below input_token_cost 3, expected input_token_cost ≤ output_token_cost
    "#]],
    );
    check(
        "models: [{id: a, cost: 0}, {id: a, cost: 2}]",
        &expect![[r#"
        line 1: /models/0/cost: found 0, expected a number from 0.001 to 1000
        line 1: /models/1/id: found "a" again, expected each id once
    "#]],
    );
    check(
        "preemption: {mode: hard, max_per_min: 0}",
        &expect![[r#"
            line 1: /preemption/max_per_min: found 0, expected a whole number from 1 to 600
        "#]],
    );
    check(
        "deadlines: {on_time_percent_min: 101}",
        &expect![[r#"
        line 1: /deadlines/on_time_percent_min: found 101, expected a whole number from 0 to 100
    "#]],
    );
}

// ORCH-3075
#[test]
fn weights_keep_three_decimals_and_default_is_always_there() {
    let text = "tenants: [{name: a, weight: 2.5}, {name: b, requests_per_s: 4}]";
    let tenants = parse(text).unwrap().tenants;
    let told: Vec<_> = tenants.iter().map(|it| (it.name.as_str(), it.weight_milli.get())).collect();
    assert_eq!(told, [("default", 1_000), ("a", 2_500), ("b", 1_000)]);
    assert_eq!(tenants[2].requests, Some((4, 4)));
    let own = parse("tenants: [{name: a}, {name: default, weight: 0.5}]").unwrap().tenants;
    assert_eq!((own[0].name.as_str(), own[0].weight_milli.get(), own.len()), ("default", 500, 2));
}

// OC-CONFIG-6003, ORCH-3076
#[test]
fn keys_are_told_apart_by_name_and_by_digest() {
    let digest = |it: &str| it.repeat(64);
    let key = |name: &str, tenant: &str, digit: &str| {
        format!("  - {{name: {name}, tenant: {tenant}, sha256: '{}'}}\n", digest(digit))
    };
    let document = |second: &str| {
        let first = key("ci", "a", "a");
        format!("tenants: [{{name: a}}, {{name: b}}]\nkeys:\n{first}{second}")
    };
    check(&document(&key("other", "b", "b")), &expect![[""]]);
    check(
        &document(&key("ci", "b", "b")),
        &expect![[r#"
        line 4: /keys/1/name: found "ci" again, expected each name once
    "#]],
    );
    check(
        &document(&key("ci", "a", "b")),
        &expect![[r#"
        line 4: /keys/1/name: found "ci" again, expected each name once
    "#]],
    );
    check(
        &document(&key("other", "b", "A")),
        &expect![[r#"
        line 4: /keys/1/sha256: found the digest of /keys/0 again, expected each key once
    "#]],
    );
}

// OC-CONFIG-6003, ORCH-3076
#[test]
fn a_tenant_s_limit_of_waiting_tasks_is_within_the_queue() {
    let tenant = |queued: u32| format!("tenants: [{{name: a, queued: {queued}}}]\n");
    check(&tenant(1_024), &expect![[""]]);
    check(
        &tenant(1_025),
        &expect![[r#"
        line 1: /tenants/0/queued: found 1025, which the queue never reaches, expected at most 1024, four times the queue's capacity, or none
    "#]],
    );
    check(
        &format!("{}queue: {{capacity: 10}}", tenant(41)),
        &expect![[r#"
        line 1: /tenants/0/queued: found 41, which the queue never reaches, expected at most 40, four times the queue's capacity, or none
    "#]],
    );
    check(&format!("{}queue: {{capacity: 10}}", tenant(40)), &expect![[""]]);
    let team = |queued| format!("profile: team\n{KEYS}\n{}", tenant(queued));
    check(&team(16_384), &expect![[""]]);
    check(
        &team(16_385),
        &expect![[r#"
        line 3: /tenants/0/queued: found 16385, which the queue never reaches, expected at most 16384, four times the queue's capacity, or none
    "#]],
    );
}

// OC-CONFIG-6003, OC-POOL-3021
#[test]
fn a_split_has_one_ratio_for_each_device() {
    check(
        "pool_manager:\n  devices: [{id: a, kind: nvidia}, {id: b, kind: nvidia}]\n  pools:\n  - {id: p, \
         engine: llamacpp, model: {id: m, path: m}, devices: [a, b], split: [1, 2, 3]}\n  - {id: q, \
         engine: llamacpp, model: {id: m, path: m}, devices: [a], split: [1, 0]}",
        &expect![[r#"
            line 4: /pool_manager/pools/0/split: found 3 ratios, expected one for each of `devices`, which are 2
            line 5: /pool_manager/pools/1/split: found 2 ratios, expected one for each of `devices`, which are 1
            line 5: /pool_manager/pools/1/split/1: found 0, expected a whole number from 1 to 1000
        "#]],
    );
}

// OC-CONFIG-6003, OC-POOL-3020
#[test]
fn a_gpu_is_named_once_and_memory_that_cannot_be_asked_for_is_stated() {
    check(
        "pool_manager:\n  devices:\n  - {id: a, kind: nvidia, uuid: GPU-1}\n  - {id: b, kind: nvidia, \
         uuid: GPU-1}\n  - {id: c, kind: cpu, uuid: GPU-2}\n  - {id: d, kind: rocm}\n  - {id: e, \
         kind: metal, memory_mib: 9}",
        &expect![[r#"
            line 4: /pool_manager/devices/1/uuid: found "GPU-1" again, expected each GPU once
            line 5: /pool_manager/devices/2/uuid: found a uuid on a device of kind cpu, expected one on kind nvidia only
            line 6: /pool_manager/devices/3/memory_mib: found nothing, expected the memory of the rocm device: nothing here can ask it
        "#]],
    );
}

// OC-CONFIG-6003
#[test]
fn pinned_models_fit_together_and_others_beside_them() {
    let document = |residency: &str| {
        format!(
            "pool_manager:\n  devices: [{{id: a, kind: cpu, memory_mib: 100}}]\n  pools:\n  - {{id: p, \
             engine: llamacpp, residency: {residency}, model: {{id: m, path: m, memory_mib: 30}}}}\n  \
             - {{id: q, engine: llamacpp, replicas: 2, model: {{id: k, path: k, memory_mib: 40}}}}"
        )
    };
    check(
        &document("pinned"),
        &expect![[r#"
        line 5: /pool_manager/pools/1/model/memory_mib: found 80 MiB for a, of which 70 MiB are left, expected pinned models that fit together, and others that fit beside them (or `residency: on_demand`)
    "#]],
    );
    check(
        &document("on_demand"),
        &expect![[r#"
        line 4: /pool_manager/pools/0/model/memory_mib: found 30 MiB for a, of which 20 MiB are left, expected pinned models that fit together, and others that fit beside them (or `residency: on_demand`)
    "#]],
    );
    check(&document("on_demand").replace("memory_mib: 30", "memory_mib: 20"), &expect![""]);
}

// OC-CONFIG-6003
#[test]
fn what_the_manager_says_to_an_engine_is_not_said_again() {
    check(
        &pools(
            "  - {id: a, engine: llamacpp, model: {id: m, path: m}, flags: [-ngl, all, --port=1, \
             --host]}\n",
        ),
        &expect![[r#"
            line 3: /pool_manager/pools/0/flags/2: found `--port`, which the manager sets itself, expected the pool's own key for it (`model`, `slots`, `split`, `devices`, `port_range`)
            line 3: /pool_manager/pools/0/flags/3: found `--host`, which the manager sets itself, expected the pool's own key for it (`model`, `slots`, `split`, `devices`, `port_range`)
        "#]],
    );
    check(
        &pools(
            "  - {id: a, engine: llamacpp, model: {id: m}, residency: on_demand, external: {url: \
             'http://127.0.0.1:1'}}\n",
        ),
        &expect![[r#"
            line 3: /pool_manager/pools/0/residency: found on_demand beside `external`, expected pinned: a server that somebody else runs is not loaded here
        "#]],
    );
    check(
        "bind: ['127.0.0.1:9', '127.0.0.1:9']",
        &expect![[r#"
        line 1: /bind/1: found 127.0.0.1:9 again, expected each address once
    "#]],
    );
}

// OC-CONFIG-6001
#[test]
fn engines_listen_at_an_address_without_a_port() {
    check(
        "pool_manager: {engine_address: 'gpu1:8080'}",
        &expect![[r#"
        line 1: /pool_manager/engine_address: found "gpu1:8080", expected an IP address without a port, such as 10.0.0.5
    "#]],
    );
    check("pool_manager: {engine_address: '::1'}", &expect![[""]]);
}
