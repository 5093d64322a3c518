//! The figures of a run, with their goals.

use figures::Figures;
use serde_json::{Value, json};

use crate::Durability;
use crate::audit::Audit;
use crate::harm::Harms;
use crate::quota::{over_at_once, over_in_a_minute};
use crate::run::Run;
use crate::stack::{TIGHT_RUNNING, TIGHT_TOKENS_PER_MIN, TIGHT_WAITING};

/// What three minutes must have at least, so that a run in which nothing happens does not pass.
const ACCEPTED_MIN: f64 = 200.;
const INTERRUPTED_MIN: f64 = 50.;
const HARMS_MIN: f64 = 10.;
/// Tasks that may end with an error. A quarter of the full disks last longer than streams wait, and end
/// all that run, which is up to 5 %; a few tasks lose all their attempts.
const FAILED_PERCENT_MAX: f64 = 10.;
/// Lines that are told of what went wrong.
const SURPRISES_MAX: usize = 40;

const NONE: Option<(&str, f64)> = Some(("<=", 0.));

pub(crate) fn figures(run: &Run, audit: &Audit) -> Figures {
    let found = run.found();
    let memory = run.options.durability == Durability::Memory;
    // What a run in memory loses is what it is for; the rest of its figures are shown only.
    let goal = |goal: Option<(&'static str, f64)>| goal.filter(|_| !memory);
    let at_least = |most: f64| goal(Some((">=", (most * run.options.minutes / 3.).floor())));
    let mut figures = Figures::default();
    let mut add = |name: &str, value: u64, goal| {
        figures.add(format!("chaos.{name}"), float(value), "", goal);
    };
    let breaches = over_at_once(&found.running, TIGHT_RUNNING)
        + over_at_once(&found.waiting, TIGHT_WAITING)
        + over_in_a_minute(&found.taken, TIGHT_TOKENS_PER_MIN);
    let failed: u64 = audit.errors.values().sum();
    add("accepted", audit.accepted, at_least(ACCEPTED_MIN));
    add("ended", audit.ended, None);
    add("lost", audit.lost, if memory { Some((">=", 1.)) } else { NONE });
    add("tokens_missing", found.flaws.missing, goal(NONE));
    add("tokens_doubled", found.flaws.doubled, goal(NONE));
    add("tokens_disordered", found.flaws.disordered, goal(NONE));
    add("contradictions", found.flaws.contradictions, goal(NONE));
    add("interrupted", found.interrupted, at_least(INTERRUPTED_MIN));
    add("cancels", found.cancels, None);
    add("cancels_broken", found.broken_cancels, goal(NONE));
    add("quota_breaches", breaches, goal(NONE));
    add("slots_leaked", audit.slots_leaked, NONE);
    add("orphans", audit.orphans, NONE);
    for kind in Harms::KINDS {
        add(&format!("kills.{kind}"), run.harms.count(kind), at_least(HARMS_MIN));
    }
    add("submissions_repeated", found.repeated, None);
    add("submissions_refused", found.refused, None);
    for (code, count) in &audit.errors {
        add(&format!("errors.{code}"), *count, None);
    }
    add("surprises", found.surprises.len() as u64, goal(NONE));
    let percent = float(failed) / float(audit.accepted.max(1)) * 100.;
    figures.add("chaos.failed_percent", percent, "%", goal(Some(("<=", FAILED_PERCENT_MAX))));
    figures
}

pub(crate) fn environment(run: &Run) -> Value {
    let Run { options, .. } = run;
    let durability = format!("{:?}", options.durability).to_lowercase();
    json!({"minutes": options.minutes, "seed": options.seed, "durability": durability})
}

/// The first things that should not have happened.
pub(crate) fn surprises(run: &Run) -> Vec<String> {
    run.found().surprises.iter().take(SURPRISES_MAX).cloned().collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
fn float(count: u64) -> f64 {
    count as f64
}
