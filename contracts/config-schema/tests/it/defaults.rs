//! The table of defaults, as the design states it for both profiles.

use config_schema::{Bind, Config, FullPolicy, Profile, parse};

const KEYS: &str = "keys: [{name: me, sha256: \
                    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}]";

fn profiles() -> [Config; 2] {
    [parse("").unwrap(), parse(&format!("profile: team\n{KEYS}")).unwrap()]
}

#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(read: impl Fn(&Config) -> T, home: T, team: T) {
    assert_eq!(profiles().map(|it| read(&it)), [home, team]);
}

const fn minutes(count: u64) -> u64 {
    count * 60_000
}

#[test]
fn the_profile_is_home_until_told_otherwise() {
    check(|it| it.profile, Profile::Home, Profile::Team);
}

// ORCH-3030, ORCH-3021, ORCH-3097
#[test]
fn a_profile_chooses_the_defaults_of_the_design() {
    let loopback = |port| Bind::Loopback { port };
    check(|it| it.bind.clone(), loopback(8420), loopback(8420));
    check(|it| it.pool_manager.bind.clone(), loopback(8421), loopback(8421));
    check(|it| it.queue.capacity.get(), 256, 4_096);
    check(|it| it.queue.full_policy, FullPolicy::Reject, FullPolicy::ShedLowPriority);
    check(|it| it.classes.interactive.weight.get(), 8, 8);
    check(|it| it.classes.interactive.max_wait_ms, 30_000, 30_000);
    check(|it| it.classes.batch.weight.get(), 1, 1);
    check(|it| it.classes.batch.max_wait_ms, minutes(30), minutes(30));
    check(|it| it.watchdog.wall_ms, minutes(30), minutes(10));
    check(|it| it.watchdog.idle_ms, 60_000, 30_000);
    check(|it| it.watchdog.first_token_ms, minutes(10), minutes(2));
    check(|it| it.sessions.ttl_ms, minutes(10), minutes(10));
    check(|it| it.sessions.turns, 8, 8);
    check(|it| it.retention.ttl_ms, minutes(24 * 60), minutes(24 * 60));
    check(|it| it.artifacts.ttl_ms, minutes(7 * 24 * 60), minutes(7 * 24 * 60));
    check(|it| it.artifacts.quota_bytes, 1 << 30, 1 << 30);
}

#[test]
fn a_key_overrides_its_profile() {
    let config = parse(&format!("profile: team\n{KEYS}\nqueue: {{full_policy: reject}}")).unwrap();
    assert_eq!(config.queue.full_policy, FullPolicy::Reject);
    assert_eq!(config.queue.capacity.get(), 4_096);
}

#[test]
fn the_manager_on_this_host_is_followed_until_others_are_named() {
    let url = |text: &str| parse(text).unwrap().pool_managers[0].url.clone();
    assert_eq!(url(""), "http://127.0.0.1:8421");
    assert_eq!(url("pool_manager: {bind: ['127.0.0.1:9']}"), "http://127.0.0.1:9");
    assert_eq!(url("pool_managers: [{url: 'http://gpu1:8421/'}]"), "http://gpu1:8421");
}
