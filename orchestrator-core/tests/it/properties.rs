//! Invariants under arbitrary events, impossible ones included.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator_core::{
    Attempt, Availability, Class, Core, CoreConfig, Effect, EngineId, Event, FullPolicy, ModelId,
    ReplicaId, ReplicaStatus, Report, Run, TaskId, TaskSpec, Timestamp,
};
use proptest::prelude::*;

use crate::script::CONFIG;

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Interactive), Just(Class::Batch)]
}

fn run() -> impl Strategy<Value = Run> {
    (0..40_u64, 1..4_u32, 0..3_u32).prop_map(|(task, attempt, replica)| Run {
        task: TaskId(task),
        attempt: Attempt(attempt),
        replica: ReplicaId(replica),
    })
}

fn status() -> impl Strategy<Value = ReplicaStatus> {
    let availability = prop_oneof![
        4 => Just(Availability::Ready),
        1 => Just(Availability::Coming),
        1 => Just(Availability::Draining),
        1 => Just(Availability::Down),
    ];
    (0..2_u32, 0..3_u64, availability, 0..4_u32).prop_map(
        |(model, incarnation, availability, slots)| ReplicaStatus {
            model: ModelId(model),
            engine: EngineId(0),
            incarnation,
            availability,
            slots,
            context_tokens: 100,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let report = prop_oneof![Just(Report::Completed), Just(Report::Failed), Just(Report::NotTaken)];
    let submit =
        (0..40_u64, 0..2_u32, class(), 0..120_u32).prop_map(|(task, model, class, max)| {
            Event::Submitted(TaskSpec {
                task: TaskId(task),
                model: ModelId(model),
                class,
                prompt_tokens: 1,
                max_tokens: max,
                engine: None,
            })
        });
    prop_oneof![
        6 => submit,
        1 => (0..40_u64).prop_map(|it| Event::CancelRequested { task: TaskId(it) }),
        1 => (run(), report, any::<bool>())
            .prop_map(|(run, report, slot_free)| Event::Finished { run, report, slot_free }),
        1 => run().prop_map(Event::SlotConfirmedFree),
        2 => (0..3_u32, status())
            .prop_map(|(id, status)| Event::ReplicaChanged { replica: ReplicaId(id), status }),
        1 => (0..3_u32).prop_map(|id| Event::ReplicaRemoved { replica: ReplicaId(id) }),
        1 => Just(Event::Tick),
    ]
}

/// What a shell that obeys the effects would know.
#[derive(Default)]
struct Shadow {
    open: BTreeSet<TaskId>,
    running: BTreeMap<TaskId, Run>,
}

impl Shadow {
    /// I1, I2, I8: effects name live things, in an order that makes sense.
    fn observe(&mut self, effect: &Effect) {
        match effect {
            Effect::Admitted { task, .. } => assert!(self.open.insert(*task), "admitted twice"),
            Effect::Rejected { .. } => {}
            Effect::Dispatch(run) => {
                assert!(self.open.contains(&run.task), "dispatch of a task that is not open");
                let before = self.running.insert(run.task, *run);
                assert!(
                    before.is_none_or(|it| it.attempt < run.attempt),
                    "dispatched twice at once"
                );
            }
            Effect::CancelOnReplica(run) => {
                assert_eq!(self.running.get(&run.task), Some(run), "stop of what does not run");
            }
            Effect::Ended { task, .. } => assert!(self.open.remove(task), "ended twice"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    // OC-CORE-1001, OC-CORE-1005, OC-CORE-1010, OC-CORE-1033
    #[test]
    fn invariants_hold_after_arbitrary_events(
        script in prop::collection::vec((0..90_000_000_u64, event(), any::<bool>()), 1..120),
        policy in prop_oneof![
            Just(FullPolicy::Reject), Just(FullPolicy::DropLru), Just(FullPolicy::ShedLowPriority)
        ],
    ) {
        let config = CoreConfig { full_policy: policy, queue_capacity: 3, ..CONFIG };
        let mut core = Core::new(config);
        let mut twin = Core::new(config);
        let mut shadow = Shadow::default();
        let mut submitted = 0;
        let mut now = 0;
        for (step, event, plausible) in script {
            now += step / 10;
            let event = steer(event, plausible, &mut submitted, &shadow);
            let effects = core.apply(Timestamp(now), event.clone());
            // Same events, same effects.
            assert_eq!(effects, twin.apply(Timestamp(now), event.clone()));
            effects.iter().for_each(|it| shadow.observe(it));
            assert_eq!(core.violations(), Vec::<String>::new(), "after {event:?}");
            assert!(core.queued() <= 12, "the queue is bounded");
        }
    }
}

/// Makes half of the events plausible, so that runs get somewhere: ascending task ids, and reports
/// about attempts that run.
fn steer(event: Event, plausible: bool, submitted: &mut u64, shadow: &Shadow) -> Event {
    let nth = |it: u64| {
        let running: Vec<Run> =
            shadow.running.values().filter(|it| shadow.open.contains(&it.task)).copied().collect();
        let index = usize::try_from(it).unwrap() % running.len().max(1);
        running.get(index).copied()
    };
    match event {
        Event::Submitted(spec) if plausible => {
            *submitted += 1;
            Event::Submitted(TaskSpec { task: TaskId(*submitted), ..spec })
        }
        Event::Finished { run, report, slot_free } if plausible => {
            Event::Finished { run: nth(run.task.0).unwrap_or(run), report, slot_free }
        }
        Event::CancelRequested { task } if plausible => {
            Event::CancelRequested { task: nth(task.0).map_or(task, |it| it.task) }
        }
        other => other,
    }
}
