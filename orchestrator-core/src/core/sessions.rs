//! Sessions: whose turn it is, and where the last one ran.
//!
//! One turn of a session is in the queue or runs. Later ones stand *behind* it, outside of the queue
//! and in the order of their submission: they keep their due time, count as waiting wherever waiting
//! tasks are counted, and go into the queue when the turn before them has ended.

use std::collections::{BTreeMap, BTreeSet};

use super::{Core, Phase};
use crate::event::Effect;
use crate::predict::Start;
use crate::ranked::{Arena, Key, Set};
use crate::types::{Class, Micros, ModelId, ReplicaId, SessionId, TaskId, TaskSpec, Timestamp};

/// Sessions whose replica is remembered; the longest unused are forgotten.
const SESSIONS_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Sessions {
    homes: BTreeMap<SessionId, (Home, u64)>,
    by_use: BTreeSet<(u64, SessionId)>,
    uses: u64,
    arena: Arena,
    /// Those with an open turn.
    turns: BTreeMap<SessionId, Turns>,
    /// Tasks that stand behind a turn of their session; no empty sets.
    behind: BTreeMap<(ModelId, Class), BTreeSet<TaskId>>,
    behind_len: usize,
    /// Their turn has ended and another one stands behind it.
    over: Vec<SessionId>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Home {
    pub(super) replica: ReplicaId,
    pub(super) incarnation: u64,
}

#[derive(Debug)]
struct Turns {
    /// In the queue, isolated or running; `None` only until the end of the event that ended it.
    current: Option<TaskId>,
    /// In the order of submission.
    behind: Set,
    /// The session ended after this task was submitted: it and those before it leave no home.
    ended_after: Option<TaskId>,
}

/// Those behind one turn are ordered by their ids alone.
fn key(task: TaskId) -> Key {
    (Timestamp(0), task)
}

impl Sessions {
    pub(super) fn home(&self, session: SessionId) -> Option<Home> {
        self.homes.get(&session).map(|it| it.0)
    }

    /// `task` ran there.
    pub(super) fn remember(
        &mut self,
        session: SessionId,
        task: TaskId,
        replica: ReplicaId,
        incarnation: u64,
    ) {
        let ended_after = self.turns.get(&session).and_then(|it| it.ended_after);
        if ended_after.is_some_and(|it| task <= it) {
            return;
        }
        self.settle(session, Home { replica, incarnation });
    }

    fn settle(&mut self, session: SessionId, home: Home) {
        self.uses += 1;
        let entry = (home, self.uses);
        if let Some((_, before)) = self.homes.insert(session, entry) {
            self.by_use.remove(&(before, session));
        }
        self.by_use.insert((self.uses, session));
        if SESSIONS_MAX < self.by_use.len()
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.homes.remove(&oldest);
        }
    }

    /// It was there before a restart.
    pub(super) fn recall(&mut self, session: SessionId, home: Home) {
        if !self.homes.contains_key(&session) {
            self.settle(session, home);
        }
    }

    /// What comes after `last` under this name is another session.
    pub(super) fn end(&mut self, session: SessionId, last: Option<TaskId>) {
        if let Some((_, used)) = self.homes.remove(&session) {
            self.by_use.remove(&(used, session));
        }
        if let Some(turns) = self.turns.get_mut(&session) {
            turns.ended_after = last;
        }
    }

    /// Open turns of the session.
    fn open(&self, session: Option<SessionId>) -> u64 {
        let turns = session.and_then(|it| self.turns.get(&it));
        let behind = |it: Set| self.arena.rank(it, key(TaskId(u64::MAX)));
        turns.map_or(0, |it| u64::from(it.current.is_some()) + behind(it.behind))
    }

    /// The turn of a task that enters is the session's current one, or the task stands behind it;
    /// says which.
    pub(super) fn enter(&mut self, spec: &TaskSpec) -> bool {
        let Some(session) = spec.session else { return true };
        let new = Turns { current: None, behind: Set::EMPTY, ended_after: None };
        let turns = self.turns.entry(session).or_insert(new);
        if turns.current.is_none() && turns.behind.is_empty() {
            turns.current = Some(spec.task);
            return true;
        }
        self.arena.insert(&mut turns.behind, key(spec.task));
        self.behind.entry((spec.model, spec.class)).or_default().insert(spec.task);
        self.behind_len += 1;
        false
    }

    /// A task no longer stands behind another one.
    pub(super) fn step_out(&mut self, spec: &TaskSpec) {
        let turns = spec.session.and_then(|it| self.turns.get_mut(&it));
        if let Some(turns) = turns {
            self.arena.remove(&mut turns.behind, key(spec.task));
        }
        let of_model = self.behind.entry((spec.model, spec.class)).or_default();
        of_model.remove(&spec.task);
        if of_model.is_empty() {
            self.behind.remove(&(spec.model, spec.class));
        }
        self.behind_len -= 1;
    }

    /// A turn is over, wherever it stood.
    pub(super) fn leave(&mut self, session: SessionId, task: TaskId) {
        let Some(turns) = self.turns.get_mut(&session) else { return };
        if turns.current == Some(task) {
            turns.current = None;
        }
        match (turns.current, turns.behind.is_empty()) {
            (None, true) => drop(self.turns.remove(&session)),
            (None, false) => self.over.push(session),
            (Some(_), _) => {}
        }
    }

    /// The next task whose turn has come; it is the current one from here on.
    fn next_turn(&mut self) -> Option<TaskId> {
        while let Some(session) = self.over.pop() {
            let Some(turns) = self.turns.get_mut(&session) else { continue };
            if turns.current.is_none() {
                turns.current = self.arena.first(turns.behind).map(|it| it.1);
                return turns.current;
            }
        }
        None
    }

    pub(super) fn has_turns_to_begin(&self) -> bool {
        !self.over.is_empty()
    }

    pub(super) fn behind_len(&self) -> usize {
        self.behind_len
    }

    pub(super) fn behind_of_model(&self, model: ModelId) -> usize {
        Class::ALL.iter().filter_map(|it| self.behind.get(&(model, *it))).map(BTreeSet::len).sum()
    }

    pub(super) fn oldest_behind(&self, model: ModelId, class: Class) -> Option<TaskId> {
        self.behind.get(&(model, class))?.first().copied()
    }

    pub(super) fn newest_behind(&self, model: ModelId, class: Class) -> Option<TaskId> {
        self.behind.get(&(model, class))?.last().copied()
    }

    /// How many turns of its session stand between a task and the current one.
    pub(super) fn place_behind(&self, spec: &TaskSpec) -> u64 {
        let turns = spec.session.and_then(|it| self.turns.get(&it));
        turns.map_or(0, |it| self.arena.rank(it.behind, key(spec.task)))
    }

    /// Each task that stands behind another one, with its place there.
    pub(super) fn all_behind(&self) -> impl Iterator<Item = (TaskId, u64)> {
        self.turns.values().flat_map(|it| self.arena.iter(it.behind).map(|it| it.1).zip(0..))
    }
}

