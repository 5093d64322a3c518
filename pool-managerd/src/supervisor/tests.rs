//! A script of timed events in, the timeline of states and effects out.

use adapter_api::Properties;
use config_schema::Restart;
use expect_test::{Expect, expect};

use super::{Answer, Effect, Event, Failure, Policy, Supervisor};

const MANAGED: Policy = Policy {
    managed: true,
    start_timeout_ms: 10_000,
    stop_grace_ms: 5_000,
    restart: Restart { backoff_ms: 1_000, backoff_max_ms: 4_000 },
};
const EXTERNAL: Policy = Policy { managed: false, ..MANAGED };

fn check(policy: Policy, script: &str, expected: Expect) {
    check_with(policy, u32::MAX, script, expected);
}

#[expect(clippy::needless_pass_by_value, reason = "expect![[…]] is written in place")]
fn check_with(policy: Policy, random: u32, script: &str, expected: Expect) {
    let mut supervisor = Supervisor::new(policy);
    let mut timeline = String::new();
    for line in script.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let (at, event) = line.split_once(' ').expect("time and event");
        let now = at.parse().expect("a time");
        let effects: Vec<Effect> = supervisor.apply(now, parse(event), random);
        let due = supervisor.next_wakeup().map_or("-".into(), |it| it.to_string());
        let (state, incarnation) = (supervisor.state(), supervisor.incarnation());
        timeline += &format!("{line}: {state:?} #{incarnation} due {due} {effects:?}\n");
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
        "checked" => Event::Checked(Ok(())),
        "check failed" => Event::Checked(Err("no model file".into())),
        "spawn failed" => Event::SpawnFailed { cause: "no port".into() },
        "exited" => Event::Exited { cause: "exit code 1".into(), kind: Failure::Exit },
        "loading" => Event::Answered(Answer::Loading),
        "ready" => Event::Answered(Answer::Ready),
        "silent" => Event::Answered(Answer::Silent { cause: "refused".into() }),
        "probed" => Event::Probed(Ok(properties)),
        "probe failed" => Event::Probed(Err("nothing came".into())),
        "drain" => Event::Drain,
        "stop" => Event::Stop,
        "hurry" => Event::Hurry,
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
        1 checked
        2 spawned
        102 tick
        103 silent
        203 tick
        204 loading
        304 tick
        305 ready
        310 probed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 checked: Starting #0 due - [Spawn]
            2 spawned: Starting #1 due 102 []
            102 tick: Starting #1 due - [AskHealth]
            103 silent: Starting #1 due 203 []
            203 tick: Starting #1 due - [AskHealth]
            204 loading: Loading #1 due 304 []
            304 tick: Loading #1 due - [AskHealth]
            305 ready: Probing #1 due 10002 [Probe]
            310 probed: Ready #1 due 2310 [Ready { took_ms: 308 }]
        "#]],
    );
}

// OC-POOL-3002, ORCH-3003
#[test]
fn what_cannot_work_is_unready_and_tried_again_with_a_backoff_that_has_a_limit() {
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
            0 tick: Starting #0 due - [Check]
            1 check failed: Unready #0 due 1001 [Down { cause: Check, loading: true }]
            1000 tick: Unready #0 due 1001 []
            1001 tick: Unready #0 due - [Check]
            1002 check failed: Unready #0 due 3002 [Down { cause: Check, loading: true }]
            3002 tick: Unready #0 due - [Check]
            3003 check failed: Unready #0 due 7003 [Down { cause: Check, loading: true }]
            7003 tick: Unready #0 due - [Check]
            7004 check failed: Unready #0 due 11004 [Down { cause: Check, loading: true }]
            last error: no model file
        "#]],
    );
}

