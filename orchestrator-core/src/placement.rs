//! Which replica runs a task: a pure function over the candidates of one model.
//!
//! Filter, then least loaded, then a total order, so that equal inputs give equal choices.

use crate::event::{Availability, ReplicaStatus};
use crate::types::{ReplicaId, TaskSpec};

/// A replica of the task's model as placement sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) replica: ReplicaId,
    pub(crate) status: ReplicaStatus,
    /// Slots that run an attempt or are not yet confirmed free.
    pub(crate) busy: u32,
    /// Refused a request a moment ago.
    pub(crate) suspect: bool,
}

/// Picks the Ready candidate with the smallest share of busy slots; ties go to more free slots, then
/// to the smaller id.
pub(crate) fn place(
    task: &TaskSpec,
    candidates: impl Iterator<Item = Candidate>,
) -> Option<ReplicaId> {
    candidates
        .filter(|it| can_take(task, it))
        .min_by(|a, b| {
            let (a_free, b_free) = (a.status.slots - a.busy, b.status.slots - b.busy);
            // busy_a / slots_a < busy_b / slots_b without division.
            let a_load = u64::from(a.busy) * u64::from(b.status.slots);
            let b_load = u64::from(b.busy) * u64::from(a.status.slots);
            a_load.cmp(&b_load).then(b_free.cmp(&a_free)).then(a.replica.cmp(&b.replica))
        })
        .map(|it| it.replica)
}

/// Engine, readiness, context and a free slot; all must hold.
fn can_take(task: &TaskSpec, candidate: &Candidate) -> bool {
    let status = &candidate.status;
    task.engine.is_none_or(|it| it == status.engine)
        && status.availability == Availability::Ready
        && !candidate.suspect
        && fits(task, status.context_tokens)
        && candidate.busy < status.slots
}

/// Whether prompt and answer fit into a slot's context; 0 stands for a context not known yet.
pub(crate) fn fits(task: &TaskSpec, context_tokens: u32) -> bool {
    let needed = u64::from(task.prompt_tokens) + u64::from(task.max_tokens);
    context_tokens == 0 || needed <= u64::from(context_tokens)
}
