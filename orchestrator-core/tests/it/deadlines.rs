//! Order inside a lane, and time that runs out.

use expect_test::expect;
use orchestrator_core::CoreConfig;

use crate::script::{CONFIG, check, run};

const ROOMY: CoreConfig = CoreConfig { queue_capacity: 100, ..CONFIG };

/// Teaches that 20 tokens take a second.
const LEARNED: &str = "
    0 ready r1 m1
    1 submit t1 m1 expected=20
    1 progress t1 r1 out=1
    2 done t1 r1 out=21
    3 submit t2 m1 expected=20
    3 progress t2 r1 out=1
    4 done t2 r1 out=21
";

// OC-CORE-1041, ORCH-3079
#[test]
fn the_earliest_deadline_goes_first_then_arrival() {
    check(
        ROOMY,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1
        2 submit t3 m1 deadline=20
        2 submit t4 m1 deadline=10
        2 submit t5 m1 deadline=100
        3 done t1 r1
        4 done t4 r1
        5 done t3 r1
        6 done t2 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            2: admitted t3 at 0, starts in 1.0s (p90 1.8s)
            2: admitted t4 at 0, starts in 1.0s (p90 1.8s)
            2: admitted t5 at 3, starts in 4.0s (p90 5.6s)
            3: ended t1: Completed
            3: dispatch t4 on r1 attempt 1
            4: ended t4: Completed
            4: dispatch t3 on r1 attempt 1
            5: ended t3: Completed
            5: dispatch t2 on r1 attempt 1
            6: ended t2: Completed
            6: dispatch t5 on r1 attempt 1
        "#]],
    );
}

// ORCH-4021
#[test]
fn a_task_waits_no_longer_than_its_time_to_live() {
    check(
        ROOMY,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1 ttl=5
        2 submit t3 m1 ttl=9
        6.9 tick
        7 tick
        8 done t1 r1
        20 tick",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            2: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            7: ended t2: Expired
            8: ended t1: Completed
            8: dispatch t3 on r1 attempt 1
        "#]],
    );
}

// ORCH-3079, ORCH-3080, OC-CTRL-2023
#[test]
fn a_deadline_that_cannot_be_met_is_refused_with_the_earliest() {
    let script = format!(
        "{LEARNED}
        5 submit t3 m1 expected=20
        5 submit t4 m1 expected=20 deadline=1
        5 submit t5 m1 expected=20 deadline=4
        5 submit t6 m1 expected=20 deadline=0"
    );
    check(
        ROOMY,
        &script,
        expect![[r#"
        1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
        1: dispatch t1 on r1 attempt 1
        2: ended t1: Completed
        3: admitted t2 at 0, starts in 0.0s (p90 0.0s)
        3: dispatch t2 on r1 attempt 1
        4: ended t2: Completed
        5: admitted t3 at 0, starts in 0.0s (p90 0.0s)
        5: dispatch t3 on r1 attempt 1
        5: rejected t4: DeadlineUnmet { earliest: Micros(2000000) }
        5: admitted t5 at 0, starts in 1.0s (p90 1.6s)
        5: rejected t6: DeadlineUnmet { earliest: Micros(2000000) }
    "#]],
    );
}

// ORCH-3080
#[test]
fn a_queued_task_that_became_late_makes_way_at_once() {
    let script = format!(
        "{LEARNED}
        5 submit t3 m1 expected=20
        5 submit t4 m1 expected=20 deadline=4
        7.9 tick
        8.2 tick
        9 done t3 r1"
    );
    check(
        ROOMY,
        &script,
        expect![[r#"
        1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
        1: dispatch t1 on r1 attempt 1
        2: ended t1: Completed
        3: admitted t2 at 0, starts in 0.0s (p90 0.0s)
        3: dispatch t2 on r1 attempt 1
        4: ended t2: Completed
        5: admitted t3 at 0, starts in 0.0s (p90 0.0s)
        5: dispatch t3 on r1 attempt 1
        5: admitted t4 at 0, starts in 1.0s (p90 1.6s)
        8.2: ended t4: Late
        9: ended t3: Completed
    "#]],
    );
}

// ORCH-3081
#[test]
fn the_chance_to_be_on_time_falls_while_a_task_waits() {
    let waiting = |until: &str| {
        let script = format!(
            "{LEARNED}
            5 submit t3 m1 expected=20
            5 submit t4 m1 expected=20 deadline=5
            {until}"
        );
        run(ROOMY, &script).1.on_time_permille(orchestrator_core::TaskId(4))
    };
    assert_eq!(waiting("5 tick"), Some(1_000));
    assert_eq!(waiting("8.5 tick"), Some(0), "a second to start and one to run: 0.5 s are missing");
    assert_eq!(waiting("5 cancel t4"), None);
}

// OC-CORE-1003
#[test]
fn absurd_sizes_and_times_are_only_large() {
    check(
        ROOMY,
        "
        0 ready r1 m1 ctx=0
        1 submit t1 m1 prompt=4294967295 max=4294967295 expected=1000000000
        2 submit t2 m1 deadline=18446744073709 ttl=18446744073709
        3 done t1 r1 prompt=4294967295 out=4294967295",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            3: ended t1: Completed
            3: dispatch t2 on r1 attempt 1
        "#]],
    );
}
