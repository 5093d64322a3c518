//! What a restart of the shell must not change.

use expect_test::expect;
use orchestrator_core::CoreConfig;

use crate::script::{CONFIG, check, run};

const ROOMY: CoreConfig = CoreConfig { queue_capacity: 100, ..CONFIG };

// OC-CORE-1045
#[test]
fn the_order_is_the_same_after_a_restart() {
    // Tenant 1 was served much, tenant 2 little, tenant 3 nothing.
    let timeline = |restart: &str| {
        let script = format!(
            "
            0 ready r1 m1
            1 submit t1 m1 tenant=1
            1 submit t2 m1 tenant=2
            2 done t1 r1 out=20
            3 done t2 r1 out=2
            4 coming r1 m1
            4 submit t3 m1 tenant=1 batch
            4 submit t4 m1 tenant=1
            4 submit t5 m1 tenant=2
            4 submit t6 m1 tenant=1 deadline=20
            4 submit t7 m1 tenant=3
            5 {restart}
            5 ready r1 m1
            6 done t3 r1 out=1
            7 done t6 r1 out=1
            8 submit t8 m1 tenant=2
            8 done t7 r1 out=9
            8 done t5 r1 out=1
            9 done t7 r1 out=9
            9 done t4 r1 out=1
            9 done t8 r1 out=1
            10 done t5 r1 out=1
            11 done t7 r1 out=1
            11 done t4 r1 out=1"
        );
        let (timeline, _) = run(ROOMY, &script);
        let dispatches = timeline.lines().filter(|it| it.contains("dispatch"));
        dispatches.map(|it| format!("{it}\n")).collect::<String>()
    };
    let uninterrupted = timeline("tick");
    expect![[r#"
        1: dispatch t1 on r1 attempt 1
        2: dispatch t2 on r1 attempt 1
        5: dispatch t3 on r1 attempt 1
        6: dispatch t6 on r1 attempt 1
        7: dispatch t5 on r1 attempt 1
        8: dispatch t7 on r1 attempt 1
        9: dispatch t8 on r1 attempt 1
        9: dispatch t4 on r1 attempt 1
    "#]]
    .assert_eq(&uninterrupted);
    assert_eq!(uninterrupted, timeline("restart"));
}

// OC-CORE-1045, OC-CORE-1043
#[test]
fn a_task_that_ran_goes_on_with_its_tokens_and_a_new_attempt() {
    check(
        ROOMY,
        "
        0 ready r1 m1
        1 submit t1 m1
        1 submit t2 m1 deadline=20
        2 progress t1 r1 out=5
        3 restart
        3 ready r1 m1
        4 done t1 r1 out=9
        5 done t1 r1 attempt=2 out=4",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            3: dispatch t1 on r1 attempt 2 after 5 tokens
            5: ended t1: Completed
            5: dispatch t2 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1045, ORCH-4021, ORCH-3080
#[test]
fn time_goes_on_while_nobody_counts_it() {
    check(
        ROOMY,
        "
        0 ready r1 m1
        1 submit t1 m1
        1 submit t2 m1 ttl=10
        1 submit t3 m1 deadline=10
        1 submit t4 m1 ttl=60
        30 restart
        30 coming r1 m1
        31 tick",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            1: admitted t3 at 0, starts in 1.0s (p90 1.8s)
            1: admitted t4 at 2, starts in 3.0s (p90 3.8s)
            31: ended t2: Expired
            31: ended t3: Late
        "#]],
    );
}

// OC-CORE-1045, ORCH-3076, OC-CORE-1021
#[test]
fn limits_of_a_tenant_hold_over_a_restart() {
    check(
        ROOMY,
        "
        0 tenant n1 tokens=60 rps=1 burst=2 queued=2
        0 coming r1 m1
        1 submit t1 m1 tenant=1
        1 submit t2 m1 tenant=1
        1 submit t3 m1 tenant=1
        2 restart
        2 tenant n1 tokens=60 rps=1 burst=2 queued=2
        2 coming r1 m1
        2 submit t4 m1 tenant=1
        2 submit t5 m1 tenant=1
        4 tenant n1 tokens=60 queued=3
        4 submit t6 m1 tenant=1
        70 submit t7 m1 tenant=1",
        expect![[r#"
            1: admitted t1 at 0, starts in unknown (p90 unknown)
            1: admitted t2 at 1, starts in unknown (p90 unknown)
            1: rejected t3: Quota { kind: Requests, retry_after: Micros(1000000) }
            2: rejected t4: Quota { kind: Queued, retry_after: Micros(30000000) }
            2: rejected t5: Quota { kind: Requests, retry_after: Micros(1000000) }
            4: rejected t6: Quota { kind: Tokens, retry_after: Micros(58000000) }
            70: admitted t7 at 2, starts in unknown (p90 unknown)
            70: ended t1: NoReplica { coming: true }
            70: ended t2: NoReplica { coming: true }
        "#]],
    );
}

// OC-CORE-1045, ORCH-4007
#[test]
fn a_suspect_stays_one() {
    check(
        ROOMY,
        "
        0 ready r1 m1 slots=2
        1 submit t1 m1
        1 submit t2 m1
        2 crash r1
        3 restart
        3 coming r1 m1
        3 submit t3 m1
        4 ready r1 m1 slots=2 inc=2
        5 crash r1 inc=2",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t2 on r1 attempt 1
            3: admitted t3 at 0, starts in unknown (p90 unknown)
            4: dispatch t1 on r1 attempt 2
            5: ended t1: Poison
        "#]],
    );
}
