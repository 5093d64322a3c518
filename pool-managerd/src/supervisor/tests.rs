//! A script of timed events in, the timeline of states and effects out.

use std::num::NonZeroU32;

use adapter_api::Properties;
use config_schema::Restart;
use expect_test::{Expect, expect};

use super::{Answer, Effect, Event, Failure, Policy, Supervisor};

const MANAGED: Policy = Policy {
    managed: true,
    on_demand: false,
    start_timeout_ms: 10_000,
    stop_grace_ms: 5_000,
    restart: Restart {
        backoff_ms: 1_000,
        backoff_max_ms: 4_000,
        breaker_failures: NonZeroU32::new(6).unwrap(),
        breaker_ms: 60_000,
    },
};
const EXTERNAL: Policy = Policy { managed: false, ..MANAGED };
const ON_DEMAND: Policy = Policy { on_demand: true, ..MANAGED };

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
        let effects: Vec<Effect> = if event == "succeeded" {
            // By the supervisor of another manager, whose time begins anew.
            let standing = supervisor.standing(now);
            supervisor = Supervisor::new(policy);
            supervisor.inherit(standing);
            Vec::new()
        } else {
            supervisor.apply(now, parse(event), random)
        };
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
        context_tokens: Some(8),
        slots: Some(1),
        chat_template: false,
    };
    match event {
        "tick" => Event::Tick,
        "spawned" => Event::Spawned,
        "checked" => Event::Checked(Ok(())),
        "reserved" => Event::Reserved(Ok(())),
        "no memory" => Event::Reserved(Err("others hold it".into())),
        "load" => Event::Load,
        "unload" => Event::Unload { patience_ms: 1_000 },
        "idle" => Event::Idle,
        "progressed" => Event::Progressed { permille: 500 },
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
        1 reserved
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
            1 checked: Starting #0 due - [Reserve]
            1 reserved: Starting #0 due - [Spawn]
            2 spawned: Starting #1 due 102 []
            102 tick: Starting #1 due - [AskHealth]
            103 silent: Starting #1 due 203 []
            203 tick: Starting #1 due - [AskHealth]
            204 loading: Loading #1 due 304 []
            304 tick: Loading #1 due - [AskHealth]
            305 ready: Probing #1 due 10305 [Probe]
            310 probed: Ready #1 due 2310 [Ready { took_ms: Some(308) }]
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
        0 reserved
        0 spawn failed
        250 tick
        250 checked
        250 reserved
        250 spawn failed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            0 spawn failed: Unready #0 due 250 [Down { cause: Spawn, loading: true }]
            250 tick: Unready #0 due - [Check]
            250 checked: Unready #0 due - [Reserve]
            250 reserved: Unready #0 due - [Spawn]
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
        0 reserved
        0 spawned
        100 tick
        101 ready
        102 probed
        500 exited
        1500 tick
        1501 checked
        1501 reserved
        1502 spawned",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10101 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: Some(102) }]
            500 exited: Backoff #1 due 1500 [Down { cause: Exit, loading: false }]
            1500 tick: Backoff #1 due - [Check]
            1501 checked: Backoff #1 due - [Reserve]
            1501 reserved: Backoff #1 due - [Spawn]
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
        0 reserved
        0 spawned
        10 exited
        1010 tick
        1010 checked
        1010 reserved
        1010 spawned
        1020 exited
        3020 tick
        3020 checked
        3020 reserved
        3020 spawned
        3030 exited
        7030 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            10 exited: Backoff #1 due 1010 [Down { cause: Exit, loading: true }]
            1010 tick: Backoff #1 due - [Check]
            1010 checked: Backoff #1 due - [Reserve]
            1010 reserved: Backoff #1 due - [Spawn]
            1010 spawned: Starting #2 due 1110 [Restarted { cause: Exit }]
            1020 exited: Backoff #2 due 3020 [Down { cause: Exit, loading: true }]
            3020 tick: Backoff #2 due - [Check]
            3020 checked: Backoff #2 due - [Reserve]
            3020 reserved: Backoff #2 due - [Spawn]
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
        1001 reserved
        1002 spawned
        1102 tick
        1103 ready
        1104 probed
        70000 exited",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 check failed: Unready #0 due 1001 [Down { cause: Check, loading: true }]
            1001 tick: Unready #0 due - [Check]
            1001 checked: Unready #0 due - [Reserve]
            1001 reserved: Unready #0 due - [Spawn]
            1002 spawned: Starting #1 due 1102 []
            1102 tick: Starting #1 due - [AskHealth]
            1103 ready: Probing #1 due 11103 [Probe]
            1104 probed: Ready #1 due 3104 [Ready { took_ms: Some(102) }]
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
        1001 reserved
        1002 spawned
        1102 tick
        1103 ready
        1104 probed
        30000 exited",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 check failed: Unready #0 due 1001 [Down { cause: Check, loading: true }]
            1001 tick: Unready #0 due - [Check]
            1001 checked: Unready #0 due - [Reserve]
            1001 reserved: Unready #0 due - [Spawn]
            1002 spawned: Starting #1 due 1102 []
            1102 tick: Starting #1 due - [AskHealth]
            1103 ready: Probing #1 due 11103 [Probe]
            1104 probed: Ready #1 due 3104 [Ready { took_ms: Some(102) }]
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
        0 reserved
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
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10101 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: Some(102) }]
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
        0 reserved
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
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10101 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: Some(102) }]
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
        0 reserved
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
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10101 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: Some(102) }]
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
        0 reserved
        1 spawned
        101 tick
        102 loading
        10001 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            1 spawned: Starting #1 due 101 []
            101 tick: Starting #1 due - [AskHealth]
            102 loading: Loading #1 due 202 []
            10001 tick: Backoff #1 due 11001 [Down { cause: StartTimeout, loading: true }, Kill]
            last error: engine made no progress for 10000 ms while it started
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
        0 reserved
        1 spawned
        101 tick
        102 ready
        10101 tick
        10102 tick
        10103 probed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            1 spawned: Starting #1 due 101 []
            101 tick: Starting #1 due - [AskHealth]
            102 ready: Probing #1 due 10102 [Probe]
            10101 tick: Probing #1 due 10102 []
            10102 tick: Backoff #1 due 11102 [Down { cause: StartTimeout, loading: true }, Kill]
            10103 probed: Backoff #1 due 11102 []
            last error: engine made no progress for 10000 ms while it started
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
        0 reserved
        1 spawned
        101 tick
        102 ready
        103 probe failed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            1 spawned: Starting #1 due 101 []
            101 tick: Starting #1 due - [AskHealth]
            102 ready: Probing #1 due 10102 [Probe]
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
            4004 probed: Ready #1 due 6004 [Ready { took_ms: Some(1) }]
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
            14010 probed: Ready #2 due 16010 [Ready { took_ms: Some(2002) }]
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
        0 reserved
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
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10101 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: Some(102) }]
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
        0 reserved
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
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10101 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: Some(102) }]
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
        0 reserved
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
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
            0 spawned: Starting #1 due 100 []
            100 tick: Starting #1 due - [AskHealth]
            101 ready: Probing #1 due 10101 [Probe]
            102 probed: Ready #1 due 2102 [Ready { took_ms: Some(102) }]
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
        0 reserved
        0 spawned
        100 tick
        101 drain
        102 ready
        103 probed
        200 stop
        201 exited",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            0 checked: Starting #0 due - [Reserve]
            0 reserved: Starting #0 due - [Spawn]
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
        2 checked
        2 reserved",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 drain: Starting #0 due - []
            2 checked: Stopped #0 due - []
            2 reserved: Stopped #0 due - []
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

