//! After everything: is each task what its client saw, and is nothing left behind?

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{Answer, Client};
use crate::run::{Fate, Found, Run};
use crate::stack::{FREE_KEY, TIGHT_KEY, wait_until};
use crate::trace::{Event, check, digest};

/// How long slots may take to be free: longer than the release time-out.
const SLOTS: Duration = Duration::from_secs(45);
/// How long processes may take to be gone once their daemons are.
const PROCESSES: Duration = Duration::from_secs(10);

/// What the audit counts.
#[derive(Default)]
pub(crate) struct Audit {
    pub(crate) accepted: u64,
    pub(crate) ended: u64,
    pub(crate) lost: u64,
    /// Ends with an error, by its code.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) slots_leaked: u64,
    pub(crate) orphans: u64,
}

/// Reads every stream again, waits for the slots, stops both daemons and looks for processes.
pub(crate) fn audit(run: &Run) -> Audit {
    let mut found = run.found();
    let mut audit = Audit::default();
    streams(run, &mut found, &mut audit);
    let mut busy = (0, 0);
    let freed = wait_until("all slots are free", SLOTS, || {
        busy = run.stack.busy_slots().unwrap_or((u64::MAX, 0));
        busy == (0, 0)
    });
    if freed.is_err() {
        found.surprises.push(format!("busy slots, counted and of engines: {busy:?}"));
    }
    audit.slots_leaked = busy.0.max(busy.1);
    if let Err(error) = run.stack.stop() {
        found.surprises.push(format!("{error:#}"));
    }
    let mut left = Vec::new();
    let gone = wait_until("all processes are gone", PROCESSES, || {
        left = run.stack.all_processes();
        left.is_empty()
    });
    if gone.is_err() {
        found.surprises.push(format!("processes that are left: {left:?}"));
    }
    audit.orphans = left.len() as u64;
    audit
}

/// A task counts as ended if it reads the same now as when its client saw it.
fn streams(run: &Run, found: &mut Found, audit: &mut Audit) {
    let clients = [FREE_KEY, TIGHT_KEY].map(|key| (key, Client::new(run.stack.address, key)));
    let clients: BTreeMap<&str, Client> = clients.into_iter().collect();
    for task in &found.tasks {
        audit.accepted += 1;
        let answer = clients[task.key].get(&format!("/v1/tasks/{}/stream", task.id));
        let (digest_before, error) = match (&task.fate, &answer) {
            (Fate::Ended { digest, error }, Ok(answer)) if answer.status == 200 => (digest, error),
            (Fate::Ended { .. } | Fate::Lost, _) => {
                audit.lost += 1;
                let now = answer.map(|it| it.status);
                found.surprises.push(format!("{} is lost: {now:?} after all", task.id));
                continue;
            }
        };
        let events = answer.into_iter().flat_map(Answer::events);
        let events: Vec<Event> = events.filter(|it| it.id.is_some()).collect();
        let mut flaws = check(&events, task.asked);
        flaws.contradictions += u64::from(digest(&events) != *digest_before);
        if flaws.any() {
            found.surprises.push(format!("{} at the end: {flaws:?}", task.id));
        }
        found.flaws.add(flaws);
        audit.ended += 1;
        if let Some(code) = error {
            *audit.errors.entry(code.clone()).or_default() += 1;
        }
    }
}