// OC-POOL-3002
#[test]
fn the_wait_after_a_failure_is_never_shorter_than_a_quarter() {
    check_with(
        MANAGED,
        0,
        "
        0 tick
        0 checked
        0 spawn failed
        250 tick
        250 checked
        250 spawn failed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawn failed: Unready #0 due 250 [Down { cause: Spawn, loading: true }]
            250 tick: Unready #0 due - [Check]
            250 checked: Unready #0 due - [Spawn]
            250 spawn failed: Unready #0 due 750 [Down { cause: Spawn, loading: true }]
            last error: no port
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
        0 checked
        0 spawned
        100 tick
        101 ready
        102 probed
        500 exited
        1500 tick
        1501 checked
        1502 spawned",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10000 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: 102 }]
            500 exited: Backoff #1 due 1500 [Down { cause: Exit, loading: false }]
            1500 tick: Backoff #1 due - [Check]
            1501 checked: Backoff #1 due - [Spawn]
            1502 spawned: Starting #2 due 1602 [Restarted { cause: Exit }]
            last error: exit code 1
        "#]],
    );
}

// OC-POOL-3011
#[test]
fn an_engine_that_exits_at_once_is_restarted_ever_more_slowly() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        0 spawned
        10 exited
        1010 tick
        1010 checked
        1010 spawned
        1020 exited
        3020 tick
        3020 checked
        3020 spawned
        3030 exited
        7030 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            10 exited: Backoff #1 due 1010 [Down { cause: Exit, loading: true }]
            1010 tick: Backoff #1 due - [Check]
            1010 checked: Backoff #1 due - [Spawn]
            1010 spawned: Starting #2 due 1110 [Restarted { cause: Exit }]
            1020 exited: Backoff #2 due 3020 [Down { cause: Exit, loading: true }]
            3020 tick: Backoff #2 due - [Check]
            3020 checked: Backoff #2 due - [Spawn]
            3020 spawned: Starting #3 due 3120 [Restarted { cause: Exit }]
            3030 exited: Backoff #3 due 7030 [Down { cause: Exit, loading: true }]
            7030 tick: Backoff #3 due - [Check]
            last error: exit code 1
        "#]],
    );
}

// OC-POOL-3011
#[test]
fn a_long_stable_run_starts_the_backoff_anew() {
    check(
        MANAGED,
        "
        0 tick
        1 check failed
        1001 tick
        1001 checked
        1002 spawned
        1102 tick
        1103 ready
        1104 probed
        70000 exited",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 check failed: Unready #0 due 1001 [Down { cause: Check, loading: true }]
            1001 tick: Unready #0 due - [Check]
            1001 checked: Unready #0 due - [Spawn]
            1002 spawned: Starting #1 due 1102 []
            1102 tick: Starting #1 due - [AskHealth]
            1103 ready: Probing #1 due 11002 [Probe]
            1104 probed: Ready #1 due 3104 [Ready { took_ms: 102 }]
            70000 exited: Backoff #1 due 71000 [Down { cause: Exit, loading: false }]
            last error: exit code 1
        "#]],
    );
}

// OC-POOL-3011
#[test]
fn a_short_run_does_not_start_the_backoff_anew() {
    check(
        MANAGED,
        "
        0 tick
        1 check failed
        1001 tick
        1001 checked
        1002 spawned
        1102 tick
        1103 ready
        1104 probed
        30000 exited",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 check failed: Unready #0 due 1001 [Down { cause: Check, loading: true }]
            1001 tick: Unready #0 due - [Check]
            1001 checked: Unready #0 due - [Spawn]
            1002 spawned: Starting #1 due 1102 []
            1102 tick: Starting #1 due - [AskHealth]
            1103 ready: Probing #1 due 11002 [Probe]
            1104 probed: Ready #1 due 3104 [Ready { took_ms: 102 }]
            30000 exited: Backoff #1 due 32000 [Down { cause: Exit, loading: false }]
            last error: exit code 1
        "#]],
    );
}

// ORCH-3038, OC-POOL-3040
#[test]
fn an_engine_that_stops_answering_is_killed_and_restarted_only_once_it_is_reaped() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        0 spawned
        100 tick
        101 ready
        102 probed
        2102 tick
        2104 silent
        4104 tick
        4105 silent
        6105 tick
        6106 silent
        7106 tick
        7200 exited
        7200 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10000 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: 102 }]
            2102 tick: Ready #1 due - [AskHealth]
            2104 silent: Ready #1 due 4104 []
            4104 tick: Ready #1 due - [AskHealth]
            4105 silent: Ready #1 due 6105 []
            6105 tick: Ready #1 due - [AskHealth]
            6106 silent: Backoff #1 due 7106 [Down { cause: Health, loading: false }, Kill]
            7106 tick: Backoff #1 due - []
            7200 exited: Backoff #1 due 7200 []
            7200 tick: Backoff #1 due - [Check]
            last error: refused
        "#]],
    );
}

