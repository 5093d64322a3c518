//! Any history, beside a model that is a few maps.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use journal::{Admitted, Journal, JournalReader, Retention, Stored, StoredEvents, TaskNo, Write};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::rig::{Place, reader};

/// What may happen; `Index` chooses among the open tasks, or among all.
#[derive(Debug, Clone)]
enum Change {
    Admit { tenant: u8, session: Option<u8>, skipped: u64, bytes: usize },
    Events { of: Index, count: u64, bytes: usize },
    State { of: Index, bytes: usize },
    End { of: Index, at_ms: u64 },
    Value { key: u8, bytes: Option<usize> },
    Forget { of: Index },
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    /// The same, and then something that cannot be.
    Refused(Vec<Change>),
    Sweep {
        age_ms: u64,
        bytes: u64,
        now_ms: u64,
        limit: usize,
    },
    Reopen,
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    // Large enough, now and then, to fill a tail.
    let bytes = || prop_oneof![20 => 0..2_000_usize, 1 => 100_000..300_000_usize];
    prop_oneof![
        3 => (0..2_u8, prop::option::of(0..2_u8), 0..3_u64, bytes()).prop_map(
            |(tenant, session, skipped, bytes)| Change::Admit { tenant, session, skipped, bytes }
        ),
        6 => (index(), 1..4_u64, bytes()).prop_map(
            |(of, count, bytes)| Change::Events { of, count, bytes }
        ),
        1 => (index(), bytes()).prop_map(|(of, bytes)| Change::State { of, bytes }),
        1 => (index(), 0..50_u64).prop_map(|(of, at_ms)| Change::End { of, at_ms }),
        1 => (0..6_u8, prop::option::of(0..50_usize)).prop_map(
            |(key, bytes)| Change::Value { key, bytes }
        ),
        1 => index().prop_map(|of| Change::Forget { of }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = || prop::collection::vec(change(), 0..8);
    prop_oneof![
        12 => changes().prop_map(Step::Commit),
        1 => changes().prop_map(Step::Refused),
        2 => (0..60_u64, prop_oneof![Just(u64::MAX), 0..20_000_u64], 0..100_u64, 0..4_usize).prop_map(
            |(age_ms, bytes, now_ms, limit)| Step::Sweep { age_ms, bytes, now_ms, limit }
        ),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Clone, Default)]
struct Model {
    tasks: BTreeMap<u64, (Stored, Vec<StoredEvents>)>,
    values: BTreeMap<String, Bytes>,
    last_task: u64,
}

/// Content that tells its origin.
fn content(seed: u64, bytes: usize) -> Bytes {
    let first = u8::try_from(seed % 251).unwrap();
    (0..bytes).map(|at| first.wrapping_add(u8::try_from(at % 7).unwrap())).collect()
}

impl Model {
    fn open(&self) -> Vec<u64> {
        let open = self.tasks.iter().filter(|(_, (it, _))| it.ended_at_ms.is_none());
        open.map(|(task, _)| *task).collect()
    }

    /// What the change writes here; `None` where there is no such task.
    fn apply(&mut self, change: &Change) -> Option<Write> {
        let chosen = |of: &Index, among: Vec<u64>| (!among.is_empty()).then(|| *of.get(&among));
        let write = match change {
            Change::Admit { tenant, session, skipped, bytes } => {
                self.last_task += 1 + skipped;
                let task = self.last_task;
                let admitted = Admitted {
                    task: TaskNo(task),
                    tenant: format!("tenant {tenant}"),
                    id: u128::from(task).to_be_bytes(),
                    session: session.map(|it| format!("session {it}")),
                    admitted_at_ms: task,
                    request: content(task, *bytes),
                    state: content(task, 5),
                };
                let stored =
                    Stored { admitted: admitted.clone(), ended_at_ms: None, last_event: 0 };
                self.tasks.insert(task, (stored, Vec::new()));
                Write::Admitted(admitted)
            }
            Change::Events { of, count, bytes } => {
                let task = chosen(of, self.open())?;
                let (stored, rows) = self.tasks.get_mut(&task)?;
                let (first, last) = (stored.last_event + 1, stored.last_event + count);
                let frames = content(task + first, *bytes);
                stored.last_event = last;
                rows.push(StoredEvents { first, last, frames: frames.clone() });
                Write::Events { task: TaskNo(task), first, last, frames }
            }
            Change::State { of, bytes } => {
                let task = chosen(of, self.open())?;
                let state = content(task + 1, *bytes);
                self.tasks.get_mut(&task)?.0.admitted.state = state.clone();
                Write::State { task: TaskNo(task), state, ended_at_ms: None }
            }
            Change::End { of, at_ms } => {
                let task = chosen(of, self.open())?;
                let state = content(task + 2, 9);
                let stored = &mut self.tasks.get_mut(&task)?.0;
                stored.admitted.state = state.clone();
                stored.ended_at_ms = Some(*at_ms);
                Write::State { task: TaskNo(task), state, ended_at_ms: Some(*at_ms) }
            }
            Change::Value { key, bytes } => {
                let key = format!("{}/{key}", key % 2);
                let value = bytes.map(|it| content(7, it));
                match &value {
                    Some(value) => self.values.insert(key.clone(), value.clone()),
                    None => self.values.remove(&key),
                };
                Write::Value { key, value }
            }
            Change::Forget { of } => {
                let task = chosen(of, self.tasks.keys().copied().collect())?;
                self.tasks.remove(&task);
                Write::Forget { task: TaskNo(task) }
            }
        };
        Some(write)
    }

    fn writes(&mut self, changes: &[Change]) -> Vec<Write> {
        changes.iter().filter_map(|it| self.apply(it)).collect()
    }

    /// The numbers that go, and whether there would be more.
    fn sweep(&mut self, retention: Retention, now_ms: u64, limit: usize) -> (Vec<TaskNo>, bool) {
        let mut removed = Vec::new();
        loop {
            let ended = self.tasks.iter().filter_map(|(task, (it, rows))| {
                let frames: usize = rows.iter().map(|it| it.frames.len()).sum();
                let bytes = it.admitted.request.len() + it.admitted.state.len() + frames;
                Some((it.ended_at_ms?, *task, bytes as u64))
            });
            let ended: BTreeSet<_> = ended.collect();
            let bytes: u64 = ended.iter().map(|it| it.2).sum();
            let Some((at, task, _)) = ended.first() else { return (removed, false) };
            let is_due = at.saturating_add(retention.age_ms) < now_ms || retention.bytes < bytes;
            if !is_due || removed.len() == limit {
                return (removed, is_due);
            }
            self.tasks.remove(task);
            removed.push(TaskNo(*task));
        }
    }

    /// Everything that a reader can be asked.
    fn compare(&self, reading: &mut dyn JournalReader) {
        let all: Vec<&Stored> = self.tasks.values().map(|it| &it.0).collect();
        let open: Vec<&Stored> =
            all.iter().copied().filter(|it| it.ended_at_ms.is_none()).collect();
        assert!(reading.open_tasks(None, usize::MAX).unwrap().iter().eq(open.iter().copied()));
        let page = reading.open_tasks(open.first().map(|it| it.admitted.task), 2).unwrap();
        assert!(page.iter().eq(open.iter().copied().skip(1).take(2)));
        for tenant in ["tenant 0", "tenant 1"] {
            for session in [None, Some("session 0"), Some("session 1")] {
                let before = TaskNo(self.last_task);
                let listed = reading.list(tenant, session, before, 3).unwrap();
                let expected = all.iter().copied().rev().filter(|it| {
                    it.admitted.tenant == tenant
                        && (session.is_none() || it.admitted.session.as_deref() == session)
                        && it.admitted.task < before
                });
                assert!(listed.iter().eq(expected.take(3)));
            }
        }
        for no in 1..=self.last_task {
            let task = self.tasks.get(&no);
            let id = u128::from(no).to_be_bytes();
            let found = ["tenant 0", "tenant 1"].map(|it| reading.find(it, id).unwrap());
            assert!(found.iter().flatten().eq(task.iter().map(|it| &it.0)));
            let rows = task.map_or(&[][..], |it| &it.1);
            assert_eq!(reading.events(TaskNo(no), 0, usize::MAX).unwrap(), rows);
            let after = rows.len() as u64 / 2;
            let rest = rows.iter().filter(|it| after < it.last);
            let mut bytes = 0;
            let rest = rest.enumerate().take_while(|(at, it)| {
                bytes += it.frames.len();
                *at == 0 || bytes <= 3_000
            });
            assert!(
                reading.events(TaskNo(no), after, 3_000).unwrap().iter().eq(rest.map(|it| it.1))
            );
        }
        for prefix in ["", "0/", "1/2"] {
            let expected = self.values.iter().filter(|(key, _)| key.starts_with(prefix));
            let values = reading.values(prefix).unwrap();
            assert!(values.iter().map(|(key, value)| (key, value)).eq(expected));
        }
        assert_eq!(reading.last_task().unwrap(), TaskNo(self.last_task));
    }
}

fn check(steps: &[Step]) {
    let place = Place::new();
    let open = || {
        let journal = place.open();
        let reading = reader(&journal);
        (journal, reading)
    };
    let mut both = Some(open());
    let mut model = Model::default();
    for step in steps {
        let (writer, _) = both.as_mut().unwrap();
        match step {
            Step::Commit(changes) => writer.commit(&model.writes(changes)).unwrap(),
            Step::Refused(changes) => {
                let mut writes = model.clone().writes(changes);
                let (task, state) = (TaskNo::MAX, Bytes::new());
                writes.push(Write::State { task, state, ended_at_ms: None });
                writer.commit(&writes).unwrap_err();
            }
            Step::Sweep { age_ms, bytes, now_ms, limit } => {
                let retention = Retention { age_ms: *age_ms, bytes: *bytes };
                let swept = writer.sweep(retention, *now_ms, *limit).unwrap();
                let expected = model.sweep(retention, *now_ms, *limit);
                assert_eq!((swept.removed, swept.more), expected);
            }
            Step::Reopen => {
                drop(both.take());
                both = Some(open());
            }
        }
        model.compare(both.as_mut().unwrap().1.as_mut());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// OC-JRNL-6002, OC-JRNL-6003, OC-JRNL-6030: what is read equals what was written.
    #[test]
    fn any_history_is_read_back(steps in prop::collection::vec(step(), 1..30)) {
        check(&steps);
    }
}
