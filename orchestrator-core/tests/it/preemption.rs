//! Batch work that is stopped for interactive work, and goes on later.

use expect_test::expect;
use orchestrator_core::{Class, CoreConfig, ModelId, TenantId};

use crate::script::{CONFIG, check, run};

const HARD: CoreConfig = CoreConfig { queue_capacity: 100, preemptions_per_min: 3, ..CONFIG };

const SCRIPT: &str = "
    0 ready r1 m1 interruptible
    1 submit t1 m1 batch tenant=1 prompt=100 max=100
    2 progress t1 r1 prompt=100 out=30
    3 submit t2 m1 tenant=2
    4 stopped t1 r1 prompt=100 out=40
    5 done t2 r1 out=20
    6 done t1 r1 attempt=2 out=60
";

// OC-CORE-1043, ORCH-3086, ORCH-3087
#[test]
fn a_stopped_task_keeps_its_tokens_and_goes_on() {
    check(
        HARD,
        SCRIPT,
        expect![[r#"
        1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
        1: dispatch t1 on r1 attempt 1
        3: admitted t2 at 0, starts in 1.1s (p90 1.9s)
        3: preempt t1 on r1 attempt 1
        4: dispatch t2 on r1 attempt 1
        5: ended t2: Completed
        5: dispatch t1 on r1 attempt 2 after 40 tokens
        6: ended t1: Completed
    "#]],
    );
}

// OC-CORE-1043, OC-CORE-1040
#[test]
fn what_is_computed_again_is_paid_by_who_caused_it() {
    let (_, core) = run(HARD, SCRIPT);
    let victim = core.account(ModelId(1), Class::Batch, TenantId(1));
    assert_eq!(victim.charged_milli, (100 + 2 * 100) * 1_000);
    let cause = core.account(ModelId(1), Class::Interactive, TenantId(2));
    assert_eq!(cause.charged_milli, (10 + 2 * 20 + 100 + 40) * 1_000);
}

// OC-CORE-1043, ORCH-3085
#[test]
fn soft_preemption_and_engines_that_cannot_stop_let_batch_finish() {
    let soft = CoreConfig { preemptions_per_min: 0, ..HARD };
    let until_wait = SCRIPT.split_once("4 stopped").unwrap().0;
    let (timeline, _) = run(soft, until_wait);
    assert!(!timeline.contains("preempt"), "{timeline}");
    let (timeline, _) = run(HARD, &until_wait.replace(" interruptible", ""));
    assert!(!timeline.contains("preempt"), "{timeline}");
    let (timeline, _) = run(HARD, &until_wait.replace("batch tenant=1", "batch tenant=1 fixed"));
    assert!(!timeline.contains("preempt"), "what cannot go on is not stopped: {timeline}");
    let (timeline, _) = run(HARD, until_wait);
    assert!(timeline.contains("preempt"), "{timeline}");
}

// OC-CORE-1043
#[test]
fn no_task_is_stopped_a_third_time_nor_near_its_end_nor_too_many_a_minute() {
    check(
        HARD,
        "
        0 ready r1 m1 interruptible
        1 submit t1 m1 batch max=100
        2 submit t2 m1
        3 stopped t1 r1 out=10
        4 done t2 r1
        5 submit t3 m1
        6 stopped t1 r1 attempt=2 out=10
        7 done t3 r1
        8 submit t4 m1
        9 done t1 r1 attempt=3
        10 done t4 r1
        11 submit t5 m1 batch max=100
        12 progress t5 r1 out=91
        13 submit t6 m1
        14 done t5 r1
        15 done t6 r1
        16 submit t7 m1 batch max=100
        17 submit t8 m1
        18 stopped t7 r1
        19 done t8 r1
        20 submit t9 m1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            2: preempt t1 on r1 attempt 1
            3: dispatch t2 on r1 attempt 1
            4: ended t2: Completed
            4: dispatch t1 on r1 attempt 2 after 10 tokens
            5: admitted t3 at 0, starts in 1.0s (p90 1.8s)
            5: preempt t1 on r1 attempt 2
            6: dispatch t3 on r1 attempt 1
            7: ended t3: Completed
            7: dispatch t1 on r1 attempt 3 after 20 tokens
            8: admitted t4 at 0, starts in 1.0s (p90 1.6s)
            9: ended t1: Completed
            9: dispatch t4 on r1 attempt 1
            10: ended t4: Completed
            11: admitted t5 at 0, starts in 0.0s (p90 0.0s)
            11: dispatch t5 on r1 attempt 1
            13: admitted t6 at 0, starts in 1.1s (p90 1.7s)
            14: ended t5: Completed
            14: dispatch t6 on r1 attempt 1
            15: ended t6: Completed
            16: admitted t7 at 0, starts in 0.0s (p90 0.0s)
            16: dispatch t7 on r1 attempt 1
            17: admitted t8 at 0, starts in 1.3s (p90 2.3s)
            17: preempt t7 on r1 attempt 1
            18: dispatch t8 on r1 attempt 1
            19: ended t8: Completed
            19: dispatch t7 on r1 attempt 2
            20: admitted t9 at 0, starts in 1.2s (p90 2.2s)
        "#]],
    );
}

// OC-CORE-1043
#[test]
fn the_task_that_loses_least_is_stopped() {
    check(
        HARD,
        "
        0 ready r1 m1 slots=3 interruptible
        1 submit t1 m1 batch max=500
        1 submit t2 m1 batch max=500
        1 submit t3 m1 max=500
        2 progress t1 r1 out=30
        2 progress t2 r1 out=20
        2 progress t3 r1 out=10
        3 submit t4 m1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t2 on r1 attempt 1
            1: admitted t3 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t3 on r1 attempt 1
            3: admitted t4 at 0, starts in 0.6s (p90 1.1s)
            3: preempt t2 on r1 attempt 1
        "#]],
    );
}
