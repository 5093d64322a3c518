//! One script for each rule.

use expect_test::expect;
use orchestrator_core::{CoreConfig, FullPolicy};

use crate::script::{CONFIG, check};

#[test]
fn a_task_goes_to_a_free_slot_at_once() {
    check(
        CONFIG,
        "0 ready r1 m1\n1 submit t1 m1\n3 done t1 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            3: ended t1: Completed
        "#]],
    );
}

// ORCH-3004, OC-CORE-1001, OC-CORE-1002
#[test]
fn full_queue_rejects_the_newcomer() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1
        3 submit t3 m1
        4 submit t4 m1
        5 done t1 r1
        6 submit t5 m1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            3: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            4: rejected t4: QueueFull { retry_after: Micros(1515000) }
            5: ended t1: Completed
            5: dispatch t2 on r1 attempt 1
            6: admitted t5 at 1, starts in 8.0s (p90 11.2s)
        "#]],
    );
}

// ORCH-3005, OC-CORE-1002
#[test]
fn drop_lru_drops_the_oldest_of_the_lowest_class() {
    let config = CoreConfig { full_policy: FullPolicy::DropLru, ..CONFIG };
    check(
        config,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1
        3 submit t3 m1 batch
        4 submit t4 m1
        5 submit t5 m1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            3: admitted t3 at 0, starts in 9.0s (p90 11.5s)
            4: ended t3: Dropped
            4: admitted t4 at 1, starts in 2.0s (p90 2.8s)
            5: ended t2: Dropped
            5: admitted t5 at 1, starts in 2.0s (p90 2.8s)
        "#]],
    );
}

// ORCH-3005, OC-CORE-1002
#[test]
fn shed_low_priority_pushes_batch_out_for_interactive_only() {
    let config = CoreConfig { full_policy: FullPolicy::ShedLowPriority, ..CONFIG };
    check(
        config,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1 batch
        3 submit t3 m1 batch
        4 submit t4 m1 batch
        5 submit t5 m1
        6 submit t6 m1
        7 submit t7 m1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            3: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            4: rejected t4: QueueFull { retry_after: Micros(1515000) }
            5: ended t3: Shed
            5: admitted t5 at 0, starts in 1.0s (p90 1.8s)
            6: ended t2: Shed
            6: admitted t6 at 1, starts in 2.0s (p90 2.8s)
            7: rejected t7: QueueFull { retry_after: Micros(1515000) }
        "#]],
    );
}

#[test]
fn capacity_is_counted_by_model() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        0 ready r2 m2
        1 submit t1 m1
        1 submit t2 m1
        1 submit t3 m1
        1 submit t4 m1
        2 submit t5 m2",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            1: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            1: rejected t4: QueueFull { retry_after: Micros(1515000) }
            2: admitted t5 at 0, starts in 0.0s (p90 0.0s)
            2: dispatch t5 on r2 attempt 1
        "#]],
    );
}

