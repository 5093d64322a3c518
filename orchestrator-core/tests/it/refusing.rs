//! Replicas that refuse, and the tasks that wait for them.

use expect_test::expect;

use crate::script::{CONFIG, check};

#[test]
fn a_request_that_no_engine_took_is_sent_again_elsewhere() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        0 ready r2 m1
        1 submit t1 m1
        2 refused t1 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: dispatch t1 on r2 attempt 2
        "#]],
    );
}

// OC-CORE-1048
#[test]
fn a_replica_that_refused_is_tried_again_after_pauses_that_grow() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 refused t1 r1
        2 tick
        3 tick
        4 refused t1 r1 attempt=2
        5 tick
        6 refused t1 r1 attempt=3
        7 tick
        8 refused t1 r1 attempt=4
        9 tick
        10 tick
        11 progress t1 r1 attempt=5 out=1
        12 lost t1 r1 attempt=5 out=1
        13 tick
        14 lost t1 r1 attempt=6 out=1
        15 tick
        16 refused t1 r1 attempt=7
        17 tick
        18 done t1 r1 attempt=8",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            3: dispatch t1 on r1 attempt 2
            5: dispatch t1 on r1 attempt 3
            7: dispatch t1 on r1 attempt 4
            10: dispatch t1 on r1 attempt 5
            13: dispatch t1 on r1 attempt 6 after 1 tokens
            15: dispatch t1 on r1 attempt 7 after 2 tokens
            17: dispatch t1 on r1 attempt 8 after 2 tokens
            18: ended t1: Completed
        "#]],
    );
}

// OC-CORE-1048
#[test]
fn requests_that_are_refused_at_once_are_one_refusal() {
    check(
        CONFIG,
        "
        0 ready r1 m1 slots=5
        1 submit t1 m1
        1 submit t2 m1
        1 submit t3 m1
        1 submit t4 m1
        1 submit t5 m1
        2 refused t1 r1
        2 refused t2 r1
        2 refused t3 r1
        2 refused t4 r1
        2 refused t5 r1
        3 tick",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t2 on r1 attempt 1
            1: admitted t3 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t3 on r1 attempt 1
            1: admitted t4 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t4 on r1 attempt 1
            1: admitted t5 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t5 on r1 attempt 1
            3: dispatch t1 on r1 attempt 2
            3: dispatch t2 on r1 attempt 2
            3: dispatch t3 on r1 attempt 2
            3: dispatch t4 on r1 attempt 2
            3: dispatch t5 on r1 attempt 2
        "#]],
    );
}

// OC-CORE-1048
#[test]
fn a_model_whose_replicas_all_refuse_is_as_one_without_a_ready_replica() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 refused t1 r1
        3 tick
        4 ready r1 m1
        5 refused t1 r1 attempt=2
        6 tick
        40 submit t2 m1
        61 refused t1 r1 attempt=3
        62 tick
        64 tick",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            3: dispatch t1 on r1 attempt 2
            6: dispatch t1 on r1 attempt 3
            40: admitted t2 at 0, starts in unknown (p90 unknown)
            62: ended t1: NoReplica { coming: true }
            62: dispatch t2 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1048
#[test]
fn nothing_is_given_up_while_a_replica_that_refused_is_tried() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 refused t1 r1
        3 tick
        4 submit t2 m1
        70 tick
        71 progress t1 r1 attempt=2 out=1
        72 tick
        80 done t1 r1 attempt=2 out=2
        80 free t1 r1 attempt=2",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            3: dispatch t1 on r1 attempt 2
            4: admitted t2 at 0, starts in unknown (p90 unknown)
            80: ended t1: Completed
            80: dispatch t2 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1048, ORCH-4021, ORCH-3080
#[test]
fn a_refusal_is_no_start_that_a_time_to_live_or_a_deadline_would_stop_at() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1 ttl=4
        2 refused t1 r1
        3 tick
        4 refused t1 r1 attempt=2
        5 tick
        6 submit t2 m1 deadline=3
        7 refused t2 r1
        8 tick
        9 refused t2 r1 attempt=2
        10 tick",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            3: dispatch t1 on r1 attempt 2
            5: ended t1: Expired
            6: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            6: dispatch t2 on r1 attempt 1
            8: dispatch t2 on r1 attempt 2
            10: ended t2: Late
        "#]],
    );
}

// OC-CORE-1048
#[test]
fn a_replica_that_has_not_refused_comes_before_those_that_have() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        0 ready r2 m1
        0 ready r3 m1
        1 submit t1 m1
        3 refused t1 r1
        3 free t1 r1
        5 tick
        6 refused t1 r2 attempt=2
        6 free t1 r2 attempt=2
        9 refused t1 r3 attempt=3
        9 free t1 r3 attempt=3
        63 refused t1 r1 attempt=4
        67 refused t1 r2 attempt=5
        72 refused t1 r3 attempt=6
        80 refused t1 r1 attempt=7",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            3: dispatch t1 on r2 attempt 2
            6: dispatch t1 on r3 attempt 3
            9: dispatch t1 on r1 attempt 4
            63: dispatch t1 on r2 attempt 5
            67: dispatch t1 on r3 attempt 6
            72: ended t1: NoReplica { coming: true }
        "#]],
    );
}

// OC-CORE-1048
#[test]
fn a_replica_that_nobody_is_left_to_try_is_as_good_as_any() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 refused t1 r1
        2 cancel t1
        3 tick
        4 submit t2 m1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: ended t1: Cancelled
            4: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            4: dispatch t2 on r1 attempt 1
        "#]],
    );
}
