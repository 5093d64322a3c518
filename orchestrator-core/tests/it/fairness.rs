//! Who is served next: classes, then tenants.

use expect_test::expect;
use orchestrator_core::{Class, ClassPolicy, CoreConfig, Micros, ModelId, TenantId};

use crate::script::{CONFIG, check, run};

const ROOMY: CoreConfig = CoreConfig { queue_capacity: 100, ..CONFIG };

// OC-CORE-1014, OC-CORE-1040, ORCH-3075
#[test]
fn tenants_take_turns_by_tokens_not_by_requests() {
    // Tenant 1's prompts are three times as long, so it gets a third of the turns.
    check(
        ROOMY,
        "
        0 ready r1 m1
        1 submit t1 m1 tenant=1 prompt=300
        1 submit t2 m1 tenant=1 prompt=300
        1 submit t3 m1 tenant=1 prompt=300
        2 submit t4 m1 tenant=2 prompt=100
        2 submit t5 m1 tenant=2 prompt=100
        2 submit t6 m1 tenant=2 prompt=100
        2 submit t7 m1 tenant=2 prompt=100
        3 done t1 r1
        4 done t2 r1
        5 done t4 r1
        6 done t5 r1
        7 done t6 r1
        8 done t3 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.3s (p90 2.3s)
            1: admitted t3 at 1, starts in 2.6s (p90 3.6s)
            2: admitted t4 at 0, starts in 1.1s (p90 1.9s)
            2: admitted t5 at 1, starts in 3.3s (p90 4.1s)
            2: admitted t6 at 2, starts in 5.5s (p90 7.2s)
            2: admitted t7 at 3, starts in 6.6s (p90 8.3s)
            3: ended t1: Completed
            3: dispatch t2 on r1 attempt 1
            4: ended t2: Completed
            4: dispatch t4 on r1 attempt 1
            5: ended t4: Completed
            5: dispatch t5 on r1 attempt 1
            6: ended t5: Completed
            6: dispatch t6 on r1 attempt 1
            7: ended t6: Completed
            7: dispatch t3 on r1 attempt 1
            8: ended t3: Completed
            8: dispatch t7 on r1 attempt 1
        "#]],
    );
}

