//! The clients: each one submits a task, follows it through every break, and goes on to the next.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{Answer, Client, Events};
use crate::harm::Moment;
use crate::pause;
use crate::quota::{Span, Taken};
use crate::run::{Fate, Found, Record, Run};
use crate::stack::{FREE_KEY, TIGHT_KEY};
use crate::trace::{Asked, Event, check, digest, text};

const CLIENTS: u64 = 26;
/// Every so many of them is the tenant with limits.
const TIGHT_EVERY: u64 = 3;
const SSE: &str = "text/event-stream";
/// Between attempts that failed.
const RETRY: Duration = Duration::from_millis(150);

/// What a client does with one task.
struct Plan {
    id: Uuid,
    key: &'static str,
    asked: Asked,
    body: String,
    /// Whether the stream is asked for together with the task.
    streamed: bool,
    /// Whether the task is submitted again while it runs.
    again: bool,
    /// Tokens before it is cancelled.
    cancel_after: Option<usize>,
    /// Others who follow the stream.
    readers: usize,
    /// Pause after each event.
    slowness: Duration,
}

impl Plan {
    fn draw(random: &mut SmallRng, key: &'static str) -> Self {
        let id = uuid::Builder::from_random_bytes(random.random()).into_uuid();
        // Numbers of their own, so that nobody's tokens pass for another's.
        let asked = Asked {
            first: random.random_range(1_000..1_000_000),
            tokens: random.random_range(10..120),
        };
        let streamed = random.random();
        let mut body = json!({
            "task_id": id.to_string(),
            "prompt": format!("count on from {}", asked.first - 1),
            "max_tokens": asked.tokens,
            "priority": if random.random_ratio(1, 4) { "batch" } else { "interactive" },
        });
        if streamed {
            // Nobody is cancelled because a daemon was away.
            body["disconnect_grace_ms"] = json!(600_000);
        }
        let cancels = random.random_ratio(1, 7);
        Self {
            id,
            key,
            asked,
            body: body.to_string(),
            streamed,
            again: random.random_ratio(1, 6),
            cancel_after: cancels.then(|| random.random_range(0..60)),
            readers: if random.random_ratio(1, 4) { random.random_range(1..=2) } else { 0 },
            slowness: Duration::from_millis(if random.random_ratio(1, 8) { 40 } else { 0 }),
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/tasks/{}{rest}", self.id)
    }
}

/// When a task was admitted, in ms of the run, and its stream if it came along.
struct Admitted {
    earliest: u64,
    latest: u64,
    events: Option<Events>,
}

/// What one reader of a stream has seen.
#[derive(Default)]
struct Seen {
    /// The journaled ones.
    events: Vec<Event>,
    /// When the last attempt was seen to begin, in ms of the run.
    began: Option<u64>,
    interrupted: bool,
}

/// The clients, to be run on a thread each until the run is calm.
pub(crate) fn clients(run: &Run) -> impl Iterator<Item = impl FnOnce() + Send> {
    (0..CLIENTS).map(move |number| {
        move || {
            let mut random = SmallRng::seed_from_u64(run.options.seed.wrapping_add(number));
            let key = if number % TIGHT_EVERY == 0 { TIGHT_KEY } else { FREE_KEY };
            let client = Client::new(run.stack.clients.address, key);
            while !run.is_calm() {
                let plan = Plan::draw(&mut random, key);
                Visit { run, client: &client, plan: &plan }.whole();
                run.rest(Duration::from_millis(random.random_range(0..300)));
            }
        }
    })
}

/// One client with one task.
struct Visit<'a> {
    run: &'a Run,
    client: &'a Client,
    plan: &'a Plan,
}

