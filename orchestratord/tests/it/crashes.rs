//! The process dies at each point of a task's life; the next one makes it right.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{numbers, text};
use crate::daemon::{Life, World};

const POINTS: [&str; 8] = [
    "Admitted",
    "BeforeCommit",
    "AfterCommit",
    "Dispatched",
    "Relayed",
    "Closed",
    "Ended",
    "Cancelled",
];

/// A task as its client knows it.
struct Wanted {
    id: Uuid,
    acknowledged: bool,
    cancel: bool,
    /// The cancel was acknowledged.
    cancelled: bool,
}

impl Wanted {
    /// One that is to be cancelled does not end before.
    fn tokens(&self) -> usize {
        if self.cancel { 300 } else { 20 }
    }

    fn body(&self) -> String {
        json!({"task_id": self.id, "prompt": "a", "max_tokens": self.tokens()}).to_string()
    }

    /// Submits, and cancels if that is wanted; a daemon that dies meanwhile answers nothing.
    fn submit(&mut self, life: &Life) {
        if life.client.try_post("/v1/tasks", &self.body()) == Some(202) {
            self.acknowledged = true;
            if self.cancel {
                let path = format!("/v1/tasks/{}", self.id);
                let answer = life.client.try_post(&format!("{path}/cancel"), "{}");
                self.cancelled = answer == Some(204);
            }
        }
    }

    /// What a life that does not die must have made of it.
    fn check(&self, life: &Life, at: &str) {
        let path = format!("/v1/tasks/{}", self.id);
        let found = life.client.get(&path, &[]);
        if self.acknowledged {
            assert_eq!(found.status, 200, "{at}: an acknowledged task is lost");
        }
        // A repetition is the same task, or the first that is heard of it.
        let again = life.client.post("/v1/tasks", &self.body(), &[]);
        assert_eq!(again.status, 202, "{at}: {again:?}");
        let events = life.client.stream(&self.id.to_string());
        let ids: Vec<u64> = events.iter().filter_map(|it| it.id).collect();
        let count = u64::try_from(ids.len()).unwrap();
        assert_eq!(ids, (1..=count).collect::<Vec<_>>(), "{at}");
        let end = &events.last().unwrap().data;
        let said = text(&events);
        match &end["finish_reason"] {
            Value::String(it) if it == "cancelled" => assert!(self.cancel, "{at}"),
            it => {
                assert!(!self.cancelled, "{at}: it went on after an acknowledged cancel");
                let whole = numbers(self.tokens());
                assert_eq!((it, said.as_str()), (&json!("length"), &*whole), "{at}: {end}");
            }
        }
        assert!(numbers(self.tokens()).starts_with(&said), "{at}: {said}");
        assert_eq!(life.client.json(&path)["text"].as_str().unwrap_or_default(), said, "{at}");
    }
}

// ORCH-4001, ORCH-4002, ORCH-4003, ORCH-4004
#[test]
fn a_death_at_any_point_loses_nothing_that_was_acknowledged() {
    for point in POINTS {
        // Commits are of everything: admissions, tokens, cancels, ends.
        let all: &[u32] = if point.ends_with("Commit") { &[1, 3, 5, 7, 9, 12] } else { &[1, 2, 3] };
        for times in all {
            let at = format!("{point}:{times}");
            let world = World::new(&[1], &["--decode-us-per-token", "500"], "");
            let mut command = world.command();
            command.env("LLAMA_ORCH_CRASH_AT", &at);
            let mut life = world.start_as(command);
            let mut tasks: Vec<Wanted> = (0..6)
                .map(|it| Wanted {
                    id: Uuid::new_v4(),
                    acknowledged: false,
                    cancel: it % 2 == 1,
                    cancelled: false,
                })
                .collect();
            tasks.iter_mut().for_each(|it| it.submit(&life));
            assert!(life.died(), "{at} was never reached");
            drop(life);
            let life = world.start();
            tasks.iter().for_each(|it| it.check(&life, &at));
        }
    }
}
