//! A tenant's own limits.

use expect_test::expect;
use orchestrator_core::CoreConfig;

use crate::script::{CONFIG, check};

const ROOMY: CoreConfig = CoreConfig { queue_capacity: 100, ..CONFIG };

// OC-CORE-1015, ORCH-3076
#[test]
fn a_tenant_may_queue_and_run_only_so_many() {
    check(
        ROOMY,
        "
        0 tenant n1 queued=1
        0 tenant n2 concurrent=1
        0 ready r1 m1
        1 submit t1 m1 tenant=1
        1 submit t2 m1 tenant=1
        1 submit t3 m1 tenant=1
        1 submit t4 m1 tenant=2
        1 submit t5 m1 tenant=2
        1 submit t6 m1 tenant=3
        2 done t1 r1
        3 submit t7 m1 tenant=2",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            1: rejected t3: Quota { kind: Queued, retry_after: Micros(30000000) }
            1: admitted t4 at 0, starts in 1.0s (p90 1.8s)
            1: rejected t5: Quota { kind: Concurrent, retry_after: Micros(1000000) }
            1: admitted t6 at 0, starts in 1.0s (p90 1.8s)
            2: ended t1: Completed
            2: dispatch t2 on r1 attempt 1
            3: rejected t7: Quota { kind: Concurrent, retry_after: Micros(1000000) }
        "#]],
    );
}

// OC-CORE-1015, ORCH-3076
#[test]
fn a_held_task_waits_while_others_pass() {
    check(
        ROOMY,
        "
        0 tenant n1 concurrent=1 hold
        0 ready r1 m1 slots=3
        1 submit t1 m1 tenant=1
        1 submit t2 m1 tenant=1
        1 submit t3 m1 tenant=2
        2 done t1 r1
        3 tenant n1 concurrent=2 hold
        3 submit t4 m1 tenant=1
        3 submit t5 m1 tenant=1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 0.3s (p90 0.6s)
            1: admitted t3 at 0, starts in 0.3s (p90 0.6s)
            1: dispatch t3 on r1 attempt 1
            2: ended t1: Completed
            2: dispatch t2 on r1 attempt 1
            3: admitted t4 at 0, starts in 0.0s (p90 0.0s)
            3: dispatch t4 on r1 attempt 1
            3: admitted t5 at 0, starts in 0.3s (p90 0.5s)
        "#]],
    );
}

// ORCH-3006
#[test]
fn requests_have_a_rate_and_a_burst() {
    check(
        ROOMY,
        "
        0 tenant n1 rps=2 burst=3
        0 ready r1 m1 slots=9
        10 submit t1 m1 tenant=1
        10 submit t2 m1 tenant=1
        10 submit t3 m1 tenant=1
        10 submit t4 m1 tenant=1
        10.5 submit t5 m1 tenant=1
        10.5 submit t6 m1 tenant=1",
        expect![[r#"
            10: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            10: dispatch t1 on r1 attempt 1
            10: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            10: dispatch t2 on r1 attempt 1
            10: admitted t3 at 0, starts in 0.0s (p90 0.0s)
            10: dispatch t3 on r1 attempt 1
            10: rejected t4: Quota { kind: Requests, retry_after: Micros(500000) }
            10.5: admitted t5 at 0, starts in 0.0s (p90 0.0s)
            10.5: dispatch t5 on r1 attempt 1
            10.5: rejected t6: Quota { kind: Requests, retry_after: Micros(500000) }
        "#]],
    );
}

// OC-CORE-1021, ORCH-3015, ORCH-3076
#[test]
fn tokens_are_reserved_and_what_was_not_used_goes_back() {
    check(
        ROOMY,
        "
        0 tenant n1 tokens=100
        0 ready r1 m1 slots=9
        1 submit t1 m1 tenant=1 prompt=10 max=50
        2 submit t2 m1 tenant=1 prompt=10 max=50
        3 done t1 r1 prompt=10 out=20
        4 submit t3 m1 tenant=1 prompt=10 max=50
        5 submit t4 m1 tenant=1 prompt=10 max=91
        6 submit t5 m1 tenant=1 prompt=10 max=1
        62 submit t6 m1 tenant=1 prompt=10 max=20",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: rejected t2: Quota { kind: Tokens, retry_after: Micros(60000000) }
            3: ended t1: Completed
            4: admitted t3 at 0, starts in 0.0s (p90 0.0s)
            4: dispatch t3 on r1 attempt 1
            5: rejected t4: Quota { kind: TokensOfTask, retry_after: Micros(0) }
            6: rejected t5: Quota { kind: Tokens, retry_after: Micros(56000000) }
            62: admitted t6 at 0, starts in 0.0s (p90 0.0s)
            62: dispatch t6 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1021, OC-CORE-1015
#[test]
fn a_task_held_for_tokens_starts_when_the_minute_has_room() {
    check(
        ROOMY,
        "
        0 tenant n1 tokens=100 hold
        0 ready r1 m1 slots=9
        1 submit t1 m1 tenant=1 prompt=10 max=50
        2 submit t2 m1 tenant=1 prompt=10 max=50
        3 submit t3 m1 tenant=2 prompt=10 max=50
        61 tick
        63 tick",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            3: admitted t3 at 0, starts in 0.2s (p90 0.5s)
            3: dispatch t3 on r1 attempt 1
            63: dispatch t2 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1021
#[test]
fn a_full_queue_takes_no_tokens() {
    check(
        CONFIG,
        "
        0 tenant n1 tokens=100
        0 ready r1 m1
        1 submit t1 m1 tenant=2
        1 submit t2 m1 tenant=2
        1 submit t3 m1 tenant=2
        2 submit t4 m1 tenant=1 prompt=10 max=80
        3 cancel t3
        4 submit t5 m1 tenant=1 prompt=10 max=80",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            1: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            2: rejected t4: QueueFull { retry_after: Micros(2005000) }
            3: ended t3: Cancelled
            4: admitted t5 at 0, starts in 4.0s (p90 7.2s)
        "#]],
    );
}
