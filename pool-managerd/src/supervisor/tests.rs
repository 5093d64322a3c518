//! A script of timed events in, the timeline of states and effects out.

use adapter_api::Properties;
use config_schema::Restart;
use expect_test::{Expect, expect};

use super::{Answer, Effect, Event, Failure, Policy, Supervisor};

const MANAGED: Policy = Policy {
    managed: true,
    start_timeout_ms: 10_000,
    restart: Restart { backoff_ms: 1_000, backoff_max_ms: 4_000 },
};
const EXTERNAL: Policy = Policy { managed: false, ..MANAGED };

#[expect(clippy::needless_pass_by_value, reason = "expect![[…]] is written in place")]
fn check(policy: Policy, script: &str, expected: Expect) {
    let mut supervisor = Supervisor::new(policy);
    let mut timeline = String::new();
    for line in script.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let (at, event) = line.split_once(' ').expect("time and event");
        let effects = supervisor.apply(at.parse().expect("a time"), parse(event), u32::MAX);
        let effects: Vec<Effect> = effects;
        timeline += &format!(
            "{line}: {:?} due {:?} {effects:?}\n",
            supervisor.state(),
            supervisor.next_wakeup()
        );
    }
    if let Some(error) = supervisor.last_error() {
        timeline += &format!("last error: {error}\n");
    }
    expected.assert_eq(&timeline);
}

fn parse(event: &str) -> Event {
    let properties = Properties {
        engine_version: "b1".into(),
        model: "m".into(),
        context_tokens: 8,
        slots: 1,
        chat_template: false,
    };
    match event {
        "tick" => Event::Tick,
        "spawned" => Event::Spawned,
        "check failed" => Event::CheckFailed { cause: "no model file".into() },
        "exited" => Event::Exited { cause: "exit code 1".into(), kind: Failure::Exit },
        "loading" => Event::Answered(Answer::Loading),
        "ready" => Event::Answered(Answer::Ready),
        "silent" => Event::Answered(Answer::Silent { cause: "refused".into() }),
        "probed" => Event::Probed(Ok(properties)),
        "probe failed" => Event::Probed(Err("nothing came".into())),
        "drain" => Event::Drain,
        "stop" => Event::Stop,
        other => unreachable!("no such event: {other}"),
    }
}