#[test]
fn one_answer_ends_the_count_of_silences() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        0 spawned
        100 tick
        101 ready
        102 probed
        2102 tick
        2104 silent
        4104 tick
        4105 silent
        6105 tick
        6106 ready
        8106 tick
        8107 silent",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10000 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: 102 }]
            2102 tick: Ready #1 due - [AskHealth]
            2104 silent: Ready #1 due 4104 []
            4104 tick: Ready #1 due - [AskHealth]
            4105 silent: Ready #1 due 6105 []
            6105 tick: Ready #1 due - [AskHealth]
            6106 ready: Ready #1 due 8106 []
            8106 tick: Ready #1 due - [AskHealth]
            8107 silent: Ready #1 due 10107 []
        "#]],
    );
}

#[test]
fn an_engine_that_loads_again_by_itself_counts_as_silent() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        0 spawned
        100 tick
        101 ready
        102 probed
        2102 tick
        2104 loading
        4104 tick
        4105 loading
        6105 tick
        6106 loading",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10000 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: 102 }]
            2102 tick: Ready #1 due - [AskHealth]
            2104 loading: Ready #1 due 4104 []
            4104 tick: Ready #1 due - [AskHealth]
            4105 loading: Ready #1 due 6105 []
            6105 tick: Ready #1 due - [AskHealth]
            6106 loading: Backoff #1 due 7106 [Down { cause: Health, loading: false }, Kill]
            last error: engine says that it loads
        "#]],
    );
}

// OC-POOL-3002
#[test]
fn a_start_that_takes_too_long_is_given_up() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        1 spawned
        101 tick
        102 loading
        10001 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            1 spawned: Starting #1 due 101 []
            101 tick: Starting #1 due - [AskHealth]
            102 loading: Loading #1 due 202 []
            10001 tick: Backoff #1 due 11001 [Down { cause: StartTimeout, loading: true }, Kill]
            last error: engine was not ready within 10000 ms
        "#]],
    );
}

// OC-POOL-3002
#[test]
fn a_test_decode_that_takes_too_long_is_given_up() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        1 spawned
        101 tick
        102 ready
        10000 tick
        10001 tick
        10002 probed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            1 spawned: Starting #1 due 101 []
            101 tick: Starting #1 due - [AskHealth]
            102 ready: Probing #1 due 10001 [Probe]
            10000 tick: Probing #1 due 10001 []
            10001 tick: Backoff #1 due 11001 [Down { cause: StartTimeout, loading: true }, Kill]
            10002 probed: Backoff #1 due 11001 []
            last error: engine was not ready within 10000 ms
        "#]],
    );
}

// OC-POOL-3001
#[test]
fn a_failed_test_decode_is_not_ready() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        1 spawned
        101 tick
        102 ready
        103 probe failed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            1 spawned: Starting #1 due 101 []
            101 tick: Starting #1 due - [AskHealth]
            102 ready: Probing #1 due 10001 [Probe]
            103 probe failed: Backoff #1 due 1103 [Down { cause: Probe, loading: true }, Kill]
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
        0 checked
        1 silent
        2001 tick
        2001 checked
        2002 silent
        4002 tick
        4002 checked
        4003 ready
        4004 probed
        6004 tick
        6005 silent
        8005 tick
        8006 silent
        10006 tick
        10007 silent
        12007 tick
        12007 checked
        12008 loading
        14008 tick
        14009 ready
        14010 probed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [AskHealth]
            1 silent: Unready #0 due 2001 [Down { cause: Health, loading: false }]
            2001 tick: Unready #0 due - [Check]
            2001 checked: Unready #0 due - [AskHealth]
            2002 silent: Unready #0 due 4002 []
            4002 tick: Unready #0 due - [Check]
            4002 checked: Unready #0 due - [AskHealth]
            4003 ready: Probing #1 due - [Probe]
            4004 probed: Ready #1 due 6004 [Ready { took_ms: 1 }]
            6004 tick: Ready #1 due - [AskHealth]
            6005 silent: Ready #1 due 8005 []
            8005 tick: Ready #1 due - [AskHealth]
            8006 silent: Ready #1 due 10006 []
            10006 tick: Ready #1 due - [AskHealth]
            10007 silent: Unready #1 due 12007 [Down { cause: Health, loading: false }]
            12007 tick: Unready #1 due - [Check]
            12007 checked: Unready #1 due - [AskHealth]
            12008 loading: Loading #2 due 14008 []
            14008 tick: Loading #2 due - [AskHealth]
            14009 ready: Probing #2 due - [Probe]
            14010 probed: Ready #2 due 16010 [Ready { took_ms: 2002 }]
            last error: refused
        "#]],
    );
}