impl Core {
    /// Puts a task that enters into the queue, or behind the open turns of its session.
    pub(super) fn enter(&mut self, spec: &TaskSpec, key: Key) -> Phase {
        self.tenants.entry(spec.tenant).or_default().queued += 1;
        if !self.sessions.enter(spec) {
            return Phase::Behind;
        }
        let (route, owner) = (self.route_of(spec), (spec.tenant, spec.class));
        Phase::Queued(self.queue.push(spec.model, route, owner, key, self.now))
    }

    /// Lets in whose turn has come. After everything else that an event does: what ended the turn
    /// before may be in the middle of something.
    pub(super) fn begin_turns(&mut self, effects: &mut Vec<Effect>) {
        let mut models = BTreeSet::new();
        while let Some(id) = self.sessions.next_turn() {
            let task = &self.tasks[&id];
            self.sessions.step_out(&task.spec);
            self.tenants.entry(task.spec.tenant).or_default().queued -= 1;
            models.insert(task.spec.model);
            self.wait(id);
        }
        // Once all of them compete: who is served first is the queue's to say.
        models.into_iter().for_each(|it| self.dispatch(it, effects));
    }

    /// The start of a task behind the open turns of its session, each of which is taken to be one like
    /// it; in nine of ten cases they are no longer than they may be.
    pub(super) fn behind_turns(&self, spec: &TaskSpec, start: Start, turns: u64) -> Start {
        let Some(model) = self.models.get(&spec.model) else { return start };
        let experience = &model.experience;
        let later = |it: Micros, length| {
            let each = experience.service(spec, length).0;
            it.plus(Micros(each.saturating_mul(turns)))
        };
        Start {
            expected: later(start.expected, experience.length(spec)),
            p90: later(start.p90, spec.max_tokens),
        }
    }

    pub(super) fn open_turns(&self, spec: &TaskSpec) -> u64 {
        self.sessions.open(spec.session)
    }

    /// Each session has one turn at a time, and what stands behind it waits for nothing else.
    pub(super) fn turns_in_order(&self, found: &mut Vec<String>) {
        let mut turns: BTreeMap<SessionId, Vec<(TaskId, Phase)>> = BTreeMap::new();
        for (id, task) in &self.tasks {
            let behind = task.phase == Phase::Behind;
            match task.spec.session {
                Some(session) => turns.entry(session).or_default().push((*id, task.phase)),
                None if behind => found.push(format!("{id:?} stands behind nothing")),
                None => {}
            }
        }
        let known: Vec<SessionId> = self.sessions.turns.keys().copied().collect();
        if !known.iter().eq(turns.keys()) {
            found.push(format!("sessions {known:?} have turns, not {:?}", turns.keys()));
        }
        let mut behind_len = 0;
        for (session, tasks) in turns {
            let (behind, open): (Vec<_>, Vec<_>) =
                tasks.into_iter().partition(|it| it.1 == Phase::Behind);
            behind_len += behind.len();
            let ids: Vec<TaskId> = behind.iter().map(|it| it.0).collect();
            let open: Vec<TaskId> = open.iter().map(|it| it.0).collect();
            let begun = !open.is_empty();
            let agrees = begun
                && self.sessions.turns.get(&session).is_some_and(|it| {
                    it.current.as_slice() == open
                        && self
                            .sessions
                            .arena
                            .iter(it.behind)
                            .map(|it| it.1)
                            .eq(ids.iter().copied())
                });
            if !agrees {
                found.push(format!("{session:?}: {open:?} have their turn, {ids:?} stand behind"));
            }
        }
        let listed: usize = self.sessions.behind.values().map(BTreeSet::len).sum();
        if behind_len != listed || behind_len != self.sessions.behind_len {
            found.push(format!("{behind_len} tasks stand behind others, {listed} are listed"));
        }
    }
}
