//! Invariants under arbitrary events, impossible ones included.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator_core::{
    Attempt, Availability, Class, Core, CoreConfig, DeviceId, Effect, EngineId, Event, Footprint,
    FullPolicy, Micros, ModelId, ModelPolicy, OnExceed, PoolChoice, PoolId, Rate, ReplicaId,
    ReplicaStatus, Report, Run, SessionId, TaskId, TaskSpec, TenantId, TenantPolicy, Timestamp,
    Usage,
};
use proptest::prelude::*;

use crate::script::{CONFIG, restarted};

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Interactive), Just(Class::Batch)]
}

fn run() -> impl Strategy<Value = Run> {
    (0..40_u64, 1..4_u32, 0..4_u32).prop_map(|(task, attempt, replica)| Run {
        task: TaskId(task),
        attempt: Attempt(attempt),
        replica: ReplicaId(replica),
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    (prop::option::of(0..50_u32), prop_oneof![0..60_u32, Just(u32::MAX)])
        .prop_map(|(prompt_tokens, output_tokens)| Usage { prompt_tokens, output_tokens })
}

fn status() -> impl Strategy<Value = ReplicaStatus> {
    let availability = prop_oneof![
        5 => Just(Availability::Ready),
        1 => Just(Availability::Coming),
        1 => Just(Availability::Draining),
        2 => Just(Availability::Unloaded),
        1 => Just(Availability::Down),
    ];
    let sizes =
        (0..4_u32, prop_oneof![Just(0), Just(60), Just(100)], prop_oneof![Just(0), 40..200_u32]);
    (0..2_u32, 0..2_u32, 0..3_u64, availability, sizes, any::<bool>(), 0..3_u8).prop_map(
        |(
            model,
            pool,
            incarnation,
            availability,
            (slots, context_tokens, kv_tokens),
            interruptible,
            spread,
        )| {
            ReplicaStatus {
                model: ModelId(model),
                pool: PoolId(pool),
                engine: EngineId(0),
                incarnation,
                availability,
                slots,
                context_tokens,
                kv_tokens,
                interruptible,
                spread,
            }
        },
    )
}

fn spec() -> impl Strategy<Value = TaskSpec> {
    let limits = (
        prop::option::of(prop_oneof![0..20_000_000_u64, Just(u64::MAX)]),
        prop::option::of(prop_oneof![0..20_000_000_u64, Just(u64::MAX)]),
        prop::option::of(prop_oneof![0..60_u32, Just(u32::MAX)]),
    );
    let pools = prop_oneof![
        4 => Just(None),
        1 => (0..3_u32).prop_map(|it| Some(PoolChoice { pin: vec![PoolId(it)], ..PoolChoice::default() })),
        1 => (0..3_u32).prop_map(|it| Some(PoolChoice { avoid: vec![PoolId(it)], ..PoolChoice::default() })),
        1 => (0..3_u32).prop_map(|it| Some(PoolChoice { prefer: vec![PoolId(it)], ..PoolChoice::default() })),
    ];
    let sizes = (prop_oneof![0..40_u32, Just(u32::MAX)], prop_oneof![0..120_u32, Just(u32::MAX)]);
    let ids = (0..40_u64, 0..2_u32, 0..3_u32, class(), prop::option::of(0..3_u64));
    (ids, sizes, limits, pools).prop_map(
        |(
            (task, model, tenant, class, session),
            (prompt, max),
            (deadline, ttl, expected),
            pools,
        )| {
            TaskSpec {
                task: TaskId(task),
                model: ModelId(model),
                tenant: TenantId(tenant),
                class,
                prompt_tokens: prompt,
                max_tokens: max,
                expected_tokens: expected,
                deadline: deadline.map(Micros),
                ttl: ttl.map(Micros),
                session: session.map(SessionId),
                resumable: task % 5 != 0,
                engine: None,
                pools: pools.map(Box::new),
            }
        },
    )
}

fn tenant_policy() -> impl Strategy<Value = TenantPolicy> {
    let limit = || prop::option::of(0..3_u32);
    (0..3_000_u32, limit(), limit(), limit(), prop::option::of(0..300_u64), any::<bool>()).prop_map(
        |(weight_milli, queued, concurrent, rate, tokens_per_min, hold)| TenantPolicy {
            weight_milli,
            queued,
            concurrent,
            requests: rate.map(|it| Rate { per_s: it, burst: it }),
            tokens_per_min,
            on_exceed: if hold { OnExceed::Hold } else { OnExceed::Reject },
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let report = prop_oneof![
        3 => Just(Report::Completed),
        1 => Just(Report::Failed),
        1 => Just(Report::NotTaken),
        1 => Just(Report::Preempted),
        1 => Just(Report::Lost),
    ];
    let replica = || (0..4_u32).prop_map(ReplicaId);
    let footprint = (0..2_u32, 0..12_u64, 0..3_000_000_u64, any::<bool>()).prop_map(
        |(device, bytes, load, pinned)| Footprint {
            idle_ttl: (load % 2 == 0).then_some(Micros(load)),
            memory_bytes: vec![(DeviceId(device), bytes)],
            load: Micros(load),
            pinned,
        },
    );
    prop_oneof![
        10 => spec().prop_map(Event::Submitted),
        1 => (0..40_u64).prop_map(|it| Event::CancelRequested { task: TaskId(it) }),
        3 => (run(), usage()).prop_map(|(run, usage)| Event::Progress { run, usage }),
        3 => (run(), report, usage(), any::<bool>()).prop_map(|(run, report, usage, slot_free)| {
            Event::Finished { run, report, usage, slot_free }
        }),
        1 => run().prop_map(Event::SlotConfirmedFree),
        4 => (replica(), status())
            .prop_map(|(replica, status)| Event::ReplicaChanged { replica, status }),
        1 => (replica(), 0..3_u64)
            .prop_map(|(replica, incarnation)| Event::ReplicaFailed { replica, incarnation }),
        1 => replica().prop_map(|replica| Event::ReplicaRemoved { replica }),
        1 => replica().prop_map(|replica| Event::OrderFailed { replica }),
        1 => (0..3_u64).prop_map(|it| Event::SessionEnded { session: SessionId(it) }),
        1 => (0..3_u64, 0..3_u32, 1..3_u64).prop_map(|(session, replica, incarnation)| {
            let (session, replica) = (SessionId(session), ReplicaId(replica));
            Event::SessionHome { session, replica, incarnation }
        }),
        1 => (0..3_u32).prop_map(|it| Event::HandBack { pool: PoolId(it) }),
        1 => (replica(), footprint)
            .prop_map(|(replica, footprint)| Event::FootprintChanged { replica, footprint }),
        1 => (0..2_u32, 0..20_u64).prop_map(|(device, memory_bytes)| {
            Event::DeviceChanged { device: DeviceId(device), memory_bytes }
        }),
        1 => (0..3_u32, tenant_policy())
            .prop_map(|(it, policy)| Event::TenantChanged { tenant: TenantId(it), policy }),
        1 => (0..2_u32, 0..5_000_u32).prop_map(|(model, cost_milli)| {
            Event::ModelChanged { model: ModelId(model), policy: ModelPolicy { cost_milli } }
        }),
        2 => Just(Event::Tick),
    ]
}

/// What a shell that obeys the effects would know.
#[derive(Default)]
struct Shadow {
    open: BTreeSet<TaskId>,
    running: BTreeMap<TaskId, Run>,
    preempted: BTreeMap<TaskId, u32>,
    sessions: BTreeMap<TaskId, Option<SessionId>>,
}

impl Shadow {
    /// I1, I2, I8: effects name live things, in an order that makes sense.
    /// What a drain hands back is not counted against a task.
    fn observe(&mut self, effect: &Effect, handed_back: bool) {
        match effect {
            Effect::Admitted { task, .. } => assert!(self.open.insert(*task), "admitted twice"),
            Effect::Dispatch { run, .. } => {
                assert!(self.open.contains(&run.task), "dispatch of a task that is not open");
                let before = self.running.insert(run.task, *run);
                assert!(
                    before.is_none_or(|it| it.attempt < run.attempt),
                    "dispatched twice at once"
                );
                let session = self.sessions[&run.task];
                let turns = self.open.iter().filter(|it| self.sessions[*it] == session);
                let first = turns.min().filter(|_| session.is_some());
                assert!(first.is_none_or(|it| *it == run.task), "an earlier turn is open");
            }
            Effect::CancelOnReplica(run) => {
                assert_eq!(self.running.get(&run.task), Some(run), "stop of what does not run");
            }
            Effect::Preempt(run) => {
                assert_eq!(self.running.get(&run.task), Some(run), "stop of what does not run");
                let times = self.preempted.entry(run.task).or_default();
                *times += u32::from(!handed_back);
                assert!(*times <= 2, "preempted a third time");
            }
            Effect::Ended { task, .. } => assert!(self.open.remove(task), "ended twice"),
            Effect::Rejected { .. }
            | Effect::Load { .. }
            | Effect::Unload { .. }
            | Effect::Decided(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    // OC-CORE-1001, OC-CORE-1005, OC-CORE-1010, OC-CORE-1033, OC-CORE-1045, OC-CORE-1046
    #[test]
    fn invariants_hold_after_arbitrary_events(
        script in prop::collection::vec((0..90_000_000_u64, event(), any::<bool>()), 1..150),
        policy in prop_oneof![
            Just(FullPolicy::Reject), Just(FullPolicy::DropLru), Just(FullPolicy::ShedLowPriority)
        ],
        headroom_slots in 0..2_u32,
        strict_classes in any::<bool>(),
    ) {
        let config = CoreConfig {
            full_policy: policy,
            queue_capacity: 3,
            preemptions_per_min: 2,
            headroom_slots,
            strict_classes,
            ..CONFIG
        };
        let mut core = Core::new(config);
        let mut twin = Core::new(config);
        let mut shadow = Shadow::default();
        let mut submitted = 0;
        let mut now = 0;
        for (step, event, plausible) in script {
            now += step / 30;
            let event = steer(event, plausible, &mut submitted, &shadow);
            // A clock that steps back counts as one that stands still.
            let told = if step % 17 == 0 { now / 2 } else { now };
            if let Event::Submitted(TaskSpec { task, session, .. }) = &event
                && !shadow.open.contains(task)
            {
                shadow.sessions.insert(*task, *session);
            }
            let effects = core.apply(Timestamp(told), event.clone());
            // Same events, same effects.
            assert_eq!(effects, twin.apply(Timestamp(told), event.clone()));
            let handed_back = matches!(event, Event::HandBack { .. });
            effects.iter().for_each(|it| shadow.observe(it, handed_back));
            assert_eq!(core.violations(), Vec::<String>::new(), "after {event:?}");
            assert!(core.queued() <= 12 + 16, "the queue is bounded");
        }
        // I10: what is saved and restored is what there was.
        let next = restarted(&core, config, Timestamp(now));
        assert_eq!(next.violations(), Vec::<String>::new(), "after a restart");
        for id in (0..=50).map(TaskId) {
            assert_eq!(core.saved_task(id), next.saved_task(id));
        }
        for id in (0..3).map(TenantId) {
            assert_eq!(core.saved_quota(id), next.saved_quota(id));
        }
        assert_eq!(core.saved_counters(), next.saved_counters());
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
        Event::Finished { run, report, usage, slot_free } if plausible => {
            Event::Finished { run: nth(run.task.0).unwrap_or(run), report, usage, slot_free }
        }
        Event::Progress { run, usage } if plausible => {
            Event::Progress { run: nth(run.task.0).unwrap_or(run), usage }
        }
        Event::CancelRequested { task } if plausible => {
            Event::CancelRequested { task: nth(task.0).map_or(task, |it| it.task) }
        }
        other => other,
    }
}
