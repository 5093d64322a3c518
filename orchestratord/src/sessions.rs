//! The sessions of tenants: how many turns they had, what they may still use, where the last one ran.
//!
//! Bookkeeping that the driver owns. Whose turn it is and which cache is warm is the core's.

mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api_types::{Budget, Budgets, TaskPlacement};
use config_schema::Sessions as Settings;
use orchestrator_core::{Micros, ModelId, TaskId, TenantId, Timestamp};
use uuid::Uuid;

pub(crate) use saved::{SESSION, SessionDoc, journal_key};

use crate::task::TaskRecord;

/// A tenant and the name that it gave its session.
pub(crate) type Key = (TenantId, String);

/// When to come back where an open turn may give something back.
const SOON: Micros = Micros(1_000_000);

/// What is taken of budgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spend {
    tokens: u64,
    time_us: u64,
    /// Thousandths of a token of a model that costs 1.
    cost_milli: u64,
}

/// What is left of them; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Remaining {
    pub(crate) tokens: Option<u64>,
    pub(crate) time_ms: Option<u64>,
    pub(crate) cost: Option<u64>,
}

/// A budget that does not suffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) kind: BudgetKind,
    /// In whole units of the configuration.
    pub(crate) remaining: u64,
    pub(crate) retry_after: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BudgetKind {
    Tokens,
    Time,
    Cost,
}

