//! Which model is resident, and when another takes its place.

use expect_test::expect;
use orchestrator_core::CoreConfig;

use crate::script::{CONFIG, check};

const ROOMY: CoreConfig = CoreConfig { queue_capacity: 100, ..CONFIG };

/// One device with room for one of two models; the first is resident since second 0.
const TWO: &str = "
    0 device d0 bytes=10
    0 ready r1 m1
    0 needs r1 bytes=10 load=5
    0 unloaded r2 m2
    0 needs r2 bytes=10 load=5
";

// ORCH-4010, OC-CORE-1042
#[test]
fn what_is_queued_for_the_resident_model_goes_first() {
    let script = format!(
        "{TWO}
        20 submit t1 m1
        21 submit t2 m2
        22 submit t3 m1
        23 done t1 r1
        24 done t3 r1
        25 unloaded r2 m2
        26 unloaded r1 m1
        27 coming r2 m2 inc=2
        28 submit t4 m1
        32 ready r2 m2 inc=2
        33 done t2 r2
        41 tick
        42 tick"
    );
    check(
        ROOMY,
        &script,
        expect![[r#"
        20: admitted t1 at 0, starts in 0.0s (p90 0.0s)
        20: dispatch t1 on r1 attempt 1
        21: admitted t2 at 0, starts in unknown (p90 unknown)
        22: admitted t3 at 0, starts in 1.0s (p90 1.8s)
        23: ended t1: Completed
        23: dispatch t3 on r1 attempt 1
        24: ended t3: Completed
        24: unload r1
        26: load r2
        28: admitted t4 at 0, starts in unknown (p90 unknown)
        32: dispatch t2 on r2 attempt 1
        33: ended t2: Completed
        42: unload r2
    "#]],
    );
}

// ORCH-4010, OC-CORE-1042
#[test]
fn after_the_longest_wait_the_resident_model_takes_only_what_came_before() {
    let script = format!(
        "{TWO}
        20 submit t1 m1
        21 submit t2 m1
        22 submit t3 m2
        23 submit t4 m1
        40 done t1 r1
        82 tick
        83 done t2 r1
        84 unloaded r1 m1
        85 coming r2 m2 inc=2
        90 ready r2 m2 inc=2"
    );
    check(
        ROOMY,
        &script,
        expect![[r#"
        20: admitted t1 at 0, starts in 0.0s (p90 0.0s)
        20: dispatch t1 on r1 attempt 1
        21: admitted t2 at 0, starts in 1.0s (p90 1.8s)
        22: admitted t3 at 0, starts in unknown (p90 unknown)
        23: admitted t4 at 1, starts in 2.0s (p90 2.8s)
        40: ended t1: Completed
        40: dispatch t2 on r1 attempt 1
        83: ended t2: Completed
        83: unload r1
        84: load r2
        90: dispatch t3 on r2 attempt 1
    "#]],
    );
}

// ORCH-4010
#[test]
fn a_busy_loading_or_pinned_model_is_never_evicted() {
    let script = "
        0 device d0 bytes=10
        0 ready r1 m1
        0 needs r1 bytes=6 load=5 pinned
        0 ready r2 m2
        0 needs r2 bytes=4 load=5
        0 unloaded r3 m3
        0 needs r3 bytes=4 load=5
        0 unloaded r4 m4
        0 needs r4 bytes=6 load=5
        20 submit t1 m2
        21 submit t2 m3
        22 submit t3 m4
        90 tick
        91 done t1 r2
        92 unloaded r2 m2
        93 coming r3 m3 inc=2
        94 submit t4 m2
        100 ready r3 m3 inc=2
        101 done t2 r3
        110 tick
        141 tick
        142 tick";
    check(
        ROOMY,
        script,
        expect![[r#"
            20: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            20: dispatch t1 on r2 attempt 1
            21: admitted t2 at 0, starts in unknown (p90 unknown)
            22: admitted t3 at 0, starts in unknown (p90 unknown)
            91: ended t1: Completed
            91: unload r2
            92: load r3
            94: admitted t4 at 0, starts in unknown (p90 unknown)
            100: dispatch t2 on r3 attempt 1
            101: ended t2: Completed
            142: ended t3: NoReplica { coming: true }
            142: unload r3
        "#]],
    );
}

// ORCH-4010
#[test]
fn free_memory_is_used_before_anything_is_evicted() {
    let script = "
        0 device d0 bytes=10
        0 ready r1 m1
        0 needs r1 bytes=6 load=5
        0 unloaded r2 m2
        0 needs r2 bytes=4 load=5
        1 submit t1 m2";
    check(
        ROOMY,
        script,
        expect![[r#"
        1: admitted t1 at 0, starts in unknown (p90 unknown)
        1: load r2
    "#]],
    );
}

// ORCH-4010
#[test]
fn a_load_that_failed_is_tried_again_later() {
    let script = format!(
        "{TWO}
        20 submit t1 m2
        21 unloaded r1 m1
        22 coming r2 m2 inc=2
        23 unloaded r2 m2 inc=2
        24 tick
        28 tick"
    );
    check(
        ROOMY,
        &script,
        expect![[r#"
        20: admitted t1 at 0, starts in unknown (p90 unknown)
        20: unload r1
        21: load r2
        28: load r2
    "#]],
    );
}

// OC-CORE-1052
#[test]
fn a_model_that_nobody_asks_for_leaves_when_it_has_been_idle_for_its_time() {
    check(
        ROOMY,
        "
        0 device d0 bytes=10
        0 ready r1 m1
        0 needs r1 bytes=4 load=5 ttl=100
        0 unloaded r2 m2
        0 needs r2 bytes=4 load=5 ttl=100
        50 submit t1 m1
        90 done t1 r1
        100 tick
        189 tick
        190 tick
        191 unloaded r1 m1
        200 submit t2 m1
        201 ready r1 m1 inc=2
        300 submit t3 m1
        301 tick
        302 done t2 r1
        303 tick
        500 done t3 r1
        599 tick
        600 tick",
        expect![[r#"
            50: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            50: dispatch t1 on r1 attempt 1
            90: ended t1: Completed
            190: unload r1
            200: admitted t2 at 0, starts in unknown (p90 unknown)
            200: load r1
            201: dispatch t2 on r1 attempt 1
            300: admitted t3 at 0, starts in 40.0s (p90 72.0s)
            302: ended t2: Completed
            302: dispatch t3 on r1 attempt 1
            500: ended t3: Completed
            600: unload r1
        "#]],
    );
}

// OC-CORE-1052
#[test]
fn a_pinned_model_stays_however_idle() {
    check(
        ROOMY,
        "
        0 device d0 bytes=10
        0 ready r1 m1
        0 needs r1 bytes=4 load=5 ttl=100 pinned
        100 tick
        1000 tick",
        expect![[""]],
    );
}

// OC-CORE-1042
#[test]
fn an_order_that_was_not_carried_out_is_given_again_after_a_while() {
    let script = format!(
        "{TWO}
        20 submit t1 m2
        20 unheard r1
        25 tick
        30 tick
        31 unloaded r1 m1
        31 unheard r2
        35 tick
        36 tick"
    );
    check(
        ROOMY,
        &script,
        expect![[r#"
        20: admitted t1 at 0, starts in unknown (p90 unknown)
        20: unload r1
        30: unload r1
        31: load r2
        36: load r2
    "#]],
    );
}

// OC-CORE-1042
#[test]
fn an_engine_that_was_busy_after_all_serves_on() {
    let script = format!(
        "{TWO}
        20 submit t1 m2
        21 drain r1 m1
        22 submit t2 m1
        23 ready r1 m1
        24 done t2 r1
        33 tick"
    );
    check(
        ROOMY,
        &script,
        expect![[r#"
        20: admitted t1 at 0, starts in unknown (p90 unknown)
        20: unload r1
        22: admitted t2 at 0, starts in unknown (p90 unknown)
        23: dispatch t2 on r1 attempt 1
        24: ended t2: Completed
        33: unload r1
    "#]],
    );
}

// ORCH-4010
#[test]
fn a_model_is_loaded_where_there_is_room_before_another_makes_way() {
    check(
        ROOMY,
        "
        0 device d0 bytes=10
        0 device d1 bytes=10
        0 ready r1 m1
        0 needs r1 bytes=10 load=5
        0 unloaded r2 m2
        0 needs r2 bytes=8 load=5
        0 unloaded r3 m2
        0 needs r3 on=1 bytes=8 load=5
        20 submit t1 m2
        21 ready r3 m2
        22 done t1 r3
        30 submit t2 m2
        31 submit t3 m2",
        expect![[r#"
            20: admitted t1 at 0, starts in unknown (p90 unknown)
            20: load r3
            21: dispatch t1 on r3 attempt 1
            22: ended t1: Completed
            30: admitted t2 at 0, starts in 0.0s (p90 0.0s)
            30: dispatch t2 on r3 attempt 1
            31: admitted t3 at 0, starts in 1.0s (p90 1.8s)
        "#]],
    );
}

// ORCH-4010
#[test]
fn a_model_is_loaded_where_others_may_go_before_where_they_work() {
    check(
        ROOMY,
        "
        0 device d0 bytes=10
        0 device d1 bytes=10
        0 ready r1 m1
        0 needs r1 bytes=10 load=5
        0 ready r2 m3
        0 needs r2 on=1 bytes=10 load=5
        0 unloaded r3 m2
        0 needs r3 bytes=8 load=5
        0 unloaded r4 m2
        0 needs r4 on=1 bytes=8 load=5
        15 submit t1 m1
        20 submit t2 m2
        21 unloaded r2 m3",
        expect![[r#"
            15: admitted t1 at 0, starts in 0.0s (p90 0.0s)
            15: dispatch t1 on r1 attempt 1
            20: admitted t2 at 0, starts in unknown (p90 unknown)
            20: unload r2
            21: load r4
        "#]],
    );
}