// OC-CORE-1004
#[test]
fn classes_share_slots_by_weight_and_batch_never_starves() {
    let config = CoreConfig { queue_capacity: 100, ..CONFIG };
    let mut script = String::from("0 ready r1 m1\n0 submit t1 m1\n");
    for task in 2..=20 {
        script += &format!("0 submit t{task} m1\n");
    }
    for task in 21..=24 {
        script += &format!("0 submit t{task} m1 batch\n");
    }
    for (at, task) in [1, 2, 21, 3, 4, 5, 6, 7, 8, 9, 10, 22].into_iter().enumerate() {
        script += &format!("{at} done t{task} r1\n");
    }
    check(
        config,
        &script,
        expect![[r#"
            0: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            0: dispatch t1 on r1 attempt 1
            0: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            0: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            0: admitted t4 at 2, starts in 3.0s (p90 3.8s)
            0: admitted t5 at 3, starts in 4.0s (p90 5.6s)
            0: admitted t6 at 4, starts in 5.0s (p90 6.6s)
            0: admitted t7 at 5, starts in 6.0s (p90 7.6s)
            0: admitted t8 at 6, starts in 7.0s (p90 8.6s)
            0: admitted t9 at 7, starts in 8.0s (p90 9.6s)
            0: admitted t10 at 8, starts in 9.0s (p90 11.5s)
            0: admitted t11 at 9, starts in 10.1s (p90 12.5s)
            0: admitted t12 at 10, starts in 11.1s (p90 13.5s)
            0: admitted t13 at 11, starts in 12.1s (p90 14.5s)
            0: admitted t14 at 12, starts in 13.1s (p90 15.5s)
            0: admitted t15 at 13, starts in 14.1s (p90 16.5s)
            0: admitted t16 at 14, starts in 15.1s (p90 17.5s)
            0: admitted t17 at 15, starts in 16.1s (p90 19.3s)
            0: admitted t18 at 16, starts in 17.1s (p90 20.4s)
            0: admitted t19 at 17, starts in 18.1s (p90 21.4s)
            0: admitted t20 at 18, starts in 19.1s (p90 22.4s)
            0: admitted t21 at 0, starts in 9.0s (p90 11.5s)
            0: admitted t22 at 1, starts in 18.1s (p90 21.4s)
            0: admitted t23 at 2, starts in 27.2s (p90 31.3s)
            0: admitted t24 at 3, starts in 36.3s (p90 41.2s)
            0: ended t1: Completed
            0: dispatch t2 on r1 attempt 1
            1: ended t2: Completed
            1: dispatch t21 on r1 attempt 1
            2: ended t21: Completed
            2: dispatch t3 on r1 attempt 1
            3: ended t3: Completed
            3: dispatch t4 on r1 attempt 1
            4: ended t4: Completed
            4: dispatch t5 on r1 attempt 1
            5: ended t5: Completed
            5: dispatch t6 on r1 attempt 1
            6: ended t6: Completed
            6: dispatch t7 on r1 attempt 1
            7: ended t7: Completed
            7: dispatch t8 on r1 attempt 1
            8: ended t8: Completed
            8: dispatch t9 on r1 attempt 1
            9: ended t9: Completed
            9: dispatch t10 on r1 attempt 1
            10: ended t10: Completed
            10: dispatch t22 on r1 attempt 1
            11: ended t22: Completed
            11: dispatch t11 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1004
#[test]
fn a_task_beyond_its_maximum_wait_is_served_next() {
    let config = CoreConfig { queue_capacity: 100, ..CONFIG };
    check(
        config,
        "
        0 ready r1 m1
        0 submit t1 m1
        1 submit t2 m1 batch
        2 submit t3 m1
        1900 submit t4 m1
        1901 done t1 r1
        1902 done t3 r1",
        expect![[r#"
            0: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            0: dispatch t1 on r1 attempt 1
            1: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            2: admitted t3 at 0, starts in 1.0s (p90 1.8s)
            1900: admitted t4 at 1, starts in 2.0s (p90 2.8s)
            1901: ended t1: Completed
            1901: dispatch t3 on r1 attempt 1
            1902: ended t3: Completed
            1902: dispatch t2 on r1 attempt 1
        "#]],
    );
}

// ORCH-3008, OC-CORE-1012, OC-CORE-1017
#[test]
fn the_least_loaded_replica_gets_the_task() {
    let config = CoreConfig { queue_capacity: 100, ..CONFIG };
    check(
        config,
        "
        0 ready r1 m1 slots=2
        0 ready r2 m1 slots=4
        1 submit t1 m1
        1 submit t2 m1
        1 submit t3 m1
        1 submit t4 m1
        1 submit t5 m1
        1 submit t6 m1
        1 submit t7 m1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r2 attempt 1
            1: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t2 on r1 attempt 1
            1: admitted t3 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t3 on r2 attempt 1
            1: admitted t4 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t4 on r2 attempt 1
            1: admitted t5 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t5 on r1 attempt 1
            1: admitted t6 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t6 on r2 attempt 1
            1: admitted t7 at 0, starts in 0.1s (p90 0.3s)
        "#]],
    );
}

// ORCH-3010, OC-CORE-1010
#[test]
fn only_ready_replicas_get_work() {
    check(
        CONFIG,
        "
        0 coming r1 m1
        1 submit t1 m1
        2 drain r1 m1
        3 ready r1 m1
        4 drain r1 m1
        5 done t1 r1
        6 submit t2 m1
        7 ready r1 m1",
        expect![[r#"
            1: admitted t1 at 0, starts in unknown (p90 unknown)
            3: dispatch t1 on r1 attempt 1
            5: ended t1: Completed
            6: admitted t2 at 0, starts in unknown (p90 unknown)
            7: dispatch t2 on r1 attempt 1
        "#]],
    );
}

// ORCH-3018
#[test]
fn nothing_that_could_come_back_is_an_outage() {
    check(
        CONFIG,
        "0 submit t1 m1\n1 down r1 m1\n2 submit t2 m1",
        expect![[r#"
        0: rejected t1: Unavailable
        2: rejected t2: Unavailable
    "#]],
    );
}

#[test]
fn a_task_waits_only_so_long_for_a_replica() {
    check(
        CONFIG,
        "
        0 coming r1 m1
        10 submit t1 m1
        20 submit t2 m1
        69 tick
        70 tick
        80 down r1 m1
        81 tick",
        expect![[r#"
            10: admitted t1 at 0, starts in unknown (p90 unknown)
            20: admitted t2 at 1, starts in unknown (p90 unknown)
            70: ended t1: NoReplica { coming: true }
            80: ended t2: NoReplica { coming: false }
        "#]],
    );
}

// ORCH-3014, ORCH-3015, OC-CORE-1020
#[test]
fn prompt_and_answer_must_fit_the_context() {
    check(
        CONFIG,
        "
        0 ready r1 m1 ctx=100
        1 submit t1 m1 prompt=60 max=41
        2 submit t2 m1 prompt=60 max=40",
        expect![[r#"
            1: rejected t1: ContextOverflow { context_tokens: 100 }
            2: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            2: dispatch t2 on r1 attempt 1
        "#]],
    );
}

#[test]
fn an_engine_that_nobody_runs_is_refused() {
    check(
        CONFIG,
        "0 ready r1 m1\n1 submit t1 m1 vllm",
        expect![[r#"
        1: rejected t1: EngineMismatch
    "#]],
    );
}

// ORCH-3026, OC-CORE-1005
#[test]
fn a_cancelled_task_is_never_dispatched() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1
        3 cancel t2
        4 done t1 r1
        5 cancel t2",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            3: ended t2: Cancelled
            4: ended t1: Completed
        "#]],
    );
}

// ORCH-3017, ORCH-3019
#[test]
fn a_cancelled_run_holds_its_slot_until_the_engine_confirms() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1
        3 cancel t1
        4 tick
        5 free t1 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            3: ended t1: Cancelled
            3: stop t1 on r1 attempt 1
            5: dispatch t2 on r1 attempt 1
        "#]],
    );
}

#[test]
fn a_failed_run_holds_its_slot_until_the_engine_confirms() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1
        3 failed t1 r1 held
        4 free t1 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            3: ended t1: Failed
            4: dispatch t2 on r1 attempt 1
        "#]],
    );
}

#[test]
fn a_confirmation_that_comes_too_early_frees_no_slot_in_use() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 free t1 r1
        3 submit t2 m1
        4 done t1 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            3: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            4: ended t1: Completed
            4: dispatch t2 on r1 attempt 1
        "#]],
    );
}

#[test]
fn a_restart_frees_the_slots_of_the_process_before() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1
        3 failed t1 r1 held
        4 coming r1 m1 inc=2
        5 ready r1 m1 inc=2
        6 free t1 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            3: ended t1: Failed
            5: dispatch t2 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1033
#[test]
fn a_report_of_an_old_attempt_changes_nothing() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        0 ready r2 m1
        1 submit t1 m1
        2 refused t1 r1
        3 done t1 r1
        3 failed t1 r1
        4 done t1 r2 attempt=2
        5 done t1 r2 attempt=2",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: dispatch t1 on r2 attempt 2
            4: ended t1: Completed
        "#]],
    );
}

// OC-CORE-1044
#[test]
fn the_predicted_start_follows_what_tasks_took() {
    let config = CoreConfig { queue_capacity: 100, ..CONFIG };
    check(
        config,
        "
        0 ready r1 m1
        0 submit t1 m1
        0 submit t2 m1
        4 done t1 r1
        4 submit t3 m1
        4 submit t4 m1
        8 done t2 r1
        8 submit t5 m1 batch",
        expect![[r#"
            0: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            0: dispatch t1 on r1 attempt 1
            0: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            4: ended t1: Completed
            4: dispatch t2 on r1 attempt 1
            4: admitted t3 at 0, starts in 4.0s (p90 7.2s)
            4: admitted t4 at 1, starts in 8.0s (p90 11.2s)
            8: ended t2: Completed
            8: dispatch t3 on r1 attempt 1
            8: admitted t5 at 0, starts in 36.0s (p90 43.2s)
        "#]],
    );
}

#[test]
fn a_clock_that_steps_back_changes_nothing() {
    check(
        CONFIG,
        "9 ready r1 m1\n5 submit t1 m1\n1 done t1 r1\n0 tick",
        expect![[r#"
            5: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            5: dispatch t1 on r1 attempt 1
            1: ended t1: Completed
        "#]],
    );
}
