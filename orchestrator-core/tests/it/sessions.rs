//! Turns of a session.

use expect_test::expect;
use orchestrator_core::{
    Core, CoreConfig, FullPolicy, SavedCounters, SessionId, TaskId, Timestamp, WaitReason,
};

use crate::script::{CONFIG, check, check_decisions, run};

// OC-CORE-1046
#[test]
fn a_turn_waits_for_the_one_before_it_and_for_nothing_else() {
    check(
        CoreConfig { queue_capacity: 9, ..CONFIG },
        "
        0 ready r1 m1 slots=4
        1 submit t1 m1 session=5
        2 submit t2 m1 session=5 deadline=100
        2 submit t3 m1 session=5
        3 submit t4 m1 session=6
        4 done t1 r1 held
        5 cancel t2
        6 done t3 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.4s (p90 1.4s)
            2: admitted t3 at 1, starts in 2.8s (p90 2.8s)
            3: admitted t4 at 0, starts in 0.0s (p90 0.0s)
            3: dispatch t4 on r1 attempt 1
            4: ended t1: Completed
            4: dispatch t2 on r1 attempt 1
            5: ended t2: Cancelled
            5: stop t2 on r1 attempt 1
            5: dispatch t3 on r1 attempt 1
            6: ended t3: Completed
        "#]],
    );
}

// OC-CORE-1046
#[test]
fn a_turn_that_ends_in_any_way_lets_the_next_one_in() {
    check(
        CONFIG,
        "
        0 ready r1 m1
        0 ready r2 m2
        1 submit t1 m1 session=5
        2 submit t2 m1 session=5
        3 submit t3 m2 session=5 ttl=10
        4 failed t1 r1
        5 lost t2 r1 held
        6 free t2 r1
        7 cancel t2
        8 done t3 r2
        9 submit t4 m1 session=5
        10 submit t5 m2 session=5 ttl=3
        14 tick
        15 done t4 r1 attempt=1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 2.4s (p90 3.2s)
            3: admitted t3 at 1, starts in 2.8s (p90 2.8s)
            4: ended t1: Failed
            4: dispatch t2 on r1 attempt 1
            6: dispatch t2 on r1 attempt 2
            7: ended t2: Cancelled
            7: stop t2 on r1 attempt 2
            7: dispatch t3 on r2 attempt 1
            8: ended t3: Completed
            9: admitted t4 at 0, starts in 1.0s (p90 1.8s)
            10: admitted t5 at 0, starts in 0.1s (p90 1.4s)
            14: ended t5: Expired
        "#]],
    );
}