impl Visit<'_> {
    fn whole(&self) {
        let Some(admitted) = self.submit() else { return };
        let times = (admitted.earliest, admitted.latest);
        let (seen, others) = std::thread::scope(|scope| {
            let others: Vec<_> =
                (0..self.plan.readers).map(|_| scope.spawn(|| self.read(None, false))).collect();
            let seen = self.read(admitted.events, true);
            let join = |it: std::thread::ScopedJoinHandle<'_, Seen>| it.join().expect("a reader");
            (seen, others.into_iter().map(join).collect::<Vec<_>>())
        });
        let mut found = self.run.found();
        found.interrupted += u64::from(seen.interrupted);
        let lost = [&seen].into_iter().chain(&others).any(|it| !it.is_whole());
        let fate = if lost {
            Fate::Lost
        } else {
            for it in [&seen].into_iter().chain(&others) {
                let mut flaws = check(&it.events, self.plan.asked);
                flaws.contradictions += u64::from(it.events != seen.events);
                if flaws.any() {
                    found.surprises.push(format!("{}: {flaws:?}", self.plan.id));
                }
                found.flaws.add(flaws);
            }
            if self.plan.key == TIGHT_KEY {
                note_limits(&mut found, times, &seen);
            }
            let last = seen.events.last().map(Event::json).unwrap_or_default();
            let error = last["code"].as_str().map(str::to_owned);
            if last["finish_reason"] == "cancelled" && self.plan.cancel_after.is_none() {
                found.surprises.push(format!("{} was cancelled by nobody", self.plan.id));
            }
            Fate::Ended { digest: digest(&seen.events), error }
        };
        let (id, key, asked) = (self.plan.id, self.plan.key, self.plan.asked);
        found.tasks.push(Record { id, key, asked, fate });
    }

    /// Until there is an answer. `None`: it was refused, and there is no time left.
    fn submit(&self) -> Option<Admitted> {
        let accept = if self.plan.streamed { SSE } else { "application/json" };
        let mut earliest = self.run.now_ms();
        loop {
            match self.client.post("/v1/tasks", &self.plan.body, accept) {
                Ok(answer) if matches!(answer.status, 200 | 202) => {
                    self.run.reached(Moment::Admitted);
                    let latest = self.run.now_ms();
                    let events = self.plan.streamed.then(|| answer.events());
                    if self.plan.again {
                        self.submit_again(accept);
                    }
                    return Some(Admitted { earliest, latest, events });
                }
                Ok(answer) if matches!(answer.status, 429 | 503) => {
                    self.run.found().refused += 1;
                    if self.run.is_calm() {
                        return None;
                    }
                    // Whatever was sent before did not arrive: a known task is not refused.
                    self.run.rest(RETRY);
                    earliest = self.run.now_ms();
                }
                Ok(answer) => {
                    self.unexpected("submission", answer);
                    return None;
                }
                Err(_) if self.run.is_over() => {
                    self.run.surprise(format!("{}: a submission has no answer", self.plan.id));
                    return None;
                }
                Err(_) => {
                    self.run.found().repeated += 1;
                    pause(RETRY);
                }
            }
        }
    }

    /// The same task once more: it is the one that there is.
    fn submit_again(&self, accept: &str) {
        match self.client.post("/v1/tasks", &self.plan.body, accept) {
            Ok(answer) if !matches!(answer.status, 200 | 202 | 429 | 503) => {
                self.unexpected("repetition", answer);
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Follows the stream to its end, through every break.
    fn read(&self, mut events: Option<Events>, may_cancel: bool) -> Seen {
        let mut seen = Seen::default();
        let mut cancel_after = self.plan.cancel_after.filter(|_| may_cancel);
        loop {
            for event in events.take().into_iter().flatten() {
                if event.is_token() {
                    self.run.reached(Moment::Token);
                } else if event.is_last() {
                    self.run.reached(Moment::Ended);
                }
                seen.note(event, self.run.now_ms());
                if seen.is_whole() {
                    return seen;
                }
                if cancel_after.is_some_and(|it| it <= seen.tokens()) {
                    cancel_after = None;
                    self.cancel();
                }
                if !self.plan.slowness.is_zero() {
                    pause(self.plan.slowness);
                }
            }
            seen.interrupted |= !seen.events.is_empty();
            if self.run.is_over() {
                return seen;
            }
            let last = seen.events.last().and_then(|it| it.id).unwrap_or(0);
            match self.client.follow(&self.plan.path("/stream"), last) {
                Ok(answer) if answer.status == 200 => events = Some(answer.events()),
                Ok(answer) if matches!(answer.status, 404 | 409) => {
                    // The daemon does not know the task, or less of it than this reader.
                    let what = format!("{}: {} after event {last}", self.plan.id, answer.status);
                    self.run.surprise(what);
                    return seen;
                }
                Ok(_) | Err(_) => pause(RETRY),
            }
        }
    }

    /// Until it is acknowledged; then the task must be over and its text final.
    fn cancel(&self) {
        let path = self.plan.path("/cancel");
        let cancelled = self.insist(|| self.client.post(&path, "{}", "*/*"), |_| Ok(()));
        if cancelled.is_none() {
            return;
        }
        self.run.reached(Moment::Cancelled);
        let view = self.insist(|| self.client.get(&self.plan.path("")), Answer::json);
        let Some(view) = view else { return };
        let stream = || self.client.get(&self.plan.path("/stream"));
        let whole = |answer: Answer| Ok(answer.events().collect::<Vec<_>>());
        let replay = self.insist(stream, whole).unwrap_or_default();
        let ended = ["completed", "failed", "cancelled", "expired", "dropped"];
        let over = view["state"].as_str().is_some_and(|it| ended.contains(&it));
        let replay: Vec<Event> = replay.into_iter().filter(|it| it.id.is_some()).collect();
        let complete = replay.last().is_some_and(Event::is_last);
        let told = view["text"].as_str().unwrap_or_default();
        let mut found = self.run.found();
        found.cancels += 1;
        if !over || (complete && told != text(&replay)) {
            found.broken_cancels += 1;
            found.surprises.push(format!("{}: after the 204 it is {view}", self.plan.id));
        }
    }

    /// Repeats a call until it is answered in whole.
    fn insist<T>(
        &self,
        call: impl Fn() -> Result<Answer, ureq::Error>,
        take: impl Fn(Answer) -> Result<T, ureq::Error>,
    ) -> Option<T> {
        while !self.run.is_over() {
            match call() {
                Ok(answer) if matches!(answer.status, 429 | 503) => pause(RETRY),
                Ok(answer) if matches!(answer.status, 200..300) => match take(answer) {
                    Ok(taken) => return Some(taken),
                    Err(_) => pause(RETRY),
                },
                Ok(_) => return None,
                Err(_) => pause(RETRY),
            }
        }
        None
    }

    fn unexpected(&self, what: &str, answer: Answer) {
        let (status, body) = (answer.status, answer.json().unwrap_or_default());
        self.run.surprise(format!("{}: a {what} was answered {status}: {body}", self.plan.id));
    }
}

impl Seen {
    fn note(&mut self, event: Event, now_ms: u64) {
        if event.id.is_none() {
            return;
        }
        if matches!(event.name.as_str(), "started" | "resumed") {
            self.began = Some(now_ms);
            self.interrupted |= event.name == "resumed";
        }
        self.events.push(event);
    }

    fn tokens(&self) -> usize {
        self.events.iter().filter(|it| it.is_token()).count()
    }

    fn is_whole(&self) -> bool {
        self.events.last().is_some_and(Event::is_last)
    }
}

/// What the stream tells of when its task waited, ran and used tokens.
fn note_limits(found: &mut Found, (earliest, latest): (u64, u64), seen: &Seen) {
    let started = seen.events.iter().find(|it| it.name == "started").map(Event::json);
    let Some(waited) = started.and_then(|it| it["queue_time_ms"].as_u64()) else { return };
    found.waiting.push(Span { from: latest, to: earliest + waited });
    let (Some(began), Some(end)) = (seen.began, seen.events.last()) else { return };
    let end = end.json();
    let told = |name: &str| end[name].as_u64().unwrap_or(0);
    // `error` says no times.
    if end["finish_reason"] == Value::Null {
        return;
    }
    let lasted = waited + told("first_token_ms") + told("decode_time_ms");
    found.running.push(Span { from: began, to: earliest + lasted });
    // What later attempts used was taken out later.
    let first_attempt = seen.events.iter().take_while(|it| it.name != "resumed");
    let tokens = first_attempt.filter(|it| it.is_token()).count() as u64;
    found.taken.push(Taken { earliest: earliest + waited, latest: latest + waited, tokens });
}
