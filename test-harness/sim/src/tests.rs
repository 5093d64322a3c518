//! Each scenario in small, with every invariant looked at after every event where that is quick.

use serde_json::{Value, json};

use crate::figures::Outcome;
use crate::scenarios::{Settings, backlog, deadline, flood, mixed, storm, swap, vtc};

/// The scenarios with one constant changed.
fn changed(name: &str, constant: &str, value: u64) -> Value {
    let mut all: Value = serde_json::from_str(crate::SCENARIOS).unwrap();
    all["scenarios"][name][constant] = json!(value);
    all
}

fn run(
    name: &str,
    constant: (&str, u64),
    check_every: u64,
    scenario: fn(Settings<'_>, u64) -> Outcome,
) -> Outcome {
    let all = changed(name, constant.0, constant.1);
    let mut settings = Settings::new(&all, name);
    settings.check_every = check_every;
    scenario(settings, 1)
}

fn figure(outcome: &Outcome, name: &str) -> f64 {
    outcome.figures.iter().find(|it| it.0 == name).unwrap().1
}

fn assert_checks(outcome: &Outcome) {
    let broken: Vec<_> = outcome.checks.iter().filter(|it| !it.holds).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

// OC-CORE-1040, OC-CORE-1014, ORCH-3075
#[test]
fn the_fairness_bound_holds_and_is_missed_without_the_lift() {
    let outcome = run("vtc", ("random_schedules", 60), 20, vtc::run);
    assert_checks(&outcome);
    assert!(figure(&outcome, "fair.vtc_bound_violations") == 0.0, "{outcome:?}");
    assert!(0.3 <= figure(&outcome, "fair.vtc_max_gap_over_bound"), "{outcome:?}");
}

// OC-CORE-1042, ORCH-4010
#[test]
fn swaps_keep_the_bound_and_do_more_than_first_come() {
    let outcome = run("swap", ("duration_s", 3_000), 1, swap::run);
    assert_checks(&outcome);
    assert!(3.0 <= figure(&outcome, "swap.goodput_vs_fifo"), "{outcome:?}");
    assert!(figure(&outcome, "swap.wait_over_bound_s") <= 0.0, "{outcome:?}");
}

// OC-CORE-1044, ORCH-3080
#[test]
fn deadlines_are_met_under_overload_and_predictions_kept() {
    let outcome = run("deadline", ("duration_s", 1_800), 100, deadline::run);
    assert_checks(&outcome);
    assert!(0.85 <= figure(&outcome, "deadline.ontime_share_of_capacity"), "{outcome:?}");
    assert!((0.8..=1.0).contains(&figure(&outcome, "deadline.p90_coverage")), "{outcome:?}");
}

// OC-CORE-1043, ORCH-3086
#[test]
fn preempted_work_ends_and_interactive_work_hardly_waits() {
    let outcome = run("mixed", ("duration_s", 600), 10, mixed::run);
    assert_checks(&outcome);
    assert!(figure(&outcome, "preempt.unfinished") == 0.0, "{outcome:?}");
    assert!(figure(&outcome, "preempt.max_per_task") <= 2.0, "{outcome:?}");
    assert!(0.85 <= figure(&outcome, "mixed.batch_throughput_ratio"), "{outcome:?}");
}

// ORCH-4007
#[test]
fn a_storm_of_crashes_loses_nothing_and_harms_no_innocent() {
    let outcome = run("storm", ("duration_s", 900), 20, storm::run);
    assert_checks(&outcome);
    assert!(figure(&outcome, "storm.lost") == 0.0, "{outcome:?}");
    assert!(figure(&outcome, "storm.innocent_failed") == 0.0, "{outcome:?}");
    assert!(figure(&outcome, "storm.poison_kills_max") <= 2.0, "{outcome:?}");
}

// ORCH-3075, OC-CORE-1040
#[test]
fn a_flood_delays_others_by_little() {
    let outcome = run("flood", ("duration_s", 240), 2_000, flood::run);
    assert_checks(&outcome);
    assert!(20.0 <= figure(&outcome, "flood.fifo_over_ours_p95"), "{outcome:?}");
    assert!(figure(&outcome, "flood.light_wait_excess_turnovers") <= 4.0, "{outcome:?}");
}

// OC-CORE-1014
#[test]
fn tenants_that_always_wait_get_equal_shares() {
    let outcome = run("backlog", ("duration_s", 240), 1_000, backlog::equal);
    assert_checks(&outcome);
    assert!(0.98 <= figure(&outcome, "fair.jain_60s_min"), "{outcome:?}");
}

// OC-CORE-1033
#[test]
fn equal_seeds_give_equal_timelines() {
    let all = changed("swap", "duration_s", 600);
    let golden = |seed| swap::golden(Settings::new(&all, "swap"), seed);
    assert_eq!(golden(1), golden(1));
    assert_ne!(golden(1), golden(2));
}

// OC-CORE-1033
#[test]
fn the_golden_timeline_is_the_same_on_every_machine() {
    let all: Value = serde_json::from_str(crate::SCENARIOS).unwrap();
    let found = swap::golden(Settings::new(&all, "swap"), 1);
    let advice = "if a rule was changed on purpose: target/release/sim --golden";
    assert_eq!(found, crate::GOLDEN.trim(), "{advice}");
}
