//! Engines that die, and tasks that kill them.

use expect_test::expect;
use orchestrator_core::CoreConfig;

use crate::script::{CONFIG, check};

const ROOMY: CoreConfig = CoreConfig { queue_capacity: 100, ..CONFIG };

// ORCH-4007
#[test]
fn what_was_decoding_goes_on_elsewhere_with_its_tokens() {
    check(
        ROOMY,
        "
        0 ready r1 m1 slots=2
        0 ready r2 m1 slots=2
        1 submit t1 m1
        1 submit t2 m1
        2 progress t1 r1 out=5
        3 crash r1
        4 done t1 r1 out=9
        5 done t1 r2 attempt=2 out=4",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t2 on r2 attempt 1
            3: dispatch t1 on r2 attempt 2 after 5 tokens
            5: ended t1: Completed
        "#]],
    );
}

// ORCH-4007
#[test]
fn a_task_that_kills_engines_before_its_first_token_ends_after_two() {
    check(
        ROOMY,
        "
        0 ready r1 m1 slots=2
        0 ready r2 m1 slots=2
        1 submit t1 m1
        1 submit t2 m1
        1 submit t3 m1
        2 progress t1 r1 out=5
        3 crash r1
        4 coming r1 m1 inc=2 slots=2
        5 ready r1 m1 inc=2 slots=2
        6 crash r1 inc=2",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t2 on r2 attempt 1
            1: admitted t3 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t3 on r1 attempt 1
            3: dispatch t1 on r2 attempt 2 after 5 tokens
            5: dispatch t3 on r1 attempt 2
            6: ended t3: Poison
        "#]],
    );
}

// ORCH-4007
#[test]
fn an_innocent_is_cleared_by_its_first_token_and_shares_again() {
    check(
        ROOMY,
        "
        0 ready r1 m1 slots=2
        1 submit t1 m1
        2 crash r1
        3 coming r1 m1 inc=2 slots=2
        4 submit t2 m1
        5 ready r1 m1 inc=2 slots=2
        6 progress t1 r1 attempt=2 out=1
        7 done t1 r1 attempt=2 out=20",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            4: admitted t2 at 0, starts in unknown (p90 unknown)
            5: dispatch t1 on r1 attempt 2
            6: dispatch t2 on r1 attempt 1
            7: ended t1: Completed
        "#]],
    );
}

// ORCH-4007
#[test]
fn a_suspect_gets_a_replica_of_its_own_even_if_all_are_busy() {
    check(
        ROOMY,
        "
        0 ready r1 m1 slots=2
        0 ready r2 m1 slots=2
        1 submit t1 m1
        2 submit t2 m1
        3 submit t3 m1
        4 progress t2 r2 out=5
        4 progress t3 r1 out=5
        5 crash r1
        6 down r1 m1 inc=2
        7 submit t4 m1
        8 done t2 r2 out=9
        9 done t3 r2 attempt=2 out=9
        10 progress t1 r2 attempt=2 out=1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            2: dispatch t2 on r2 attempt 1
            3: admitted t3 at 0, starts in 0.0s (p90 0.0s)
            3: dispatch t3 on r1 attempt 1
            5: dispatch t3 on r2 attempt 2 after 5 tokens
            7: admitted t4 at 0, starts in 1.4s (p90 2.5s)
            8: ended t2: Completed
            9: ended t3: Completed
            9: dispatch t1 on r2 attempt 2
            10: dispatch t4 on r2 attempt 1
        "#]],
    );
}

// ORCH-4003
#[test]
fn what_an_engine_lost_goes_on_elsewhere_at_once_and_there_after_a_pause() {
    check(
        ROOMY,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 lost t1 r1 out=5
        2.1 tick
        2.25 tick
        3 ready r2 m1
        4 lost t1 r1 attempt=2 out=3
        5 done t1 r2 attempt=3 out=4",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2.25: dispatch t1 on r1 attempt 2 after 5 tokens
            4: dispatch t1 on r2 attempt 3 after 8 tokens
            5: ended t1: Completed
        "#]],
    );
}

// ORCH-4003
#[test]
fn what_is_lost_three_times_ends() {
    check(
        ROOMY,
        "
        0 ready r1 m1
        0 ready r2 m1
        0 ready r3 m1
        1 submit t1 m1
        2 lost t1 r1 out=5
        3 lost t1 r2 attempt=2 out=5
        4 lost t1 r3 attempt=3 out=5",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: dispatch t1 on r2 attempt 2 after 5 tokens
            3: dispatch t1 on r3 attempt 3 after 10 tokens
            4: ended t1: AttemptsExhausted
        "#]],
    );
}

// ORCH-4007, OC-CORE-1048
#[test]
fn an_isolated_task_waits_for_a_busy_replica_rather_than_for_one_that_refuses() {
    check(
        ROOMY,
        "
        0 ready r1 m1
        0 ready r2 m1 slots=2
        1 submit t1 m1
        1 submit t2 m1
        2 crash r1
        3 ready r1 m1 inc=2
        4 refused t2 r1 attempt=2
        4 free t2 r1 attempt=2
        5 submit t3 m1
        6 tick
        7 done t1 r2
        7 free t1 r2
        8 tick",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r2 attempt 1
            1: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t2 on r1 attempt 1
            3: dispatch t2 on r1 attempt 2
            5: admitted t3 at 0, starts in 0.5s (p90 0.9s)
            5: dispatch t3 on r1 attempt 1
            7: ended t1: Completed
            7: dispatch t2 on r2 attempt 3
        "#]],
    );
}

// ORCH-4007
#[test]
fn an_isolated_task_gets_another_replica_where_the_one_set_aside_goes_down() {
    check(
        ROOMY,
        "
        0 ready r1 m1 slots=2
        0 ready r2 m1 slots=2
        0 ready r3 m1 slots=2
        1 submit t1 m1
        1 submit t2 m1
        1 submit t3 m1
        2 crash r2
        3 down r2 m1 slots=2
        4 down r1 m1 slots=2
        5 progress t3 r3 out=1
        6 submit t4 m1
        7 done t3 r3 out=2
        7 free t3 r3",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t2 on r2 attempt 1
            1: admitted t3 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t3 on r3 attempt 1
            6: admitted t4 at 0, starts in 2.5s (p90 4.5s)
            7: ended t3: Completed
            7: dispatch t2 on r3 attempt 2
        "#]],
    );
}
