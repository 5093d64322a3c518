//! A script of timed events in, the timeline of effects out.

use expect_test::Expect;
use orchestrator_core::{
    Attempt, Availability, Class, ClassPolicy, Core, CoreConfig, DeviceId, Effect, EngineId, Event,
    Footprint, FullPolicy, Micros, ModelId, ModelPolicy, OnExceed, PoolChoice, PoolId, Prices,
    Rate, ReplicaId, ReplicaStatus, Report, Run, SessionId, SwapPolicy, TaskId, TaskSpec, TenantId,
    TenantPolicy, Timestamp, Usage,
};

pub(crate) const CONFIG: CoreConfig = CoreConfig {
    queue_capacity: 2,
    full_policy: FullPolicy::Reject,
    unready_wait: Micros(60_000_000),
    interactive: ClassPolicy {
        weight: 8,
        max_wait: Micros(30_000_000),
        patience: Micros(30_000_000),
    },
    batch: ClassPolicy {
        weight: 1,
        max_wait: Micros(1_800_000_000),
        patience: Micros(3_600_000_000),
    },
    strict_classes: false,
    prices: Prices { input: 1, output: 2 },
    swap: SwapPolicy { min_resident: Micros(10_000_000), max_wait: Micros(60_000_000) },
    preemptions_per_min: 0,
    headroom_slots: 0,
    on_time_percent_min: 5,
};

/// Runs `script` (`seconds verb arguments…`, one event a line) and compares the effects.
#[expect(clippy::needless_pass_by_value, reason = "expect![[…]] is written in place")]
pub(crate) fn check(config: CoreConfig, script: &str, expected: Expect) {
    let (timeline, _) = run(config, script);
    let without_reasons: String = timeline
        .lines()
        .filter(|it| !it.contains(": decided "))
        .map(|it| format!("{it}\n"))
        .collect();
    expected.assert_eq(&without_reasons);
}

/// As [`check`], with the reasons of each choice of a replica and nothing else.
#[expect(clippy::needless_pass_by_value, reason = "expect![[…]] is written in place")]
pub(crate) fn check_decisions(script: &str, expected: Expect) {
    let (timeline, _) = run(CONFIG, script);
    let reasons: String = timeline
        .lines()
        .filter(|it| it.contains(": decided "))
        .map(|it| format!("{it}\n"))
        .collect();
    expected.assert_eq(&reasons);
}

/// The timeline of a script, and the core after it.
pub(crate) fn run(config: CoreConfig, script: &str) -> (String, Core) {
    let mut core = Core::new(config);
    let mut timeline = String::new();
    for line in script.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let (at, event) = line.split_once(' ').unwrap();
        let seconds: f64 = at.parse().unwrap();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "scripts name a few positive seconds"
        )]
        let now = Timestamp((seconds * 1_000_000.0) as u64);
        if event == "restart" {
            core = restarted(&core, config, now);
        } else {
            for effect in core.apply(now, parse(event)) {
                timeline.push_str(&format!("{at}: {}\n", show(&effect)));
            }
        }
        assert_eq!(core.violations(), Vec::<String>::new(), "after `{line}`");
    }
    (timeline, core)
}

/// Tasks and tenants that scripts use.
const IDS: u32 = 50;

/// The next life: it knows what was saved, and nothing of replicas and policies.
pub(crate) fn restarted(core: &Core, config: CoreConfig, now: Timestamp) -> Core {
    let mut next = Core::new(config);
    let tasks = (0..=IDS).filter_map(|it| core.saved_task(TaskId(it.into())));
    let quotas = (0..=IDS).map(TenantId).map(|it| (it, core.saved_quota(it)));
    next.restore(now, tasks.collect(), quotas.collect(), &core.saved_counters());
    next
}

struct Words<'a>(Vec<&'a str>);

impl Words<'_> {
    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn option(&self, name: &str) -> Option<u64> {
        let value = self.0.iter().find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
        value.map(|it| it.parse().unwrap())
    }

    fn small(&self, name: &str) -> Option<u32> {
        self.option(name).map(|it| it.try_into().unwrap())
    }

    fn seconds(&self, name: &str) -> Option<Micros> {
        self.option(name).map(Micros::seconds)
    }

    /// The number behind the letter of the nth word.
    fn id(&self, index: usize) -> u32 {
        self.0[index][1..].parse().unwrap()
    }

    fn task(&self) -> TaskId {
        TaskId(self.id(1).into())
    }

    fn replica(&self, index: usize) -> ReplicaId {
        ReplicaId(self.id(index))
    }

    fn run(&self) -> Run {
        Run {
            task: self.task(),
            attempt: Attempt(self.small("attempt").unwrap_or(1)),
            replica: self.replica(2),
        }
    }

    fn usage(&self) -> Usage {
        Usage { prompt_tokens: self.small("prompt"), output_tokens: self.small("out").unwrap_or(0) }
    }

    fn finished(&self, report: Report) -> Event {
        let slot_free = !self.has("held");
        Event::Finished { run: self.run(), report, usage: self.usage(), slot_free }
    }

    fn changed(&self, availability: Availability) -> Event {
        let status = ReplicaStatus {
            model: ModelId(self.id(2)),
            pool: PoolId(self.small("pool").unwrap_or(0)),
            engine: EngineId(0),
            incarnation: self.option("inc").unwrap_or(1),
            availability,
            slots: self.small("slots").unwrap_or(1),
            context_tokens: self.small("ctx").unwrap_or(1_000),
            kv_tokens: self.small("kv").unwrap_or(0),
            interruptible: self.has("interruptible"),
            spread: self.small("spread").map_or(0, |it| it.try_into().unwrap()),
        };
        Event::ReplicaChanged { replica: self.replica(1), status }
    }

    fn submitted(&self) -> Event {
        let pools = |name: &str| self.small(name).map(PoolId).into_iter().collect::<Vec<_>>();
        let choice =
            PoolChoice { pin: pools("pin"), prefer: pools("prefer"), avoid: pools("avoid") };
        Event::Submitted(TaskSpec {
            task: self.task(),
            model: ModelId(self.id(2)),
            tenant: TenantId(self.small("tenant").unwrap_or(0)),
            class: if self.has("batch") { Class::Batch } else { Class::Interactive },
            prompt_tokens: self.small("prompt").unwrap_or(10),
            max_tokens: self.small("max").unwrap_or(20),
            expected_tokens: self.small("expected"),
            deadline: self.seconds("deadline"),
            ttl: self.seconds("ttl"),
            session: self.option("session").map(SessionId),
            resumable: !self.has("fixed"),
            engine: self.has("vllm").then_some(EngineId(1)),
            pools: (choice != PoolChoice::default()).then(|| Box::new(choice)),
        })
    }

    fn tenant(&self) -> Event {
        let rate = |per_s| Rate { per_s, burst: self.small("burst").unwrap_or(1) };
        let policy = TenantPolicy {
            weight_milli: self.small("weight").unwrap_or(1) * 1_000,
            queued: self.small("queued"),
            concurrent: self.small("concurrent"),
            requests: self.small("rps").map(rate),
            tokens_per_min: self.option("tokens"),
            on_exceed: if self.has("hold") { OnExceed::Hold } else { OnExceed::Reject },
        };
        Event::TenantChanged { tenant: TenantId(self.id(1)), policy }
    }
}

