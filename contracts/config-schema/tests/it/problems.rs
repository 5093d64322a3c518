//! What one value must look like, and how its problem reads.

use expect_test::{Expect, expect};

use crate::told;

fn check(document: &str, expected: &Expect) {
    expected.assert_eq(&told(document));
}

// OC-CONFIG-6001 ORCH-3030
#[test]
fn every_problem_is_told_at_once_by_line() {
    check(
        "
profil: team
queue:
  capcity: 3
  full_policy: drop_lru
watchdog: {idle_ms: 0, wall_ms: '600000', first_token_ms: -1}
limits:
  body_bytes: 1.5
  header_bytes: 4096
  connections: 4294967296
log: {level: inof}
bind: ['0.0.0.0:8420', localhost, 5]
pool_manager:
  port_range: [9000, 8000]
  devices: [{id: cpu0, kind: gpu}]
  pools:
    - id: 'a b'
      model: {aliases: small}
      slots: 0
      devices: [cpu1]
queue: {}
",
        &expect![[r#"
            line 2: /profil: found key `profil`, expected one of allowed_hosts, artifacts, bind, classes, deadlines, drain_ms, fairness, journal, keys, limits, log, models, pool_manager, pool_managers, preemption, profile, queue, release_timeout_ms, retention, sampler_profiles, sessions, sse, stream, swap, tenants, watchdog; did you mean `profile`?
            line 4: /queue/capcity: found key `capcity`, expected one of capacity, full_policy, interactive_headroom_slots, unready_wait_ms; did you mean `capacity`?
            line 5: /queue/full_policy: found "drop_lru", expected one of reject, drop-lru, shed-low-priority; did you mean `drop-lru`?
            line 6: /watchdog/first_token_ms: found -1, expected a whole number from 1 to 1099511627776
            line 6: /watchdog/idle_ms: found 0, expected a whole number from 1 to 1099511627776
            line 6: /watchdog/wall_ms: found "600000", expected a whole number from 1 to 1099511627776; did you mean `600000`?
            line 8: /limits/body_bytes: found 1.5, expected a whole number from 1024 to 1099511627776
            line 9: /limits/header_bytes: found 4096, expected a whole number from 8192 to 4294967295
            line 10: /limits/connections: found 4294967296, expected a whole number from 1 to 4294967295
            line 11: /log/level: found "inof", expected a log filter: off, error, warn, info, debug or trace; also by module: info,orchestratord=debug
            line 12: /bind/0: found 0.0.0.0:8420 (which other machines can reach), expected a loopback address, or a key in /keys
            line 12: /bind/1: found "localhost", expected an address and port, such as 127.0.0.1:8420 or [::1]:8420
            line 12: /bind/2: found 5, expected an address and port, such as 127.0.0.1:8420 or [::1]:8420
            line 14: /pool_manager/port_range: found [9000, 8000], expected [first, last] with first ≤ last
            line 15: /pool_manager/devices/0/kind: found "gpu", expected one of cpu, nvidia, rocm, metal; did you mean `cpu`?
            line 17: /pool_manager/pools/0/engine: found nothing, expected one of llamacpp, vllm, tgi, triton
            line 17: /pool_manager/pools/0/id: found "a b", expected an id: 1 to 64 of letters, digits, `.`, `_`, `-`
            line 18: /pool_manager/pools/0/model/aliases: found "small", expected a list
            line 18: /pool_manager/pools/0/model/id: found nothing, expected a text that is not empty
            line 18: /pool_manager/pools/0/model/path: found nothing, expected a model file, which a managed engine needs (or `external: {url: …}`)
            line 19: /pool_manager/pools/0/slots: found 0, expected a whole number from 1 to 4294967295
            line 20: /pool_manager/pools/0/devices/0: found "cpu1", expected a declared device: cpu0; did you mean `cpu0`?
            line 21: /queue: found key `queue` again, after line 3, expected each key once
        "#]],
    );
}

// OC-CONFIG-6001
#[test]
fn an_unknown_key_is_told_with_the_nearest_and_all_that_are_known() {
    check(
        "queue: {capacty: 3}",
        &expect![[r#"
            line 1: /queue/capacty: found key `capacty`, expected one of capacity, full_policy, interactive_headroom_slots, unready_wait_ms; did you mean `capacity`?
        "#]],
    );
    check(
        "queue: {zebra: 3}",
        &expect![[r#"
            line 1: /queue/zebra: found key `zebra`, expected one of capacity, full_policy, interactive_headroom_slots, unready_wait_ms
        "#]],
    );
    check(
        "<<<: 1\n'': 2\n'a/b~c': 3\n1: 4",
        &expect![[r#"
            line 1: /<<<: found key `<<<`, expected one of allowed_hosts, artifacts, bind, classes, deadlines, drain_ms, fairness, journal, keys, limits, log, models, pool_manager, pool_managers, preemption, profile, queue, release_timeout_ms, retention, sampler_profiles, sessions, sse, stream, swap, tenants, watchdog
            line 2: /: found key ``, expected one of allowed_hosts, artifacts, bind, classes, deadlines, drain_ms, fairness, journal, keys, limits, log, models, pool_manager, pool_managers, preemption, profile, queue, release_timeout_ms, retention, sampler_profiles, sessions, sse, stream, swap, tenants, watchdog
            line 3: /a~1b~0c: found key `a/b~c`, expected one of allowed_hosts, artifacts, bind, classes, deadlines, drain_ms, fairness, journal, keys, limits, log, models, pool_manager, pool_managers, preemption, profile, queue, release_timeout_ms, retention, sampler_profiles, sessions, sse, stream, swap, tenants, watchdog
            line 4: /1: found key `1`, expected one of allowed_hosts, artifacts, bind, classes, deadlines, drain_ms, fairness, journal, keys, limits, log, models, pool_manager, pool_managers, preemption, profile, queue, release_timeout_ms, retention, sampler_profiles, sessions, sse, stream, swap, tenants, watchdog
        "#]],
    );
}

#[test]
fn a_wrong_type_is_told_as_what_was_found_and_what_is_allowed() {
    check(
        "- 1\n- 2",
        &expect![[r#"
            found a list of 2, expected a section with allowed_hosts, artifacts, bind, classes, deadlines, drain_ms, fairness, journal, keys, limits, log, models, pool_manager, pool_managers, preemption, profile, queue, release_timeout_ms, retention, sampler_profiles, sessions, sse, stream, swap, tenants, watchdog
        "#]],
    );
    check(
        "just words",
        &expect![[r#"
            found "just words", expected a section with allowed_hosts, artifacts, bind, classes, deadlines, drain_ms, fairness, journal, keys, limits, log, models, pool_manager, pool_managers, preemption, profile, queue, release_timeout_ms, retention, sampler_profiles, sessions, sse, stream, swap, tenants, watchdog
        "#]],
    );
    check(
        "queue: [1]\nclasses: 5\nallowed_hosts: me",
        &expect![[r#"
            line 1: /queue: found a list of 1, expected a section with capacity, full_policy, interactive_headroom_slots, unready_wait_ms
            line 2: /classes: found 5, expected a section with batch, interactive, mode
            line 3: /allowed_hosts: found "me", expected a list
        "#]],
    );
    check(
        "queue: {capacity: '256'}\nallowed_hosts: [5, true, null, [x]]",
        &expect![[r#"
        line 1: /queue/capacity: found "256", expected a whole number from 1 to 4294967295; did you mean `256`?
        line 2: /allowed_hosts/0: found 5, expected a text; did you mean `"5"`?
        line 2: /allowed_hosts/1: found true, expected a text; did you mean `"true"`?
        line 2: /allowed_hosts/2: found nothing, expected a text
        line 2: /allowed_hosts/3: found a list of 1, expected a text
    "#]],
    );
    check(
        "drain_ms: 99999999999999999999999\nrelease_timeout_ms: 1e3",
        &expect![[r#"
        line 1: /drain_ms: found 1e+23, expected a whole number from 0 to 1099511627776
        line 2: /release_timeout_ms: found 1000.0, expected a whole number from 0 to 1099511627776
    "#]],
    );
    check(
        "log: {level: 'info,orchestratord=loud'}",
        &expect![[r#"
        line 1: /log/level: found "info,orchestratord=loud", expected a log filter: off, error, warn, info, debug or trace; also by module: info,orchestratord=debug
    "#]],
    );
    check(
        "pool_manager: {port_range: [1, 2, 3]}",
        &expect![[r#"
        line 1: /pool_manager/port_range: found a list of 3, expected a list of 2
    "#]],
    );
    check(
        "pool_manager: {port_range: [0, 70000]}",
        &expect![[r#"
        line 1: /pool_manager/port_range/0: found 0, expected a whole number from 1 to 65535
        line 1: /pool_manager/port_range/1: found 70000, expected a whole number from 1 to 65535
    "#]],
    );
    check(
        "pool_managers: [{url: 'ftp://x'}, {url: 'http://a/b'}, {}]",
        &expect![[r#"
        line 1: /pool_managers/0/url: found "ftp://x", expected a base URL: http://host:port
        line 1: /pool_managers/1/url: found "http://a/b", expected a base URL: http://host:port
        line 1: /pool_managers/2/url: found nothing, expected a base URL: http://host:port
    "#]],
    );
}

#[test]
fn a_missing_key_is_told_where_it_belongs() {
    check(
        "pool_manager:\n  pools:\n    - engine: llamacpp\n      model:\n        path: x\n  devices:\n    -\n",
        &expect![[r#"
            line 3: /pool_manager/pools/0/id: found nothing, expected an id: 1 to 64 of letters, digits, `.`, `_`, `-`
            line 4: /pool_manager/pools/0/model/id: found nothing, expected a text that is not empty
            line 7: /pool_manager/devices/0: found nothing, expected a section with id, kind, margin_mib, memory_mib, uuid
        "#]],
    );
}

#[test]
fn a_key_that_stands_twice_is_refused_and_its_values_checked() {
    check(
        "drain_ms: 5\nqueue: {capacity: 0, capacity: 0}\ndrain_ms: none\n",
        &expect![[r#"
            line 2: /queue/capacity: found key `capacity` again, after line 2, expected each key once
            line 2: /queue/capacity: found 0, expected a whole number from 1 to 4294967295
            line 3: /drain_ms: found key `drain_ms` again, after line 1, expected each key once
            line 3: /drain_ms: found "none", expected a whole number from 0 to 1099511627776
        "#]],
    );
}

#[test]
fn a_key_without_a_value_counts_as_left_out() {
    for text in [
        "queue:\n  # capacity: 1\n",
        "queue:\n  capacity:\nclasses: {interactive: }\nbind:\nprofile:\n",
        "pool_manager:\n  pools:\n  devices:\n",
        "",
        "# nothing\n",
        "---\n...\n",
        "\u{feff}profile: home",
    ] {
        assert_eq!(told(text), "", "{text}");
    }
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    check(
        "queue:\n\tcapacity: 1\n",
        &expect![[r#"
        line 2: found invalid YAML in column 2 (tabs disallowed within this context (block indentation)), expected one YAML document
    "#]],
    );
    check(
        "queue: [1\ndrain_ms: 2",
        &expect![[r#"
        line 2: found invalid YAML in column 9 (illegal placement of ':' indicator), expected one YAML document
    "#]],
    );
    check(
        "keys: *mine",
        &expect![[r#"
        line 1: found invalid YAML in column 7 (alias references unknown anchor), expected one YAML document
    "#]],
    );
    check(
        "drain_ms: 1\n---\ndrain_ms: 2\n",
        &expect![[r#"
        line 3: found invalid YAML in column 1 (multiple YAML documents detected), expected one YAML document
    "#]],
    );
    check(
        "? [a, b]\n: 1",
        &expect![[r#"
        line 1: found invalid YAML in column 3 (expected string scalar), expected one YAML document
    "#]],
    );
    check(
        "drain_ms: .inf",
        &expect![[r#"
        line 1: found invalid YAML in column 11 (non-finite float `.inf` rejected by the configured policy), expected one YAML document
    "#]],
    );
    check(
        "drain_ms: \"1\u{0}\"",
        &expect![[r#"
        line 1: found invalid YAML in column 13 (unexpected character: `\u{0}'), expected one YAML document
    "#]],
    );
}

#[test]
fn depth_and_aliases_are_bounded() {
    check(
        &"[".repeat(100_000),
        &expect![[r#"
        line 1: found invalid YAML in column 256 (recursion limit exceeded), expected one YAML document
    "#]],
    );
    check(
        &"queue: {".repeat(40),
        &expect![[r#"
        line 1: found a document that is too large once its aliases are expanded, expected at most 50000 values in at most 32 levels
    "#]],
    );
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..10 {
        let below = vec![format!("*a{}", level - 1); 10].join(",");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    check(
        &bomb,
        &expect![[r#"
        line 5: found a document that is too large once its aliases are expanded, expected at most 50000 values in at most 32 levels
    "#]],
    );
}

#[test]
fn anchors_and_merges_are_plain_yaml() {
    let text = "
pool_manager:
  pools:
    - &first {id: a, engine: llamacpp, model: {id: m, path: x}}
    - <<: *first
      id: b
      slots: many
";
    check(
        text,
        &expect![[r#"
        line 7: /pool_manager/pools/1/slots: found "many", expected a whole number from 1 to 4294967295
    "#]],
    );
    assert_eq!(told(&text.replace("many", "4")), "");
}

#[test]
fn secrets_are_never_shown_and_long_values_are_cut() {
    let secret = "hunter2hunter2";
    let document = format!(
        "
keys:
  - {{name: me, sha256: {secret}}}
  - {secret}
pool_managers: [{{url: 'http://me:{secret}@host/x'}}]
pool_manager:
  pools:
    - id: {}
      engine: llamacpp
      model: {{id: m, path: x}}
      flags: --api-key={secret}
      env: {{A: [{secret}], B: 5}}
",
        "long ".repeat(40)
    );
    assert!(!told(&document).contains("hunter"), "{}", told(&document));
    check(
        &document,
        &expect![[r#"
            line 3: /keys/0/sha256: found a text of 14 characters, expected a SHA-256 digest of 64 hex digits (`llorch key new` makes one)
            line 4: /keys/1: found a text of 14 characters, expected a section with name, sha256, tenant
            line 5: /pool_managers/0/url: found a text of 31 characters, expected a base URL: http://host:port
            line 8: /pool_manager/pools/0/id: found "long long long long long long long long long long long long …", expected an id: 1 to 64 of letters, digits, `.`, `_`, `-`
            line 11: /pool_manager/pools/0/flags: found a text of 24 characters, expected a list
            line 12: /pool_manager/pools/0/env/A: found a list of 1, expected a text
            line 12: /pool_manager/pools/0/env/B: found a value that is not a text, expected a text
        "#]],
    );
    assert!(!told(&format!("keys: {secret}\nqueue: }}")).contains("hunter"));
    assert!(!told(&format!("keys: [{secret}")).contains("hunter"));
}

// OC-CONFIG-6001, ORCH-3097
#[test]
fn artifacts_have_room_and_time() {
    check(
        "artifacts:\n  quota_bytes: 0\n  ttl_ms: 31536000001\n  ttl: 1",
        &expect![[r#"
        line 2: /artifacts/quota_bytes: found 0, expected a whole number from 1 to 1099511627776
        line 3: /artifacts/ttl_ms: found 31536000001, expected a whole number from 1 to 31536000000
        line 4: /artifacts/ttl: found key `ttl`, expected one of quota_bytes, ttl_ms
    "#]],
    );
    check("artifacts: {quota_bytes: 1, ttl_ms: 1}", &expect![[""]]);
}