// OC-POOL-3002
#[test]
fn a_model_on_demand_is_checked_loaded_by_order_and_unloaded_when_it_is_idle() {
    check(
        ON_DEMAND,
        "
        0 tick
        1 checked
        2 load
        2 tick
        3 checked
        3 reserved
        4 spawned
        104 tick
        105 ready
        110 probed
        200 unload
        250 idle
        260 exited
        300 load
        300 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 checked: Unloaded #0 due - []
            2 load: Starting #0 due 2 []
            2 tick: Starting #0 due - [Check]
            3 checked: Starting #0 due - [Reserve]
            3 reserved: Starting #0 due - [Spawn]
            4 spawned: Starting #1 due 104 []
            104 tick: Starting #1 due - [AskHealth]
            105 ready: Probing #1 due 10105 [Probe]
            110 probed: Ready #1 due 2110 [Ready { took_ms: Some(106) }]
            200 unload: Draining #1 due 1200 [AwaitIdle]
            250 idle: Draining #1 due 5250 [Terminate]
            260 exited: Unloaded #1 due - []
            300 load: Starting #1 due 300 []
            300 tick: Starting #1 due - [Check]
        "#]],
    );
}

// OC-POOL-3043
#[test]
fn a_busy_engine_is_not_unloaded_and_an_order_may_be_taken_back() {
    check(
        ON_DEMAND,
        "
        0 tick
        1 checked
        2 load
        2 tick
        3 checked
        3 reserved
        4 spawned
        104 tick
        105 ready
        110 probed
        200 unload
        1200 tick
        1300 unload
        1310 load
        1320 idle
        1400 unload
        1410 idle
        1420 load
        1500 exited
        1500 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 checked: Unloaded #0 due - []
            2 load: Starting #0 due 2 []
            2 tick: Starting #0 due - [Check]
            3 checked: Starting #0 due - [Reserve]
            3 reserved: Starting #0 due - [Spawn]
            4 spawned: Starting #1 due 104 []
            104 tick: Starting #1 due - [AskHealth]
            105 ready: Probing #1 due 10105 [Probe]
            110 probed: Ready #1 due 2110 [Ready { took_ms: Some(106) }]
            200 unload: Draining #1 due 1200 [AwaitIdle]
            1200 tick: Ready #1 due 3200 [Forget]
            1300 unload: Draining #1 due 2300 [AwaitIdle]
            1310 load: Ready #1 due 3310 []
            1320 idle: Ready #1 due 3310 []
            1400 unload: Draining #1 due 2400 [AwaitIdle]
            1410 idle: Draining #1 due 6410 [Terminate]
            1420 load: Draining #1 due 6410 []
            1500 exited: Starting #1 due 1500 []
            1500 tick: Starting #1 due - [Check]
        "#]],
    );
}