pub(crate) struct Sessions {
    settings: Settings,
    /// In thousandths, of the models whose tokens do not cost 1.
    costs: BTreeMap<ModelId, u64>,
    all: BTreeMap<Key, Session>,
    /// Those without an open turn, the longest unused first; by tenant, and of all.
    idle_of: BTreeMap<TenantId, BTreeSet<(Timestamp, String)>>,
    idle: BTreeSet<(Timestamp, Key)>,
    /// Turns that run.
    running: BTreeMap<TaskId, Key>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Session {
    began: Timestamp,
    /// When its last turn was admitted, or ended.
    used_at: Timestamp,
    turns: u32,
    used: Spend,
    open: BTreeMap<TaskId, Turn>,
    placement: Option<Arc<TaskPlacement>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    id: Uuid,
    reserved: Spend,
    /// Attempt, and since when.
    running: Option<(u32, Timestamp)>,
}

/// The session that a task is a turn of.
pub(crate) fn key_of(record: &TaskRecord) -> Option<Key> {
    let name = record.job.canonical.session_id.as_ref()?;
    Some((record.tenant.id, name.clone()))
}

impl Sessions {
    pub(crate) fn new(settings: Settings, costs: BTreeMap<ModelId, u64>) -> Self {
        Self {
            settings,
            costs,
            all: BTreeMap::new(),
            idle_of: BTreeMap::new(),
            idle: BTreeSet::new(),
            running: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Tokens of the task's model.
    fn spend(&self, record: &TaskRecord, tokens: u64) -> Spend {
        let cost = self.costs.get(&record.job.model).copied().unwrap_or(1_000);
        Spend { tokens, time_us: 0, cost_milli: tokens.saturating_mul(cost) }
    }

    /// The most that a task may take.
    fn most(&self, record: &TaskRecord) -> Spend {
        let job = &record.job;
        self.spend(record, u64::from(job.prompt_tokens) + u64::from(job.max_tokens))
    }

    /// What an ended task took. What an engine did not tell counts as it was estimated.
    fn taken(&self, record: &TaskRecord) -> Spend {
        let stream = record.lock();
        let told = stream.progress.usage.tokens_in;
        let began = stream.progress.attempt != 0;
        let estimate = if began { u64::from(record.job.prompt_tokens) } else { 0 };
        let prompt = if told == 0 { estimate } else { told };
        let tokens = prompt + stream.log.tokens();
        drop(stream);
        self.spend(record, tokens)
    }

    /// A turn has ended for who reads it, though not yet for the core: no more is reserved than it took.
    pub(crate) fn foresee_end(&mut self, record: &TaskRecord) {
        let taken = self.taken(record);
        let session = key_of(record).and_then(|it| self.all.get_mut(&it));
        if let Some(turn) = session.and_then(|it| it.open.get_mut(&record.core_id)) {
            turn.reserved = taken;
        }
    }

    /// Whether the budgets suffice for a further turn.
    pub(crate) fn check(&self, record: &TaskRecord, now: Timestamp) -> Result<(), Exhausted> {
        let Some(key) = key_of(record) else { return Ok(()) };
        let session = self.all.get(&key);
        let used = session.map_or_else(Spend::default, |it| it.used(now));
        let reserved = session.map_or_else(Spend::default, Session::reserved);
        let need = self.most(record);
        let end = session.filter(|it| it.open.is_empty()).map_or(now, |it| it.used_at);
        let end = end.after(Micros(self.settings.ttl_ms.saturating_mul(1_000)));
        let check = |kind, limit: Option<u64>, need: u64, used: u64, reserved: u64| {
            let Some(limit) = limit else { return Ok(()) };
            let unused = limit.saturating_sub(used);
            let remaining = unused.saturating_sub(reserved);
            if need <= remaining {
                return Ok(());
            }
            let retry_after = if need <= unused { SOON } else { end.since(now) };
            Err(Exhausted { kind, remaining, retry_after })
        };
        let limits = self.limits();
        check(BudgetKind::Tokens, limits.tokens, need.tokens, used.tokens, reserved.tokens)?;
        // How long it will run nobody knows: it is stopped when the time is over.
        check(BudgetKind::Time, limits.time_us, 1, used.time_us, 0)?;
        let cost = (need.cost_milli, used.cost_milli, reserved.cost_milli);
        check(BudgetKind::Cost, limits.cost_milli, cost.0, cost.1, cost.2)
            .map_err(|it| Exhausted { remaining: it.remaining / 1_000, ..it })
    }

    /// Tasks that are open turns of the session.
    pub(crate) fn open(&self, key: &Key) -> impl Iterator<Item = TaskId> {
        self.all.get(key).into_iter().flat_map(|it| it.open.keys().copied())
    }

    /// Whether the next turn is to begin anew, since there were as many as may be.
    pub(crate) fn is_used_up(&self, key: &Key) -> bool {
        let turns = self.all.get(key).map_or(0, |it| it.turns);
        self.settings.turns != 0 && self.settings.turns <= turns
    }

    /// A turn was admitted. The first one begins the session.
    pub(crate) fn begin(&mut self, record: &TaskRecord, now: Timestamp) {
        let Some(key) = key_of(record) else { return };
        let (reserved, used_up) = (self.most(record), self.is_used_up(&key));
        self.no_longer_idle(&key);
        let new = || Session { began: now, ..Session::default() };
        let session = self.all.entry(key).or_insert_with(new);
        if used_up {
            session.turns = 0;
        }
        session.turns += 1;
        session.used_at = now;
        session.open.insert(record.core_id, Turn { id: record.id, reserved, running: None });
    }

    /// How long a turn that starts may run; `None`: no limit, and zero: not at all, so that it does
    /// not start.
    pub(crate) fn run(
        &mut self,
        record: &TaskRecord,
        attempt: u32,
        now: Timestamp,
    ) -> Option<Duration> {
        let key = key_of(record)?;
        let limit = self.limits().time_us;
        let session = self.all.get_mut(&key)?;
        // One whose engine died has not told its end yet.
        session.stop(record.core_id, None, now);
        let left = limit.map(|it| it.saturating_sub(session.used.time_us));
        if left != Some(0) {
            let turn = session.open.get_mut(&record.core_id)?;
            turn.running = Some((attempt, now));
            self.running.insert(record.core_id, key);
        }
        left.map(Duration::from_micros)
    }

    /// An attempt has ended; the turn may go on in another one.
    pub(crate) fn stop(&mut self, task: TaskId, attempt: u32, now: Timestamp) {
        let session = self.running.get(&task).and_then(|it| self.all.get_mut(it));
        if session.is_some_and(|it| it.stop(task, Some(attempt), now)) {
            self.running.remove(&task);
        }
    }

    /// A turn has ended, and what it did not take comes back. False: it is no turn of a session that
    /// there still is.
    pub(crate) fn end_turn(&mut self, record: &TaskRecord, now: Timestamp) -> bool {
        let Some(key) = key_of(record) else { return false };
        let taken = self.taken(record);
        self.running.remove(&record.core_id);
        let Some(session) = self.all.get_mut(&key) else { return false };
        session.stop(record.core_id, None, now);
        if session.open.remove(&record.core_id).is_none() {
            return false;
        }
        session.used = session.used.plus(taken);
        session.used_at = now;
        let placement = record.lock().progress.placement.clone();
        session.placement = placement.or_else(|| session.placement.take());
        self.idle_if_so(key);
        true
    }

    /// The tenant's longest unused session, if it has more than may be kept.
    pub(crate) fn excess(&self, tenant: TenantId) -> Option<Key> {
        let idle = self.idle_of.get(&tenant)?;
        let kept = self.settings.max_per_tenant.get() as usize;
        let oldest = idle.first().filter(|_| kept < idle.len())?;
        Some((tenant, oldest.1.clone()))
    }

    /// A session that has not been used for as long as it may be.
    pub(crate) fn expired(&self, now: Timestamp) -> Option<Key> {
        let (used_at, key) = self.idle.first()?;
        (self.end_of(*used_at) <= now).then(|| key.clone())
    }

    /// When the next one ends.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.idle.first().map(|it| self.end_of(it.0))
    }

    /// Its open turns go on without it. False: there is none.
    pub(crate) fn remove(&mut self, key: &Key) -> bool {
        self.no_longer_idle(key);
        let Some(session) = self.all.remove(key) else { return false };
        session.open.keys().for_each(|it| drop(self.running.remove(it)));
        true
    }

    /// Those with a turn that runs, if time is what they are charged for.
    pub(crate) fn timed(&self) -> BTreeSet<&Key> {
        match self.settings.budgets.time_ms {
            Some(_) => self.running.values().collect(),
            None => BTreeSet::new(),
        }
    }

    pub(crate) fn remaining(&self, key: &Key, now: Timestamp) -> Remaining {
        let budgets = self.budgets(key, now);
        let left = |it: Option<Budget>| it.map(|it| it.remaining);
        Remaining {
            tokens: left(budgets.tokens),
            time_ms: left(budgets.time_ms),
            cost: left(budgets.cost),
        }
    }

    /// As clients see it, apart from what the core knows; `None`: there is none.
    pub(crate) fn view(&self, key: &Key, now: Timestamp) -> Option<api_types::Session> {
        let session = self.all.get(key)?;
        let ms = |it: Micros| it.0 / 1_000;
        let idle = session.open.is_empty().then(|| now.since(session.used_at));
        let from = if idle.is_some() { session.used_at } else { now };
        let placement = session.placement.as_deref();
        let turns = self.settings.turns;
        Some(api_types::Session {
            session_id: key.1.clone(),
            turns: session.turns,
            turns_left: (turns != 0).then(|| turns.saturating_sub(session.turns)),
            age_ms: ms(now.since(session.began)),
            idle_ms: idle.map(ms),
            ttl_remaining_ms: ms(self.end_of(from).since(now)),
            pool_id: placement.map(|it| it.pool_id.clone()),
            replica_id: placement.map(|it| it.replica_id.clone()),
            kv_warmth: false,
            budgets: self.budgets(key, now),
            tasks: session.open.values().map(|it| it.id).collect(),
        })
    }

    fn budgets(&self, key: &Key, now: Timestamp) -> Budgets {
        let session = self.all.get(key);
        let used = session.map_or_else(Spend::default, |it| it.used(now));
        let reserved = session.map_or_else(Spend::default, Session::reserved);
        let limits = self.settings.budgets;
        // What is used is rounded up and what remains down.
        let budget = |limit: Option<u64>, used: u64, reserved: u64, unit: u64| {
            limit.map(|limit| {
                let rest = limit.saturating_mul(unit).saturating_sub(used.saturating_add(reserved));
                let (used, reserved) = (used.div_ceil(unit), reserved.div_ceil(unit));
                Budget { limit, used, reserved, remaining: rest / unit }
            })
        };
        Budgets {
            tokens: budget(limits.tokens, used.tokens, reserved.tokens, 1),
            time_ms: budget(limits.time_ms, used.time_us, 0, 1_000),
            cost: budget(limits.cost, used.cost_milli, reserved.cost_milli, 1_000),
        }
    }

    fn limits(&self) -> Limits {
        let budgets = self.settings.budgets;
        Limits {
            tokens: budgets.tokens,
            time_us: budgets.time_ms.map(|it| it.saturating_mul(1_000)),
            cost_milli: budgets.cost.map(|it| it.saturating_mul(1_000)),
        }
    }

    fn end_of(&self, used_at: Timestamp) -> Timestamp {
        used_at.after(Micros(self.settings.ttl_ms.saturating_mul(1_000)))
    }

    fn idle_if_so(&mut self, key: Key) {
        if let Some(session) = self.all.get(&key).filter(|it| it.open.is_empty()) {
            let (tenant, name) = &key;
            self.idle_of.entry(*tenant).or_default().insert((session.used_at, name.clone()));
            self.idle.insert((session.used_at, key));
        }
    }

    fn no_longer_idle(&mut self, key: &Key) {
        let Some(session) = self.all.get(key) else { return };
        let (tenant, name) = key;
        self.idle.remove(&(session.used_at, key.clone()));
        if let Some(idle) = self.idle_of.get_mut(tenant) {
            idle.remove(&(session.used_at, name.clone()));
            if idle.is_empty() {
                self.idle_of.remove(tenant);
            }
        }
    }
}

struct Limits {
    tokens: Option<u64>,
    time_us: Option<u64>,
    cost_milli: Option<u64>,
}

impl Session {
    /// By now, the turn that runs included.
    fn used(&self, now: Timestamp) -> Spend {
        let running = self.open.values().filter_map(|it| it.running);
        let time_us = running.map(|(_, since)| now.since(since).0).sum();
        self.used.plus(Spend { time_us, ..Spend::default() })
    }

    fn reserved(&self) -> Spend {
        self.open.values().fold(Spend::default(), |sum, it| sum.plus(it.reserved))
    }

    /// Charges the time of an attempt; `None`: of whichever runs. False if that one does not run.
    fn stop(&mut self, task: TaskId, attempt: Option<u32>, now: Timestamp) -> bool {
        let Some(turn) = self.open.get_mut(&task) else { return false };
        let runs = turn.running.filter(|it| attempt.is_none_or(|attempt| attempt == it.0));
        let Some((_, since)) = runs else { return false };
        turn.running = None;
        let time_us = now.since(since).0;
        self.used = self.used.plus(Spend { time_us, ..Spend::default() });
        true
    }
}

impl Spend {
    fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            time_us: self.time_us.saturating_add(other.time_us),
            cost_milli: self.cost_milli.saturating_add(other.cost_milli),
        }
    }
}

impl BudgetKind {
    /// Of the metric.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Time => "time",
            Self::Cost => "cost",
        }
    }

    pub(crate) fn policy_label(self) -> &'static str {
        match self {
            Self::Tokens => "budget-tokens",
            Self::Time => "budget-time",
            Self::Cost => "budget-cost",
        }
    }
}