#[test]
fn an_external_server_that_cannot_decode_is_asked_ever_more_slowly() {
    check(
        EXTERNAL,
        "
        0 tick
        0 checked
        1 ready
        2 probe failed
        1002 tick
        1002 checked
        1002 ready
        1003 probe failed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [AskHealth]
            1 ready: Probing #1 due - [Probe]
            2 probe failed: Unready #1 due 1002 [Down { cause: Probe, loading: false }]
            1002 tick: Unready #1 due - [Check]
            1002 checked: Unready #1 due - [AskHealth]
            1002 ready: Probing #1 due - [Probe]
            1003 probe failed: Unready #1 due 3003 [Down { cause: Probe, loading: false }]
            last error: test decode failed: nothing came
        "#]],
    );
}

// OC-CTRL-2082
#[test]
fn stopping_drains_first_and_ends_stopped() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        0 spawned
        100 tick
        101 ready
        102 probed
        200 drain
        300 stop
        400 exited
        9999 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10000 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: 102 }]
            200 drain: Draining #1 due - []
            300 stop: Draining #1 due 5300 [Terminate]
            400 exited: Stopped #1 due - []
            9999 tick: Stopped #1 due - []
        "#]],
    );
}

// OC-CTRL-2082
#[test]
fn an_engine_that_ignores_sigterm_is_killed_after_the_grace() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        0 spawned
        100 tick
        101 ready
        102 probed
        200 drain
        300 stop
        5299 tick
        5300 tick
        5301 exited",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10000 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: 102 }]
            200 drain: Draining #1 due - []
            300 stop: Draining #1 due 5300 [Terminate]
            5299 tick: Draining #1 due 5300 []
            5300 tick: Draining #1 due - [Kill]
            5301 exited: Stopped #1 due - []
        "#]],
    );
}

#[test]
fn hurry_skips_the_grace() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        0 spawned
        100 tick
        101 ready
        102 probed
        200 drain
        300 stop
        301 hurry
        302 exited",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10000 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: 102 }]
            200 drain: Draining #1 due - []
            300 stop: Draining #1 due 5300 [Terminate]
            301 hurry: Draining #1 due 5300 [Kill]
            302 exited: Stopped #1 due - []
        "#]],
    );
}

// OC-CTRL-2082
#[test]
fn nothing_becomes_ready_while_draining() {
    check(
        MANAGED,
        "
        0 tick
        0 checked
        0 spawned
        100 tick
        101 drain
        102 ready
        103 probed
        200 stop
        201 exited",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 drain: Starting #1 due - []
            102 ready: Starting #1 due - []
            103 probed: Starting #1 due - []
            200 stop: Starting #1 due 5200 [Terminate]
            201 exited: Stopped #1 due - []
        "#]],
    );
}

#[test]
fn a_start_under_way_ends_with_the_drain() {
    check(
        MANAGED,
        "
        0 tick
        1 drain
        2 checked",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 drain: Starting #0 due - []
            2 checked: Stopped #0 due - []
        "#]],
    );
}

#[test]
fn what_waits_for_its_backoff_stops_at_once() {
    check(
        MANAGED,
        "
        0 tick
        1 check failed
        2 drain
        3 stop",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 check failed: Unready #0 due 1001 [Down { cause: Check, loading: true }]
            2 drain: Unready #0 due - []
            3 stop: Stopped #0 due - []
            last error: no model file
        "#]],
    );
}
