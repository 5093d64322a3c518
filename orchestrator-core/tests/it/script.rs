//! A script of timed events in, the timeline of effects out.

use expect_test::Expect;
use orchestrator_core::{
    Attempt, Availability, Class, ClassPolicy, Core, CoreConfig, Effect, EngineId, Event,
    FullPolicy, Micros, ModelId, ReplicaId, ReplicaStatus, Report, Run, TaskId, TaskSpec,
    Timestamp,
};

pub(crate) const CONFIG: CoreConfig = CoreConfig {
    queue_capacity: 2,
    full_policy: FullPolicy::Reject,
    unready_wait: Micros(60_000_000),
    interactive: ClassPolicy { weight: 8, max_wait: Micros(30_000_000) },
    batch: ClassPolicy { weight: 1, max_wait: Micros(1_800_000_000) },
};

/// Runs `script` (`seconds verb arguments…`, one event a line) and compares the effects.
#[expect(clippy::needless_pass_by_value, reason = "expect![[…]] is written in place")]
pub(crate) fn check(config: CoreConfig, script: &str, expected: Expect) {
    let mut core = Core::new(config);
    let mut timeline = String::new();
    for line in script.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let (at, event) = line.split_once(' ').unwrap();
        let at: u64 = at.parse().unwrap();
        for effect in core.apply(Timestamp(at * 1_000_000), parse(event)) {
            timeline.push_str(&format!("{at}: {}\n", show(&effect)));
        }
        assert_eq!(core.violations(), Vec::<String>::new(), "after `{line}`");
    }
    expected.assert_eq(&timeline);
}

fn parse(text: &str) -> Event {
    let words: Vec<&str> = text.split(' ').collect();
    let option = |name: &str, default: u32| {
        let value = words.iter().find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
        value.map_or(default, |it| it.parse().unwrap())
    };
    let task = || TaskId(number(words[1], 't'));
    let run = || Run {
        task: task(),
        attempt: Attempt(option("attempt", 1)),
        replica: ReplicaId(small(words[2], 'r')),
    };
    let finished =
        |report| Event::Finished { run: run(), report, slot_free: !words.contains(&"held") };
    let replica = |availability| Event::ReplicaChanged {
        replica: ReplicaId(small(words[1], 'r')),
        status: ReplicaStatus {
            model: ModelId(small(words[2], 'm')),
            engine: EngineId(0),
            incarnation: u64::from(option("inc", 1)),
            availability,
            slots: option("slots", 1),
            context_tokens: option("ctx", 1_000),
        },
    };
    match words[0] {
        "submit" => Event::Submitted(TaskSpec {
            task: task(),
            model: ModelId(small(words[2], 'm')),
            class: if words.contains(&"batch") { Class::Batch } else { Class::Interactive },
            prompt_tokens: option("prompt", 10),
            max_tokens: option("max", 20),
            engine: words.contains(&"vllm").then_some(EngineId(1)),
        }),
        "cancel" => Event::CancelRequested { task: task() },
        "done" => finished(Report::Completed),
        "failed" => finished(Report::Failed),
        "refused" => finished(Report::NotTaken),
        "free" => Event::SlotConfirmedFree(run()),
        "ready" => replica(Availability::Ready),
        "coming" => replica(Availability::Coming),
        "drain" => replica(Availability::Draining),
        "down" => replica(Availability::Down),
        "gone" => Event::ReplicaRemoved { replica: ReplicaId(small(words[1], 'r')) },
        "tick" => Event::Tick,
        other => unreachable!("no such event: {other}"),
    }
}

fn number(word: &str, letter: char) -> u64 {
    word.strip_prefix(letter).unwrap().parse().unwrap()
}

fn small(word: &str, letter: char) -> u32 {
    number(word, letter).try_into().unwrap()
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
        Effect::Dispatch(it) => format!("dispatch {}", run(it)),
        Effect::CancelOnReplica(it) => format!("stop {}", run(it)),
        Effect::Ended { task, ending } => format!("ended t{}: {ending:?}", task.0),
    }
}
