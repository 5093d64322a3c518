//! Sessions as they stand in the journal.
//!
//! What open turns may take stands beside what was used: a turn whose end was not written before the
//! daemon died counts as if it had taken all of it, so that no restart gives a session more than its
//! budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_types::TaskPlacement;
use orchestrator_core::{TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Key, Session, Sessions, Spend, Turn, key_of};
use crate::fleet::Place;
use crate::task::TaskRecord;

/// Followed by the tenant's name, a slash and the session's.
pub(crate) const SESSION: &str = "session/";

pub(crate) fn journal_key(tenant: &str, session: &str) -> String {
    format!("{SESSION}{tenant}/{session}")
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SessionDoc {
    /// Microseconds since 1970.
    began_us: u64,
    used_at_us: u64,
    turns: u32,
    used: SpendDoc,
    open: Vec<(Uuid, SpendDoc)>,
    placement: Option<TaskPlacement>,
    /// Whose cache its last turn left warm.
    #[serde(default)]
    pub(crate) home: Option<Place>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct SpendDoc {
    tokens: u64,
    time_us: u64,
    cost_milli: u64,
}

impl Sessions {
    /// As of `now`; `None`: there is none.
    pub(crate) fn document(
        &self,
        key: &Key,
        home: Option<Place>,
        now: Timestamp,
    ) -> Option<SessionDoc> {
        let session = self.all.get(key)?;
        let open = session.open.values().map(|it| (it.id, SpendDoc::of(it.reserved)));
        Some(SessionDoc {
            began_us: session.began.0,
            used_at_us: session.used_at.0,
            turns: session.turns,
            used: SpendDoc::of(session.used(now)),
            open: open.collect(),
            placement: session.placement.as_deref().cloned(),
            home,
        })
    }

    /// Takes in what an earlier life left: its sessions, and the tasks that are open.
    pub(crate) fn restore<'a>(
        &mut self,
        saved: Vec<(Key, SessionDoc)>,
        open: impl Iterator<Item = &'a TaskRecord>,
    ) {
        let mut turns: BTreeMap<Key, BTreeMap<Uuid, TaskId>> = BTreeMap::new();
        for record in open {
            if let Some(key) = key_of(record) {
                turns.entry(key).or_default().insert(record.id, record.core_id);
            }
        }
        for (key, doc) in saved {
            let turns = turns.remove(&key).unwrap_or_default();
            self.all.insert(key.clone(), doc.session(&turns));
            self.idle_if_so(key);
        }
    }
}

impl SessionDoc {
    fn session(self, turns: &BTreeMap<Uuid, TaskId>) -> Session {
        let mut session = Session {
            began: Timestamp(self.began_us),
            used_at: Timestamp(self.used_at_us),
            turns: self.turns,
            used: self.used.spend(),
            open: BTreeMap::new(),
            placement: self.placement.map(Arc::new),
        };
        for (id, reserved) in self.open {
            let reserved = reserved.spend();
            match turns.get(&id) {
                Some(task) => {
                    session.open.insert(*task, Turn { id, reserved, running: None });
                }
                None => session.used = session.used.plus(reserved),
            }
        }
        session
    }
}

impl SpendDoc {
    fn of(it: Spend) -> Self {
        Self { tokens: it.tokens, time_us: it.time_us, cost_milli: it.cost_milli }
    }

    fn spend(self) -> Spend {
        Spend { tokens: self.tokens, time_us: self.time_us, cost_milli: self.cost_milli }
    }
}
