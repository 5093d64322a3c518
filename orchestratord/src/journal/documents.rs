//! What stands in the journal, as JSON: names, never the numbers that one process gives them.
//!
//! A field that is added later needs a default, or a migration.

use adapter_api::Sampling;
use api_types::{Priority, Task, TaskRequest};
use orchestrator_core::{
    Class, ModelId, PoolChoice, PoolId, SavedCounters, SavedEntry, SavedMeter, SavedQuota,
    SavedShares, SavedStanding, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::task::TaskRecord;

/// What a task is to do; never changes.
#[derive(Serialize, Deserialize)]
pub(super) struct RequestDoc {
    /// With its defaults.
    pub(super) request: TaskRequest,
    /// The model's id.
    pub(super) model: String,
    pub(super) prompt_tokens: u32,
    pub(super) max_tokens: u32,
    pub(super) sampling: Sampling,
    pub(super) cancel_on_disconnect: bool,
    pub(super) pools: Option<PoolsDoc>,
    pub(super) correlation_id: String,
    /// Microseconds since 1970.
    pub(super) admitted_us: u64,
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct PoolsDoc {
    pub(super) pin: Vec<String>,
    pub(super) prefer: Vec<String>,
    pub(super) avoid: Vec<String>,
}

/// What has become of it.
#[derive(Serialize, Deserialize)]
pub(super) struct StateDoc {
    /// As clients see it, without its text.
    pub(super) task: Task,
    pub(super) queue_position: u64,
    pub(super) predicted_start_ms: u64,
    pub(super) predicted_start_p90_ms: u64,
    pub(super) preemptions: u32,
    pub(super) standing: StandingDoc,
}

/// See [`SavedStanding`]; the tokens are those of the events.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct StandingDoc {
    attempts: u32,
    failures: u32,
    prompt_charged: u32,
    preemptions: u8,
    crashes: u8,
    strikes: u8,
    reserved: Option<(u64, u64)>,
}

/// A tenant's use of its limits, under `quota/` and its name.
#[derive(Serialize, Deserialize)]
pub(crate) struct QuotaDoc {
    requests_until_us: u64,
    tokens: Vec<(u64, u64)>,
}

/// The counters of fairness, under [`COUNTERS`].
#[derive(Serialize, Deserialize)]
pub(crate) struct CountersDoc {
    entries: Vec<EntryDoc>,
    left: Vec<(String, Priority, u64)>,
    turns: u64,
    shares: Vec<SharesDoc>,
}

#[derive(Serialize, Deserialize)]
struct EntryDoc {
    group: String,
    class: Priority,
    tenant: String,
    meter: MeterDoc,
    turn: u64,
    charged: i128,
    lifted: u64,
}

#[derive(Serialize, Deserialize)]
struct MeterDoc {
    counter: u64,
    carry: i128,
}

#[derive(Serialize, Deserialize)]
struct SharesDoc {
    model: String,
    meters: [MeterDoc; 2],
    left: u64,
    served_us: [u64; 2],
}

pub(crate) const COUNTERS: &str = "counters";
/// Followed by the tenant's name.
pub(crate) const QUOTA: &str = "quota/";
/// Of this daemon's starts, as pool managers are told.
pub(crate) const EPOCH: &str = "epoch";

impl StateDoc {
    pub(super) fn of(record: &TaskRecord) -> Self {
        let task = record.written_view();
        let stream = record.lock();
        let progress = &stream.progress;
        Self {
            task,
            queue_position: progress.queue_position,
            predicted_start_ms: progress.predicted_start_ms,
            predicted_start_p90_ms: progress.predicted_start_p90_ms,
            preemptions: progress.preemptions,
            standing: StandingDoc::of(&progress.standing),
        }
    }
}

impl PoolsDoc {
    pub(super) fn of(choice: &PoolChoice, name: impl Fn(PoolId) -> Option<String>) -> Self {
        let names = |ids: &[PoolId]| ids.iter().filter_map(|it| name(*it)).collect();
        Self { pin: names(&choice.pin), prefer: names(&choice.prefer), avoid: names(&choice.avoid) }
    }

    pub(super) fn choice(&self, mut id: impl FnMut(&str) -> PoolId) -> PoolChoice {
        let mut ids = |names: &[String]| names.iter().map(|it| id(it)).collect();
        PoolChoice { pin: ids(&self.pin), prefer: ids(&self.prefer), avoid: ids(&self.avoid) }
    }
}

impl StandingDoc {
    pub(super) fn of(it: &SavedStanding) -> Self {
        Self {
            attempts: it.attempts,
            failures: it.failures,
            prompt_charged: it.prompt_charged,
            preemptions: it.preemptions,
            crashes: it.crashes,
            strikes: it.strikes,
            reserved: it.reserved.map(|(since, tokens)| (since.0, tokens)),
        }
    }

    /// `tokens`: those of the answer so far.
    pub(super) fn standing(&self, tokens: u32) -> SavedStanding {
        SavedStanding {
            attempts: self.attempts,
            failures: self.failures,
            tokens,
            prompt_charged: self.prompt_charged,
            preemptions: self.preemptions,
            crashes: self.crashes,
            strikes: self.strikes,
            reserved: self.reserved.map(|(since, tokens)| (Timestamp(since), tokens)),
        }
    }
}

impl QuotaDoc {
    pub(crate) fn of(quota: SavedQuota) -> Self {
        Self { requests_until_us: quota.requests_until.0, tokens: quota.tokens }
    }

    pub(super) fn quota(self) -> SavedQuota {
        SavedQuota { requests_until: Timestamp(self.requests_until_us), tokens: self.tokens }
    }
}

/// The names behind the core's numbers.
pub(crate) trait Names {
    fn model(&self, id: ModelId) -> String;
    fn tenant(&self, id: TenantId) -> String;
}

impl CountersDoc {
    pub(crate) fn of(saved: &SavedCounters, names: &impl Names) -> Self {
        let entry = |it: &SavedEntry| EntryDoc {
            group: names.model(it.group),
            class: priority(it.class),
            tenant: names.tenant(it.tenant),
            meter: MeterDoc::of(it.meter),
            turn: it.turn,
            charged: it.charged,
            lifted: it.lifted,
        };
        let left = saved.left.iter().map(|it| (names.model(it.0), priority(it.1), it.2));
        let shares = saved.shares.iter().map(|(model, it)| SharesDoc {
            model: names.model(*model),
            meters: it.meters.map(MeterDoc::of),
            left: it.left,
            served_us: it.served.map(|it| it.0),
        });
        Self {
            entries: saved.entries.iter().map(entry).collect(),
            left: left.collect(),
            turns: saved.turns,
            shares: shares.collect(),
        }
    }

    /// Entries of tenants that there are no more are left out.
    pub(super) fn counters(
        &self,
        mut model: impl FnMut(&str) -> ModelId,
        tenant: impl Fn(&str) -> Option<TenantId>,
    ) -> SavedCounters {
        let entries = self.entries.iter().filter_map(|it| {
            Some(SavedEntry {
                tenant: tenant(&it.tenant)?,
                group: model(&it.group),
                class: class(it.class),
                meter: it.meter.meter(),
                turn: it.turn,
                charged: it.charged,
                lifted: it.lifted,
            })
        });
        let entries = entries.collect();
        let left = self.left.iter().map(|it| (model(&it.0), class(it.1), it.2)).collect();
        let shares = self.shares.iter().map(|it| {
            let [one, two] = &it.meters;
            let meters = [one.meter(), two.meter()];
            let served = it.served_us.map(Timestamp);
            (model(&it.model), SavedShares { meters, left: it.left, served })
        });
        SavedCounters { entries, left, turns: self.turns, shares: shares.collect() }
    }
}

impl MeterDoc {
    fn of(it: SavedMeter) -> Self {
        Self { counter: it.counter, carry: it.carry }
    }

    fn meter(&self) -> SavedMeter {
        SavedMeter { counter: self.counter, carry: self.carry }
    }
}

fn priority(class: Class) -> Priority {
    match class {
        Class::Interactive => Priority::Interactive,
        Class::Batch => Priority::Batch,
    }
}

fn class(priority: Priority) -> Class {
    match priority {
        Priority::Interactive => Class::Interactive,
        Priority::Batch => Class::Batch,
    }
}

#[cfg(test)]
mod tests;
