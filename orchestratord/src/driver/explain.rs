//! The core's reasons in the words of the wire.

use std::collections::BTreeMap;

use api_types::{
    Decision, DecisionCandidate, DropCount, Explanation, PlacementChoice, PlacementDrop,
    QueuedReason, Waiting,
};
use orchestrator_core::{Choice, DecisionRecord, DropReason, Timestamp, WaitReason};

use super::Driver;
use crate::task::TaskRecord;

impl Driver {
    pub(super) fn explain(&self, record: &TaskRecord) -> Explanation {
        let admitted = record.admitted;
        let stream = record.lock();
        let decisions = stream.progress.decisions.iter();
        let standing = self.core.standing(record.core_id);
        Explanation {
            task_id: record.id,
            state: stream.state(),
            waiting: standing.map(|it| Waiting {
                queue_position: it.position,
                predicted_start_ms: self.milliseconds(it.predicted_start),
                reason: reason(it.reason),
                obstacles: drops(self.core.obstacles(record.core_id)),
            }),
            decisions: decisions.map(|it| self.decision(it, admitted)).collect(),
        }
    }

    fn decision(&self, it: &DecisionRecord, admitted: Timestamp) -> Decision {
        let candidates = it.candidates.iter().map(|(replica, takes)| DecisionCandidate {
            replica_id: self.directory.replica_name(*replica),
            predicted_ms: takes.0 / 1_000,
        });
        Decision {
            after_ms: it.at.since(admitted).0 / 1_000,
            replica_id: self.directory.replica_name(it.replica),
            choice: choice(it.choice),
            candidates: candidates.collect(),
            dropped: drops(it.dropped.iter().copied().collect()),
        }
    }
}

/// Why a task waits.
pub(super) fn reason(reason: WaitReason) -> QueuedReason {
    match reason {
        WaitReason::SessionBusy => QueuedReason::SessionBusy,
        WaitReason::HeldByQuota => QueuedReason::HeldByQuota,
        WaitReason::LoadingModel => QueuedReason::LoadingModel,
        WaitReason::NoReadyReplica => QueuedReason::NoReadyReplica,
        WaitReason::Resuming => QueuedReason::Resuming,
        WaitReason::OverFairShare => QueuedReason::OverFairShare,
        WaitReason::WaitingForSlot => QueuedReason::WaitingForSlot,
    }
}

fn choice(choice: Choice) -> PlacementChoice {
    match choice {
        Choice::Only => PlacementChoice::Only,
        Choice::Preferred => PlacementChoice::Preferred,
        Choice::Warm => PlacementChoice::Warm,
        Choice::Fastest => PlacementChoice::Fastest,
        Choice::LeastLoaded => PlacementChoice::LeastLoaded,
        Choice::Topology => PlacementChoice::Topology,
        Choice::Order => PlacementChoice::Order,
    }
}

fn drops(counts: BTreeMap<DropReason, u32>) -> Vec<DropCount> {
    let drop = |(reason, replicas)| DropCount { reason: drop_reason(reason), replicas };
    counts.into_iter().map(drop).collect()
}

fn drop_reason(reason: DropReason) -> PlacementDrop {
    match reason {
        DropReason::ModelNotResident => PlacementDrop::ModelNotResident,
        DropReason::NotReady => PlacementDrop::NotReady,
        DropReason::Draining => PlacementDrop::Draining,
        DropReason::NoSlot => PlacementDrop::NoSlot,
        DropReason::InsufficientContext => PlacementDrop::InsufficientCtx,
        DropReason::InsufficientKv => PlacementDrop::InsufficientKv,
        DropReason::EngineMismatch => PlacementDrop::EngineMismatch,
        DropReason::PoolMismatch => PlacementDrop::PoolMismatch,
        DropReason::Avoided => PlacementDrop::Avoided,
        DropReason::Reserved => PlacementDrop::Reserved,
        DropReason::Suspect => PlacementDrop::Suspect,
    }
}