// OC-POOL-3043
#[test]
fn a_load_that_is_not_wanted_any_more_ends_where_it_stands() {
    check(
        ON_DEMAND,
        "
        0 tick
        1 load
        2 checked
        3 unload
        4 reserved
        5 load
        5 tick
        6 checked
        6 reserved
        7 spawned
        8 unload
        5008 tick
        5010 exited",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 load: Starting #0 due - []
            2 checked: Starting #0 due - [Reserve]
            3 unload: Unloaded #0 due - [Forget]
            4 reserved: Unloaded #0 due - []
            5 load: Starting #0 due 5 []
            5 tick: Starting #0 due - [Check]
            6 checked: Starting #0 due - [Reserve]
            6 reserved: Starting #0 due - [Spawn]
            7 spawned: Starting #1 due 107 []
            8 unload: Draining #1 due 5008 [Terminate]
            5008 tick: Draining #1 due - [Kill]
            5010 exited: Unloaded #1 due - []
        "#]],
    );
}

// OC-POOL-3002, OC-POOL-3011
#[test]
fn a_load_that_fails_is_over_and_may_be_ordered_again_after_its_backoff() {
    check(
        ON_DEMAND,
        "
        0 tick
        1 checked
        2 load
        2 tick
        3 checked
        4 no memory
        1004 tick
        1005 load
        1005 tick
        1006 checked
        1006 reserved
        1007 spawned
        1008 exited
        3008 tick
        3009 load
        3009 tick
        3010 check failed
        7010 tick
        7011 checked",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 checked: Unloaded #0 due - []
            2 load: Starting #0 due 2 []
            2 tick: Starting #0 due - [Check]
            3 checked: Starting #0 due - [Reserve]
            4 no memory: Backoff #0 due 1004 [Down { cause: Memory, loading: true }]
            1004 tick: Unloaded #0 due - []
            1005 load: Starting #0 due 1005 []
            1005 tick: Starting #0 due - [Check]
            1006 checked: Starting #0 due - [Reserve]
            1006 reserved: Starting #0 due - [Spawn]
            1007 spawned: Starting #1 due 1107 []
            1008 exited: Backoff #1 due 3008 [Down { cause: Exit, loading: true }]
            3008 tick: Unloaded #1 due - []
            3009 load: Starting #1 due 3009 []
            3009 tick: Starting #1 due - [Check]
            3010 check failed: Unready #1 due 7010 [Down { cause: Check, loading: true }]
            7010 tick: Unready #1 due - [Check]
            7011 checked: Unloaded #1 due - []
            last error: no model file
        "#]],
    );
}