fn parse(text: &str) -> Event {
    let words = Words(text.split(' ').collect());
    match words.0[0] {
        "submit" => words.submitted(),
        "cancel" => Event::CancelRequested { task: words.task() },
        "progress" => Event::Progress { run: words.run(), usage: words.usage() },
        "done" => words.finished(Report::Completed),
        "failed" => words.finished(Report::Failed),
        "refused" => words.finished(Report::NotTaken),
        "stopped" => words.finished(Report::Preempted),
        "lost" => words.finished(Report::Lost),
        "free" => Event::SlotConfirmedFree(words.run()),
        "ready" => words.changed(Availability::Ready),
        "coming" => words.changed(Availability::Coming),
        "drain" => words.changed(Availability::Draining),
        "unloaded" => words.changed(Availability::Unloaded),
        "down" => words.changed(Availability::Down),
        "crash" => Event::ReplicaFailed {
            replica: words.replica(1),
            incarnation: words.option("inc").unwrap_or(1),
        },
        "gone" => Event::ReplicaRemoved { replica: words.replica(1) },
        "needs" => Event::FootprintChanged {
            replica: words.replica(1),
            footprint: Footprint {
                memory_bytes: vec![(
                    DeviceId(words.small("on").unwrap_or(0)),
                    words.option("bytes").unwrap_or(1),
                )],
                load: words.seconds("load").unwrap_or_default(),
                pinned: words.has("pinned"),
                idle_ttl: words.seconds("ttl"),
            },
        },
        "home" => Event::SessionHome {
            session: SessionId(words.id(1).into()),
            replica: words.replica(2),
            incarnation: words.option("inc").unwrap_or(1),
        },
        "forget" => Event::SessionEnded { session: SessionId(words.id(1).into()) },
        "handback" => Event::HandBack { pool: PoolId(words.id(1)) },
        "unheard" => Event::OrderFailed { replica: words.replica(1) },
        "device" => Event::DeviceChanged {
            device: DeviceId(words.id(1)),
            memory_bytes: words.option("bytes").unwrap_or(1),
        },
        "tenant" => words.tenant(),
        "model" => Event::ModelChanged {
            model: ModelId(words.id(1)),
            policy: ModelPolicy { cost_milli: words.small("cost").unwrap() * 1_000 },
        },
        "tick" => Event::Tick,
        other => unreachable!("no such event: {other}"),
    }
}

fn show(effect: &Effect) -> String {
    let seconds = |span: &Option<Micros>| {
        span.map_or("unknown".into(), |it| format!("{}.{}s", it.0 / 1_000_000, it.0 / 100_000 % 10))
    };
    let run = |it: &Run| format!("t{} on r{} attempt {}", it.task.0, it.replica.0, it.attempt.0);
    match effect {
        Effect::Admitted { task, position, predicted_start, predicted_start_p90 } => format!(
            "admitted t{} at {position}, starts in {} (p90 {})",
            task.0,
            seconds(predicted_start),
            seconds(predicted_start_p90)
        ),
        Effect::Rejected { task, reason } => format!("rejected t{}: {reason:?}", task.0),
        Effect::Dispatch { run: it, kept_tokens: 0 } => format!("dispatch {}", run(it)),
        Effect::Dispatch { run: it, kept_tokens } => {
            format!("dispatch {} after {kept_tokens} tokens", run(it))
        }
        Effect::CancelOnReplica(it) => format!("stop {}", run(it)),
        Effect::Preempt(it) => format!("preempt {}", run(it)),
        Effect::Ended { task, ending } => format!("ended t{}: {ending:?}", task.0),
        Effect::Load { replica } => format!("load r{}", replica.0),
        Effect::Unload { replica } => format!("unload r{}", replica.0),
        Effect::Decided(it) => {
            let candidates: Vec<u32> = it.candidates.iter().map(|it| it.0.0).collect();
            let (choice, dropped) = (it.choice, &it.dropped);
            format!("decided t{}: {choice:?} of {candidates:?}, dropped {dropped:?}", it.task.0)
        }
    }
}
