//! Which replica, and why.

use expect_test::expect;

use crate::script::{CONFIG, check, check_decisions};

// OC-CORE-1012, OC-CORE-1016, OC-CORE-1017, ORCH-3091, ORCH-4005
#[test]
fn each_choice_says_why_and_what_was_ruled_out() {
    check_decisions(
        "
        0 ready r1 m1 slots=4
        0 ready r2 m1 slots=4
        0 ready r3 m1 pool=7
        0 coming r4 m1
        0 drain r5 m1
        0 unloaded r6 m1
        1 submit t1 m1 avoid=7
        1 submit t2 m1 avoid=7
        1 submit t3 m1 avoid=7 max=2000
        1 submit t4 m1
        1 submit t5 m1",
        expect![[r#"
            1: decided t1: Order of [1, 2], dropped [(ModelNotResident, 1), (NotReady, 1), (Draining, 1), (Avoided, 1)]
            1: decided t2: Fastest of [2, 1], dropped [(ModelNotResident, 1), (NotReady, 1), (Draining, 1), (Avoided, 1)]
            1: decided t4: Fastest of [3, 1, 2], dropped [(ModelNotResident, 1), (NotReady, 1), (Draining, 1)]
            1: decided t5: Order of [1, 2], dropped [(ModelNotResident, 1), (NotReady, 1), (Draining, 1), (NoSlot, 1)]
        "#]],
    );
}

// OC-CORE-1018
#[test]
fn a_pinned_task_runs_in_its_pool_or_is_refused() {
    check(
        CONFIG,
        "
        0 ready r1 m1 pool=1
        0 ready r2 m1 pool=2
        1 submit t1 m1 pin=2
        2 submit t2 m1 pin=2
        3 submit t3 m1 pin=3
        4 done t1 r2",
        expect![[r#"
            1: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            1: dispatch t1 on r2 attempt 1
            2: admitted t2 at 0, starts in 0.5s (p90 0.9s)
            3: rejected t3: PoolMismatch
            4: ended t1: Completed
            4: dispatch t2 on r2 attempt 1
        "#]],
    );
}

// ORCH-3009, OC-CORE-1013
#[test]
fn a_session_s_home_is_recalled_after_a_restart_and_not_over_a_newer_one() {
    check_decisions(
        "
        0 home s5 r2
        0 ready r1 m1 slots=2
        0 ready r2 m1 slots=2
        1 submit t1 m1 session=5 prompt=500
        2 progress t1 r2 out=1
        3 done t1 r2 out=2
        4 home s5 r1
        5 submit t2 m1 session=5 prompt=500
        6 done t2 r2 out=2
        7 home s6 r2 inc=7
        8 submit t3 m1 session=6 prompt=500
        9 forget s5
        9 submit t4 m1 session=5 prompt=500",
        expect![[r#"
            1: decided t1: Warm of [2, 1], dropped []
            5: decided t2: Warm of [2, 1], dropped []
            8: decided t3: Order of [1, 2], dropped []
            9: decided t4: LeastLoaded of [2, 1], dropped []
        "#]],
    );
}

// ORCH-3009, OC-CORE-1013
#[test]
fn a_session_returns_to_its_replica_unless_that_is_busy_or_was_restarted() {
    check_decisions(
        "
        0 ready r1 m1 slots=2
        0 ready r2 m1 slots=2
        1 submit t1 m1 batch
        1 submit t2 m1 session=5 prompt=500
        2 progress t2 r2 out=1
        3 done t2 r2 out=2
        4 submit t3 m1 session=5 prompt=500
        5 done t3 r2 out=2
        5 submit t4 m1
        5 submit t5 m1
        5 submit t6 m1
        6 done t1 r1
        6 submit t7 m1 session=5 prompt=500
        7 done t7 r1
        7 done t5 r1
        7 done t6 r2
        8 submit t8 m1 session=5 prompt=500
        9 done t8 r1
        9 coming r1 m1 inc=2 slots=2
        9 ready r1 m1 inc=2 slots=2
        9 submit t9 m1 session=5 prompt=500",
        expect![[r#"
            1: decided t1: Order of [1, 2], dropped []
            1: decided t2: Fastest of [2, 1], dropped []
            4: decided t3: Warm of [2, 1], dropped []
            5: decided t4: LeastLoaded of [2, 1], dropped []
            5: decided t5: Order of [1, 2], dropped []
            5: decided t6: Only of [2], dropped [(NoSlot, 1)]
            6: decided t7: Only of [1], dropped [(NoSlot, 1)]
            8: decided t8: Warm of [1, 2], dropped []
            9: decided t9: LeastLoaded of [1, 2], dropped []
        "#]],
    );
}

// ORCH-3013, ORCH-3091
#[test]
fn devices_that_are_close_together_break_ties_only() {
    check_decisions(
        "
        0 ready r1 m1 slots=2 spread=5
        0 ready r2 m1 slots=2 spread=1
        0 ready r3 m1 slots=2 spread=1
        1 submit t1 m1
        1 submit t2 m1
        1 submit t3 m1
        1 submit t4 m1",
        expect![[r#"
            1: decided t1: Order of [2, 3, 1], dropped []
            1: decided t2: Topology of [3, 1, 2], dropped []
            1: decided t3: Fastest of [1, 2, 3], dropped []
            1: decided t4: Order of [2, 3, 1], dropped []
        "#]],
    );
}