// OC-POOL-3011
#[test]
fn after_too_many_failures_in_a_row_an_engine_rests_and_is_tried_once() {
    let crash = |at: u64| {
        let lines = ["tick", "checked", "reserved", "spawned", "exited"];
        lines.map(|it| format!("{at} {it}")).join("\n")
    };
    let mut script: Vec<String> = [0, 1_000, 3_000, 7_000, 11_000, 15_000].map(crash).into();
    script.push(crash(75_000));
    script.push("135000 tick\n135000 checked\n135000 reserved\n135000 spawned".into());
    script.push("135100 tick\n135101 ready\n135110 probed\n195200 exited".into());
    check(
        MANAGED,
        &script.join("\n"),
        expect![[r#"
        0 tick: Starting #0 due - [Check]
        0 checked: Starting #0 due - [Reserve]
        0 reserved: Starting #0 due - [Spawn]
        0 spawned: Starting #1 due 100 []
        0 exited: Backoff #1 due 1000 [Down { cause: Exit, loading: true }]
        1000 tick: Backoff #1 due - [Check]
        1000 checked: Backoff #1 due - [Reserve]
        1000 reserved: Backoff #1 due - [Spawn]
        1000 spawned: Starting #2 due 1100 [Restarted { cause: Exit }]
        1000 exited: Backoff #2 due 3000 [Down { cause: Exit, loading: true }]
        3000 tick: Backoff #2 due - [Check]
        3000 checked: Backoff #2 due - [Reserve]
        3000 reserved: Backoff #2 due - [Spawn]
        3000 spawned: Starting #3 due 3100 [Restarted { cause: Exit }]
        3000 exited: Backoff #3 due 7000 [Down { cause: Exit, loading: true }]
        7000 tick: Backoff #3 due - [Check]
        7000 checked: Backoff #3 due - [Reserve]
        7000 reserved: Backoff #3 due - [Spawn]
        7000 spawned: Starting #4 due 7100 [Restarted { cause: Exit }]
        7000 exited: Backoff #4 due 11000 [Down { cause: Exit, loading: true }]
        11000 tick: Backoff #4 due - [Check]
        11000 checked: Backoff #4 due - [Reserve]
        11000 reserved: Backoff #4 due - [Spawn]
        11000 spawned: Starting #5 due 11100 [Restarted { cause: Exit }]
        11000 exited: Backoff #5 due 15000 [Down { cause: Exit, loading: true }]
        15000 tick: Backoff #5 due - [Check]
        15000 checked: Backoff #5 due - [Reserve]
        15000 reserved: Backoff #5 due - [Spawn]
        15000 spawned: Starting #6 due 15100 [Restarted { cause: Exit }]
        15000 exited: Unready #6 due 75000 [Down { cause: Exit, loading: true }]
        75000 tick: Unready #6 due - [Check]
        75000 checked: Unready #6 due - [Reserve]
        75000 reserved: Unready #6 due - [Spawn]
        75000 spawned: Starting #7 due 75100 [Restarted { cause: Exit }]
        75000 exited: Unready #7 due 135000 [Down { cause: Exit, loading: true }]
        135000 tick: Unready #7 due - [Check]
        135000 checked: Unready #7 due - [Reserve]
        135000 reserved: Unready #7 due - [Spawn]
        135000 spawned: Starting #8 due 135100 [Restarted { cause: Exit }]
        135100 tick: Starting #8 due - [AskHealth]
        135101 ready: Probing #8 due 145101 [Probe]
        135110 probed: Ready #8 due 137110 [Ready { took_ms: Some(110) }]
        195200 exited: Backoff #8 due 196200 [Down { cause: Exit, loading: false }]
        last error: exit code 1
    "#]],
    );
}

// OC-POOL-3042
#[test]
fn a_load_has_as_long_as_it_gets_on() {
    check(
        MANAGED,
        "
        0 tick
        1 checked
        1 reserved
        2 spawned
        9000 tick
        9000 progressed
        9000 loading
        18999 tick
        18999 progressed
        18999 loading
        19099 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 checked: Starting #0 due - [Reserve]
            1 reserved: Starting #0 due - [Spawn]
            2 spawned: Starting #1 due 102 []
            9000 tick: Starting #1 due - [AskHealth]
            9000 progressed: Starting #1 due - []
            9000 loading: Loading #1 due 9100 []
            18999 tick: Loading #1 due - [AskHealth]
            18999 progressed: Loading #1 due - []
            18999 loading: Loading #1 due 19099 []
            19099 tick: Backoff #1 due 20099 [Down { cause: StartTimeout, loading: true }, Kill]
            last error: engine made no progress for 10000 ms while it started
        "#]],
    );
}

// OC-POOL-3047
#[test]
fn a_successor_goes_on_with_the_failures_and_the_wait_of_the_one_before() {
    let twice = NonZeroU32::new(2).unwrap();
    let policy =
        Policy { restart: Restart { breaker_failures: twice, ..MANAGED.restart }, ..MANAGED };
    check(
        policy,
        "
        0 tick
        1 checked
        1 reserved
        2 spawned
        10 exited
        510 succeeded
        500 tick
        501 checked
        501 reserved
        502 spawned
        510 exited
        20510 succeeded
        39999 tick
        40000 tick",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 checked: Starting #0 due - [Reserve]
            1 reserved: Starting #0 due - [Spawn]
            2 spawned: Starting #1 due 102 []
            10 exited: Backoff #1 due 1010 [Down { cause: Exit, loading: true }]
            510 succeeded: Backoff #1 due 500 []
            500 tick: Backoff #1 due - [Check]
            501 checked: Backoff #1 due - [Reserve]
            501 reserved: Backoff #1 due - [Spawn]
            502 spawned: Starting #2 due 602 [Restarted { cause: Exit }]
            510 exited: Unready #2 due 60510 [Down { cause: Exit, loading: true }]
            20510 succeeded: Unready #2 due 40000 []
            39999 tick: Unready #2 due 40000 []
            40000 tick: Unready #2 due - [Check]
            last error: given up for 60 s after 2 failures in a row: exit code 1
        "#]],
    );
}

// OC-POOL-3047
#[test]
fn what_ran_long_enough_before_the_succession_leaves_no_failures() {
    check(
        MANAGED,
        "
        0 tick
        1 checked
        1 reserved
        2 spawned
        10 exited
        1010 tick
        1011 checked
        1011 reserved
        1012 spawned
        1112 tick
        1113 ready
        1114 probed
        61114 succeeded
        0 tick
        1 check failed",
        expect![[r#"
            0 tick: Starting #0 due - [Check]
            1 checked: Starting #0 due - [Reserve]
            1 reserved: Starting #0 due - [Spawn]
            2 spawned: Starting #1 due 102 []
            10 exited: Backoff #1 due 1010 [Down { cause: Exit, loading: true }]
            1010 tick: Backoff #1 due - [Check]
            1011 checked: Backoff #1 due - [Reserve]
            1011 reserved: Backoff #1 due - [Spawn]
            1012 spawned: Starting #2 due 1112 [Restarted { cause: Exit }]
            1112 tick: Starting #2 due - [AskHealth]
            1113 ready: Probing #2 due 11113 [Probe]
            1114 probed: Ready #2 due 3114 [Ready { took_ms: Some(102) }]
            61114 succeeded: Starting #2 due 0 []
            0 tick: Starting #2 due - [Check]
            1 check failed: Unready #2 due 1001 [Down { cause: Check, loading: true }]
            last error: no model file
        "#]],
    );
}