// ORCH-3075, OC-CORE-1014
#[test]
fn a_tenant_of_twice_the_weight_gets_twice_the_turns() {
    check(
        ROOMY,
        "
        0 tenant n1 weight=2
        0 ready r1 m1
        1 submit t1 m1 tenant=3
        1 submit t2 m1 tenant=1
        1 submit t3 m1 tenant=1
        1 submit t4 m1 tenant=1
        1 submit t5 m1 tenant=1
        1 submit t6 m1 tenant=2
        1 submit t7 m1 tenant=2
        2 done t1 r1
        3 done t2 r1
        4 done t6 r1
        5 done t3 r1
        6 done t7 r1
        7 done t4 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            1: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            1: admitted t4 at 2, starts in 3.0s (p90 3.8s)
            1: admitted t5 at 3, starts in 4.0s (p90 5.6s)
            1: admitted t6 at 0, starts in 1.0s (p90 1.8s)
            1: admitted t7 at 1, starts in 4.0s (p90 5.6s)
            2: ended t1: Completed
            2: dispatch t2 on r1 attempt 1
            3: ended t2: Completed
            3: dispatch t6 on r1 attempt 1
            4: ended t6: Completed
            4: dispatch t3 on r1 attempt 1
            5: ended t3: Completed
            5: dispatch t7 on r1 attempt 1
            6: ended t7: Completed
            6: dispatch t4 on r1 attempt 1
            7: ended t4: Completed
            7: dispatch t5 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1040
#[test]
fn idling_earns_nothing() {
    // Tenant 2 comes after tenant 1 was served for long: they take turns from there on.
    check(
        ROOMY,
        "
        0 ready r1 m1
        1 submit t1 m1 tenant=1 prompt=1 max=900
        2 progress t1 r1 out=900
        3 submit t2 m1 tenant=1 prompt=50
        3 submit t3 m1 tenant=1 prompt=50
        4 submit t4 m1 tenant=2 prompt=50
        4 submit t5 m1 tenant=2 prompt=50
        5 done t1 r1 out=900
        6 done t2 r1
        7 done t4 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            3: admitted t2 at 0, starts in 51.0s (p90 91.8s)
            3: admitted t3 at 1, starts in 102.0s (p90 142.8s)
            4: admitted t4 at 0, starts in 51.0s (p90 91.8s)
            4: admitted t5 at 1, starts in 153.0s (p90 193.8s)
            5: ended t1: Completed
            5: dispatch t2 on r1 attempt 1
            6: ended t2: Completed
            6: dispatch t4 on r1 attempt 1
            7: ended t4: Completed
            7: dispatch t3 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1040, ORCH-3077
#[test]
fn counters_equal_what_was_charged() {
    let (_, core) = run(
        ROOMY,
        "
        0 tenant n1 weight=3
        0 model m1 cost=2
        0 ready r1 m1 slots=4
        1 submit t1 m1 tenant=1 prompt=100
        1 submit t2 m1 tenant=2 prompt=100
        2 progress t1 r1 prompt=70 out=5
        2 progress t2 r1 out=1
        3 progress t1 r1 prompt=70 out=7
        4 progress t1 r1 prompt=70 out=3
        5 done t1 r1 prompt=70 out=10
        6 submit t3 m1 tenant=1 prompt=10
        7 refused t3 r1",
    );
    // (70 prompt tokens of 100 were not cached + 2 × 10 made) × cost 2; what no engine took is free.
    // The third task went to its only replica again after the pause: nothing is charged yet.
    let one = core.account(ModelId(1), Class::Interactive, TenantId(1));
    assert_eq!(one.charged_milli, (70 + 2 * 10) * 2 * 1_000);
    assert_eq!(one.counter, (70 + 2 * 10) * 2 * 1_000 / 3);
    let two = core.account(ModelId(1), Class::Interactive, TenantId(2));
    assert_eq!((two.charged_milli, two.lifted), ((100 + 2) * 2 * 1_000, 0));
}

// OC-CORE-1040
#[test]
fn a_cancelled_task_is_charged_for_what_it_used() {
    let (_, core) = run(
        ROOMY,
        "
        0 ready r1 m1
        1 submit t1 m1 tenant=1 prompt=100
        2 progress t1 r1 out=5
        3 cancel t1
        4 free t1 r1",
    );
    let account = core.account(ModelId(1), Class::Interactive, TenantId(1));
    assert_eq!(account.charged_milli, (100 + 2 * 5) * 1_000);
}

// OC-CORE-1004
#[test]
fn classes_share_tokens_by_weight() {
    let config =
        CoreConfig { interactive: ClassPolicy { weight: 2, ..CONFIG.interactive }, ..ROOMY };
    check(
        config,
        "
        0 ready r1 m1
        1 submit t1 m1
        1 submit t2 m1
        1 submit t3 m1
        1 submit t4 m1
        1 submit t5 m1
        1 submit t6 m1 batch
        1 submit t7 m1 batch
        2 done t1 r1
        3 done t2 r1
        4 done t6 r1
        5 done t3 r1
        6 done t4 r1
        7 done t7 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            1: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            1: admitted t4 at 2, starts in 3.0s (p90 3.8s)
            1: admitted t5 at 3, starts in 4.0s (p90 5.6s)
            1: admitted t6 at 0, starts in 3.0s (p90 3.8s)
            1: admitted t7 at 1, starts in 6.0s (p90 7.6s)
            2: ended t1: Completed
            2: dispatch t2 on r1 attempt 1
            3: ended t2: Completed
            3: dispatch t6 on r1 attempt 1
            4: ended t6: Completed
            4: dispatch t3 on r1 attempt 1
            5: ended t3: Completed
            5: dispatch t4 on r1 attempt 1
            6: ended t4: Completed
            6: dispatch t7 on r1 attempt 1
            7: ended t7: Completed
            7: dispatch t5 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1004
#[test]
fn strict_classes_serve_batch_only_after_its_longest_wait() {
    let config = CoreConfig {
        strict_classes: true,
        batch: ClassPolicy { max_wait: Micros(5_000_000), ..CONFIG.batch },
        ..ROOMY
    };
    check(
        config,
        "
        0 ready r1 m1
        1 submit t1 m1
        1 submit t2 m1
        1 submit t3 m1
        1 submit t4 m1
        1 submit t5 m1 batch
        1 submit t6 m1 batch
        3 done t1 r1
        5 done t2 r1
        7 done t3 r1
        8 done t5 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            1: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            1: admitted t4 at 2, starts in 3.0s (p90 3.8s)
            1: admitted t5 at 0, starts in 9.0s (p90 11.5s)
            1: admitted t6 at 1, starts in 18.1s (p90 21.4s)
            3: ended t1: Completed
            3: dispatch t2 on r1 attempt 1
            5: ended t2: Completed
            5: dispatch t3 on r1 attempt 1
            7: ended t3: Completed
            7: dispatch t5 on r1 attempt 1
            8: ended t5: Completed
            8: dispatch t4 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1004
#[test]
fn batch_leaves_the_slots_free_that_are_set_aside() {
    let config = CoreConfig { headroom_slots: 1, ..ROOMY };
    check(
        config,
        "
        0 ready r1 m1 slots=2
        1 submit t1 m1 batch
        1 submit t2 m1 batch
        2 submit t3 m1
        3 done t3 r1
        4 done t1 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 0.5s (p90 0.9s)
            2: admitted t3 at 0, starts in 0.5s (p90 0.9s)
            2: dispatch t3 on r1 attempt 1
            3: ended t3: Completed
            4: ended t1: Completed
            4: dispatch t2 on r1 attempt 1
        "#]],
    );
}