// OC-CORE-1046, OC-CORE-1001, OC-CORE-1002
#[test]
fn turns_that_stand_behind_others_count_in_the_queue() {
    let script = "
        0 ready r1 m1 slots=4
        1 submit t1 m1 session=5
        2 submit t2 m1 session=5 batch
        3 submit t3 m1 session=5 batch
        4 submit t4 m1
        5 submit t5 m1 session=5";
    check(
        CONFIG,
        script,
        expect![[r#"
        1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
        1: dispatch t1 on r1 attempt 1
        2: admitted t2 at 0, starts in 1.4s (p90 1.4s)
        3: admitted t3 at 1, starts in 2.8s (p90 2.8s)
        4: rejected t4: QueueFull { retry_after: Micros(0) }
        5: rejected t5: QueueFull { retry_after: Micros(2157856) }
    "#]],
    );
    let shed = CoreConfig { full_policy: FullPolicy::ShedLowPriority, ..CONFIG };
    check(
        shed,
        script,
        expect![[r#"
        1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
        1: dispatch t1 on r1 attempt 1
        2: admitted t2 at 0, starts in 1.4s (p90 1.4s)
        3: admitted t3 at 1, starts in 2.8s (p90 2.8s)
        4: ended t3: Shed
        4: admitted t4 at 0, starts in 0.0s (p90 0.0s)
        4: dispatch t4 on r1 attempt 1
        5: admitted t5 at 1, starts in 2.8s (p90 2.8s)
    "#]],
    );
    let drop = CoreConfig { full_policy: FullPolicy::DropLru, ..CONFIG };
    check(
        drop,
        script,
        expect![[r#"
        1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
        1: dispatch t1 on r1 attempt 1
        2: admitted t2 at 0, starts in 1.4s (p90 1.4s)
        3: admitted t3 at 1, starts in 2.8s (p90 2.8s)
        4: ended t2: Dropped
        4: admitted t4 at 0, starts in 0.0s (p90 0.0s)
        4: dispatch t4 on r1 attempt 1
        5: admitted t5 at 1, starts in 2.8s (p90 2.8s)
    "#]],
    );
    let limited = format!("0 tenant t0 queued=1\n{script}");
    check(
        CONFIG,
        &limited,
        expect![[r#"
        1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
        1: dispatch t1 on r1 attempt 1
        2: admitted t2 at 0, starts in 1.4s (p90 1.4s)
        3: rejected t3: Quota { kind: Queued, retry_after: Micros(30000000) }
        4: rejected t4: Quota { kind: Queued, retry_after: Micros(30000000) }
        5: rejected t5: Quota { kind: Queued, retry_after: Micros(30000000) }
    "#]],
    );
}

// OC-CORE-1046, ORCH-4005
#[test]
fn a_turn_behind_others_is_told_where_it_stands_and_why() {
    let (_, core) = run(
        CONFIG,
        "
        0 ready r1 m1 slots=4
        1 submit t1 m1 session=5
        2 submit t2 m1 session=5
        3 submit t3 m1 session=5",
    );
    assert_eq!(core.standing(TaskId(1)), None);
    let [second, third] = [2, 3].map(|it| core.standing(TaskId(it)).unwrap());
    assert_eq!((second.position, third.position), (0, 1));
    assert_eq!([second.reason, third.reason], [WaitReason::SessionBusy; 2]);
    assert!(second.predicted_start < third.predicted_start);
    assert!(second.predicted_start <= second.predicted_start_p90);
    let told: Vec<_> = core.standings().collect();
    assert_eq!(told, [(TaskId(2), second), (TaskId(3), third)]);
    assert_eq!(core.queued(), 2);
}

// OC-CORE-1046, OC-CORE-1041
#[test]
fn turns_that_begin_at_once_go_by_the_order_of_the_queue() {
    check(
        CoreConfig { queue_capacity: 9, ..CONFIG },
        "
        0 ready r1 m1
        1 submit t1 m1
        2 submit t2 m1 session=5 ttl=5
        2 submit t3 m1 session=6 ttl=5
        3 submit t4 m1 session=5 deadline=90
        3 submit t5 m1 session=6 deadline=100
        8 done t1 r1
        9 done t4 r1",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.0s (p90 1.8s)
            2: admitted t3 at 1, starts in 2.0s (p90 2.8s)
            3: admitted t4 at 2, starts in 4.4s (p90 5.2s)
            3: admitted t5 at 2, starts in 4.4s (p90 5.2s)
            8: ended t1: Completed
            8: ended t2: Expired
            8: ended t3: Expired
            8: dispatch t4 on r1 attempt 1
            9: ended t4: Completed
            9: dispatch t5 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1046, OC-CORE-1045
#[test]
fn turns_come_back_from_a_restart_in_their_order() {
    check(
        CONFIG,
        "
        0 ready r1 m1 slots=4
        1 submit t1 m1 session=5
        2 submit t2 m1 session=5 deadline=20
        3 restart
        4 ready r1 m1 slots=4
        5 done t1 r1 attempt=2",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 1.4s (p90 1.4s)
            4: dispatch t1 on r1 attempt 2
            5: ended t1: Completed
            5: dispatch t2 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1046
#[test]
fn a_turn_that_is_found_to_be_late_when_it_begins_lets_the_next_one_in() {
    check(
        CoreConfig { queue_capacity: 9, ..CONFIG },
        "
        0 ready r1 m1
        1 submit t1 m1 session=5
        2 submit t2 m1 session=5 deadline=12
        3 submit t3 m1 session=5
        10 progress t1 r1 out=1
        13 done t1 r1 out=7",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r1 attempt 1
            2: admitted t2 at 0, starts in 2.4s (p90 3.2s)
            3: admitted t3 at 1, starts in 3.8s (p90 4.6s)
            13: ended t1: Completed
            13: ended t2: Late
            13: dispatch t3 on r1 attempt 1
        "#]],
    );
}

// OC-CORE-1046, OC-CORE-1045
#[test]
fn turns_that_once_ran_together_come_back_one_after_the_other() {
    let script = "
        0 ready r1 m1 slots=4
        1 submit t1 m1
        1 submit t2 m1";
    let (_, before) = run(CONFIG, script);
    let saved = [1, 2].map(|it| {
        let mut task = before.saved_task(TaskId(it)).unwrap();
        task.spec.session = Some(SessionId(5));
        // Its engine died under it.
        task.standing.strikes = 1;
        task
    });
    let mut core = Core::new(CONFIG);
    core.restore(Timestamp(2_000_000), saved.into(), Vec::new(), &SavedCounters::default());
    assert_eq!(core.violations(), Vec::<String>::new());
    assert_eq!(core.standing(TaskId(2)).unwrap().reason, WaitReason::SessionBusy);
}

// OC-CORE-1047
#[test]
fn an_ended_session_has_no_home_and_its_open_turn_leaves_none() {
    check_decisions(
        "
        0 ready r1 m1 slots=4
        0 ready r2 m1 slots=4
        1 submit t1 m1 session=5 prompt=500
        2 done t1 r1 out=2
        3 submit t2 m1 session=5 prompt=500
        4 forget s5
        5 done t2 r1 out=2
        6 submit t3 m1 session=5 prompt=500
        7 done t3 r1 out=2
        8 submit t4 m1 session=5 prompt=500",
        expect![[r#"
            1: decided t1: Order of [1, 2], dropped []
            3: decided t2: Warm of [1, 2], dropped []
            6: decided t3: Order of [1, 2], dropped []
            8: decided t4: Warm of [1, 2], dropped []
        "#]],
    );
}