// OC-POOL-3001, ORCH-3002
#[test]
fn ready_means_that_the_engine_says_so_and_a_token_was_decoded() {
    check(
        MANAGED,
        "
        0 tick
        1 spawned
        101 tick
        102 silent
        202 tick
        203 loading
        303 tick
        304 ready
        310 probed",
        expect![[r#"
            0 tick: Starting due None [Start]
            1 spawned: Starting due Some(101) []
            101 tick: Starting due None [AskHealth]
            102 silent: Starting due Some(202) []
            202 tick: Starting due None [AskHealth]
            203 loading: Loading due Some(303) []
            303 tick: Loading due None [AskHealth]
            304 ready: Probing due None [Probe]
            310 probed: Ready due Some(2310) [Loaded { took_ms: 310 }]
        "#]],
    );
}

// OC-POOL-3002, ORCH-3003
#[test]
fn what_cannot_work_is_unready_and_tried_again_with_backoff() {
    check(
        MANAGED,
        "
        0 tick
        1 check failed
        1000 tick
        1001 tick
        1002 check failed
        3002 tick
        3003 check failed
        7003 tick
        7004 check failed",
        expect![[r#"
            0 tick: Starting due None [Start]
            1 check failed: Unready due Some(1001) [Failed(Check)]
            1000 tick: Unready due Some(1001) []
            1001 tick: Starting due None [Start]
            1002 check failed: Unready due Some(3002) [Failed(Check)]
            3002 tick: Starting due None [Start]
            3003 check failed: Unready due Some(7003) [Failed(Check)]
            7003 tick: Starting due None [Start]
            7004 check failed: Unready due Some(11004) [Failed(Check)]
            last error: no model file
        "#]],
    );
}

// OC-POOL-3011, ORCH-3038
#[test]
fn a_crash_leads_to_backoff_and_a_new_incarnation() {
    check(
        MANAGED,
        "
        0 tick
        1 spawned
        101 tick
        102 ready
        103 probed
        500 exited
        1500 tick",
        expect![[r#"
            0 tick: Starting due None [Start]
            1 spawned: Starting due Some(101) []
            101 tick: Starting due None [AskHealth]
            102 ready: Probing due None [Probe]
            103 probed: Ready due Some(2103) [Loaded { took_ms: 103 }]
            500 exited: Backoff due Some(1500) [Failed(Exit)]
            1500 tick: Starting due None [Start]
            last error: exit code 1
        "#]],
    );
}

#[test]
fn a_long_stable_run_starts_the_backoff_anew() {
    check(
        MANAGED,
        "
        0 tick
        1 check failed
        1001 tick
        1002 spawned
        1102 tick
        1103 ready
        1104 probed
        70000 exited",
        expect![[r#"
            0 tick: Starting due None [Start]
            1 check failed: Unready due Some(1001) [Failed(Check)]
            1001 tick: Starting due None [Start]
            1002 spawned: Starting due Some(1102) []
            1102 tick: Starting due None [AskHealth]
            1103 ready: Probing due None [Probe]
            1104 probed: Ready due Some(3104) [Loaded { took_ms: 103 }]
            70000 exited: Backoff due Some(71000) [Failed(Exit)]
            last error: exit code 1
        "#]],
    );
}

#[test]
fn an_engine_that_stops_answering_is_killed_and_restarted_only_once_it_is_reaped() {
    check(
        MANAGED,
        "
        0 tick
        1 spawned
        101 tick
        102 ready
        103 probed
        2103 tick
        2104 silent
        4104 silent
        6104 silent
        7104 tick
        7200 exited
        7200 tick",
        expect![[r#"
            0 tick: Starting due None [Start]
            1 spawned: Starting due Some(101) []
            101 tick: Starting due None [AskHealth]
            102 ready: Probing due None [Probe]
            103 probed: Ready due Some(2103) [Loaded { took_ms: 103 }]
            2103 tick: Ready due None [AskHealth]
            2104 silent: Ready due Some(4104) []
            4104 silent: Ready due Some(6104) []
            6104 silent: Backoff due Some(7104) [Failed(Health), Kill]
            7104 tick: Backoff due None []
            7200 exited: Backoff due Some(7200) []
            7200 tick: Starting due None [Start]
            last error: refused
        "#]],
    );
}

#[test]
fn a_start_that_takes_too_long_is_given_up() {
    check(
        MANAGED,
        "0 tick\n1 spawned\n101 tick\n102 loading\n10000 tick",
        expect![[r#"
        0 tick: Starting due None [Start]
        1 spawned: Starting due Some(101) []
        101 tick: Starting due None [AskHealth]
        102 loading: Loading due Some(202) []
        10000 tick: Backoff due Some(11000) [Failed(StartTimeout), Kill]
        last error: engine was not ready within 10000 ms
    "#]],
    );
}

#[test]
fn a_failed_test_decode_is_not_ready() {
    check(
        MANAGED,
        "0 tick\n1 spawned\n101 tick\n102 ready\n103 probe failed",
        expect![[r#"
        0 tick: Starting due None [Start]
        1 spawned: Starting due Some(101) []
        101 tick: Starting due None [AskHealth]
        102 ready: Probing due None [Probe]
        103 probe failed: Backoff due Some(1103) [Failed(Probe), Kill]
        last error: test decode failed: nothing came
    "#]],
    );
}

#[test]
fn an_external_server_is_watched_and_never_started() {
    check(
        EXTERNAL,
        "
        0 tick
        1 silent
        2001 tick
        2002 ready
        2003 probed
        4003 tick
        4004 silent
        6004 silent
        8004 silent",
        expect![[r#"
            0 tick: Starting due None [AskHealth]
            1 silent: Unready due Some(2001) [Failed(Health)]
            2001 tick: Starting due None [AskHealth]
            2002 ready: Probing due None [Probe]
            2003 probed: Ready due Some(4003) [Loaded { took_ms: 2 }]
            4003 tick: Ready due None [AskHealth]
            4004 silent: Ready due Some(6004) []
            6004 silent: Ready due Some(8004) []
            8004 silent: Unready due Some(10004) [Failed(Health)]
            last error: refused
        "#]],
    );
}

#[test]
fn stopping_drains_first_and_ends_stopped() {
    check(
        MANAGED,
        "
        0 tick
        1 spawned
        101 tick
        102 ready
        103 probed
        200 drain
        300 stop
        400 exited
        9999 tick",
        expect![[r#"
            0 tick: Starting due None [Start]
            1 spawned: Starting due Some(101) []
            101 tick: Starting due None [AskHealth]
            102 ready: Probing due None [Probe]
            103 probed: Ready due Some(2103) [Loaded { took_ms: 103 }]
            200 drain: Draining due None []
            300 stop: Draining due None [Terminate]
            400 exited: Stopped due None []
            9999 tick: Stopped due None []
        "#]],
    );
}
