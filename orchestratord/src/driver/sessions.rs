//! What the driver does about sessions: admission, the end of turns, the end of sessions.

use std::time::Duration;

use api_types::{ErrorCode, Session};
use orchestrator_core::{Event, Micros, ReplicaId, Run, SessionId, TenantId};
use sha2::{Digest, Sha256};

use super::Driver;
use super::endings::Rejection;
use super::handle::SessionEnd;
use crate::attempt::millis;
use crate::sessions::{BudgetKind, Exhausted, Key, Remaining, journal_key, key_of};
use crate::task::TaskRecord;

/// Advice for a turn that is refused while another one is open.
const BUSY_RETRY: Micros = Micros(1_000_000);

impl Driver {
    /// What refuses a turn before the core is asked.
    pub(super) fn check_turn(&mut self, record: &TaskRecord) -> Result<(), Rejection> {
        let Some(key) = key_of(record) else { return Ok(()) };
        self.end_expired_sessions();
        let engine = self.directory.engine_of(record.job.model);
        let (over, open): (Vec<_>, Vec<_>) = self
            .sessions
            .open(&key)
            .filter_map(|it| self.open.get(&it))
            .partition(|it| it.lock().log.is_closed());
        // The core hears of an end a moment later, and who has read it may go on at once.
        over.into_iter().for_each(|it| self.sessions.foresee_end(it));
        if self.one_turn_at_a_time && !open.is_empty() {
            self.telemetry.refused(record, engine, "session_busy");
            return Err(Rejection {
                retry_after: Some(BUSY_RETRY),
                ..Rejection::plain(ErrorCode::SessionBusy, "another turn of the session is open")
            });
        }
        self.sessions.check(record, self.now()).map_err(|it| {
            self.telemetry.over_budget(record, engine, it.kind.as_str());
            exhausted(it)
        })
    }

    /// Before the core takes a turn: it finds no warm cache where the session begins anew.
    pub(super) fn begin_anew(&mut self, record: &TaskRecord) {
        if let Some(key) = key_of(record).filter(|it| self.sessions.is_used_up(it)) {
            let session = session_id(&key);
            // Not again for a turn that comes back after the core has refused it.
            if self.core.session_home(session).is_some() {
                self.telemetry.session_evicted("turns");
            }
            self.leave_home(session);
        }
    }

    /// A turn was admitted. Before the task itself is written: a budget is not forgotten.
    pub(super) fn begin_turn(&mut self, record: &TaskRecord) {
        if let Some(key) = key_of(record) {
            self.sessions.begin(record, self.now());
            self.telemetry.sessions(self.sessions.len());
            self.save_session(&key);
        }
    }

    /// How long an attempt that starts may run; `None`: no limit, and zero: it must not start.
    pub(super) fn run_turn(&mut self, record: &TaskRecord, run: Run) -> Option<Duration> {
        let now = self.now();
        self.sessions.run(record, run.attempt.0, now)
    }

    pub(super) fn stop_turn(&mut self, run: Run) {
        let now = self.now();
        self.sessions.stop(run.task, run.attempt.0, now);
    }

    pub(super) fn end_turn(&mut self, record: &TaskRecord) {
        let now = self.now();
        if self.sessions.end_turn(record, now)
            && let Some(key) = key_of(record)
        {
            self.save_session(&key);
            while let Some(excess) = self.sessions.excess(key.0) {
                self.telemetry.session_evicted("capacity");
                self.forget_session(&excess);
            }
        }
    }

    pub(super) fn end_expired_sessions(&mut self) {
        while let Some(key) = self.sessions.expired(self.now()) {
            self.telemetry.session_evicted("ttl");
            self.forget_session(&key);
        }
    }

    pub(super) fn show_session(&mut self, key: &Key) -> Option<Session> {
        self.end_expired_sessions();
        let session = self.sessions.view(key, self.now())?;
        let kv_warmth = self.core.session_home(session_id(key)).is_some();
        Some(Session { kv_warmth, ..session })
    }

    /// `None`: there is none.
    pub(super) fn end_session(&mut self, key: &Key) -> Option<SessionEnd> {
        self.end_expired_sessions();
        self.forget_session(key)
    }

    fn forget_session(&mut self, key: &Key) -> Option<SessionEnd> {
        if !self.sessions.remove(key) {
            return None;
        }
        self.telemetry.sessions(self.sessions.len());
        self.leave_home(session_id(key));
        let name = self.tenants.name(key.0);
        Some(self.outbox.as_ref().map(|it| it.remove(journal_key(name, &key.1))))
    }

    /// An earlier life's sessions find the caches of a replica that turns up as they left it. Before
    /// the core hears of the replica, which then gets tasks.
    pub(super) fn recall_homes(&mut self, replica: ReplicaId) {
        if self.homes.is_empty() {
            return;
        }
        let Some(place) = self.directory.place(replica) else { return };
        let incarnation = place.incarnation;
        for session in self.homes.remove(&place).unwrap_or_default() {
            self.apply(Event::SessionHome { session, replica, incarnation });
        }
        // Those of its earlier processes are gone.
        self.homes.retain(|it, _| !it.is_of_the_replica_of(&place));
    }

    /// A session ends: what comes under its name has no home.
    fn leave_home(&mut self, session: SessionId) {
        self.homes.values_mut().for_each(|it| it.retain(|other| *other != session));
        self.apply(Event::SessionEnded { session });
    }

    fn save_session(&self, key: &Key) {
        let Some(outbox) = &self.outbox else { return };
        let home = self.core.session_home(session_id(key));
        let home = home.and_then(|it| self.directory.place(it));
        if let Some(document) = self.sessions.document(key, home, self.now()) {
            outbox.value(journal_key(self.tenants.name(key.0), &key.1), &document);
        }
    }

    /// A crash forgets no more of a turn's time than passes between two calls.
    pub(super) fn save_running_sessions(&self) {
        self.sessions.timed().into_iter().for_each(|it| self.save_session(it));
    }

    /// What a task's session and tenant may still use, and how long the task has.
    pub(super) fn remaining(&self, record: &TaskRecord) -> Remaining {
        let of_session = key_of(record).map(|it| self.sessions.remaining(&it, self.now()));
        let of_session = of_session.unwrap_or_default();
        let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Remaining {
            tokens: least(of_session.tokens, self.core.tokens_left(record.tenant.id)),
            time_ms: least(of_session.time_ms, record.until_deadline().map(millis)),
            cost: of_session.cost,
        }
    }
}

/// The core's name for a session: names are the tenant's own.
pub(super) fn session_id((TenantId(tenant), name): &Key) -> SessionId {
    let digest = Sha256::digest([&tenant.to_be_bytes()[..], name.as_bytes()].concat());
    let first: [u8; 8] = digest[..8].try_into().expect("a SHA-256 digest has 32 bytes");
    SessionId(u64::from_be_bytes(first))
}

fn exhausted(it: Exhausted) -> Rejection {
    let left = it.remaining;
    let message = match it.kind {
        BudgetKind::Tokens => {
            format!("the session may use {left} more tokens, the task takes more")
        }
        BudgetKind::Time => "the session's time is used up".into(),
        BudgetKind::Cost => format!("the session may cost {left} more, the task costs more"),
    };
    Rejection {
        retry_after: Some(it.retry_after),
        policy: Some(it.kind.policy_label()),
        ..Rejection::plain(ErrorCode::AdmissionReject, &message)
    }
}

#[cfg(test)]
mod tests;
