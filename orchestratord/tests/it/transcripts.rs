//! Transcripts: what a task leaves when it has ended, where that was asked for.

use journal::Journal;
use serde_json::{Value, json};

use crate::artifacts::{files, path, refusal};
use crate::client::{Client, numbers};
use crate::daemon::{Life, World};
use crate::rig::{Rig, wait_until};

fn body(prompt: &str, max_tokens: u32) -> String {
    json!({"prompt": prompt, "max_tokens": max_tokens, "transcript": true}).to_string()
}

/// The transcript of a task that has ended, once it is kept.
fn transcript(client: &Client, task: &str) -> Value {
    let mut id = Value::Null;
    wait_until("the transcript is kept", || {
        id = client.json(&format!("/v1/tasks/{task}"))["transcript_id"].clone();
        !id.is_null()
    });
    client.json(&path(id.as_str().unwrap()))
}

/// What it must hold: the task as it is told, but for the transcript's id.
fn check(client: &Client, task: &str) -> Value {
    let transcript = transcript(client, task);
    let mut told = client.json(&format!("/v1/tasks/{task}"));
    told.as_object_mut().unwrap().remove("transcript_id");
    assert_eq!(transcript["content"], told);
    assert_eq!((&transcript["kind"], &transcript["task_id"]), (&json!("transcript"), &json!(task)));
    transcript["content"].clone()
}

/// Transcripts that the journal still waits for; no daemon runs.
fn due(world: &World) -> usize {
    let journal = journal::open(&world.journal(), journal::Durability::Process).unwrap();
    let mut reader = journal.reader().unwrap();
    reader.values("transcript/").unwrap().len()
}

// OC-CTRL-2071, ORCH-4030
#[test]
fn a_transcript_has_the_request_and_what_came_of_it_however_the_task_ended() {
    // Of the long answer only the end stays in memory.
    let config = "stream: {memory_bytes: 4096}";
    let world = World::new(&[1], &["--decode-us-per-token", "2000"], config);
    let life = world.start();
    let client = &life.client;
    let task = json!({"prompt": "a", "max_tokens": 300, "session_id": "s", "transcript": true});
    let completed = client.submit(&task.to_string());
    let plain = client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    let failed = client.submit(&body("[[sim:error_after=2]]", 9));
    let cancelled = client.submit(&body("[[sim:hang_after=1]]", 9));
    let expired = json!({"prompt": "e", "max_tokens": 1, "ttl_ms": 1, "transcript": true});
    let expired = client.submit(&expired.to_string());
    client.stream(&completed);
    let content = check(client, &completed);
    assert_eq!((&content["state"], &content["text"]), (&json!("completed"), &json!(numbers(300))));
    let record = &content["record"];
    assert_eq!((&record["prompt"], &record["max_tokens"]), (&json!("a"), &json!(300)));
    assert_eq!((&record["seed"], &record["transcript"]), (&content["seed"], &json!(true)));
    let tags = &transcript(client, &completed)["tags"];
    assert_eq!(*tags, json!([format!("task:{completed}"), "session:s"]));
    client.stream(&failed);
    client.read(&cancelled).until("token");
    assert_eq!(client.cancel(&cancelled), 204);
    for (task, state) in [(&failed, "failed"), (&cancelled, "cancelled"), (&expired, "expired")] {
        assert_eq!(check(client, task)["state"], state);
    }
    assert_eq!(check(client, &cancelled)["text"], numbers(1));
    let plain = client.json(&format!("/v1/tasks/{plain}"));
    assert_eq!((&plain["state"], plain.get("transcript_id")), (&json!("completed"), None));
    assert_eq!(files(&world.journal()).len(), 4);
    // It is an artifact like others: it outlives the daemon.
    let before = transcript(client, &completed);
    assert_eq!(life.terminate(), Some(0));
    assert_eq!(due(&world), 0);
    let life = world.start();
    assert_eq!(transcript(&life.client, &completed), before);
}

// OC-CTRL-2071
#[test]
fn a_death_between_the_end_and_the_transcript_loses_neither() {
    let points = ["Admitted:1", "Relayed:1", "Closed:1", "Ended:1"].map(str::to_owned);
    // Of the admission, the end, the transcript, what is forgotten then, and the counters at least.
    let commits =
        (1..=5).flat_map(|it| [format!("BeforeCommit:{it}"), format!("AfterCommit:{it}")]);
    for at in points.into_iter().chain(commits) {
        let world = World::new(&[1], &["--decode-us-per-token", "500"], "");
        let mut command = world.command();
        command.env("LLAMA_ORCH_CRASH_AT", &at);
        let mut life = world.start_as(command);
        let id = uuid::Uuid::new_v4();
        let task = json!({"task_id": id, "prompt": "a", "max_tokens": 20, "transcript": true});
        let _answer = life.client.try_post("/v1/tasks", &task.to_string());
        assert!(life.died(), "{at} was never reached");
        drop(life);
        let life = world.start();
        assert_eq!(life.client.post("/v1/tasks", &task.to_string(), &[]).status, 202, "{at}");
        life.client.stream(&id.to_string());
        let content = check(&life.client, &id.to_string());
        assert_eq!(content["text"], numbers(20), "{at}");
        assert_eq!(files(&world.journal()).len(), 1, "{at}");
        assert_eq!(life.terminate(), Some(0), "{at}");
        assert_eq!(due(&world), 0, "{at}");
    }
}

// OC-CTRL-2071, ORCH-3024
#[test]
fn a_transcript_is_refused_where_nothing_may_be_kept_and_is_part_of_the_request() {
    let rig = Rig::with_slots(1);
    let refused = |client: &Client, body: &str| {
        let answer = client.post("/v1/tasks", body, &[]);
        let (status, body) = (answer.status, answer.json());
        (status, body["details"][0]["pointer"].as_str().unwrap_or_default().to_owned())
    };
    let pointer = (400, "/transcript".to_owned());
    assert_eq!(refused(&rig.client, &body("a", 1)), pointer);
    let world = World::new(&[1], &[], "");
    let life = world.start();
    let ephemeral = r#"{"prompt":"a","max_tokens":1,"transcript":true,"ephemeral":true}"#;
    assert_eq!(refused(&life.client, ephemeral), pointer);
    let id = uuid::Uuid::new_v4();
    let with =
        |it| json!({"task_id": id, "prompt": "a", "max_tokens": 1, "transcript": it}).to_string();
    life.client.submit(&with(true));
    assert_eq!(life.client.post("/v1/tasks", &with(true), &[]).status, 202);
    assert_eq!(life.client.post("/v1/tasks", &with(false), &[]).json()["code"], "TASK_ID_CONFLICT");
}

// OC-CTRL-2071, OC-CTRL-2069
#[test]
fn what_was_admitted_gets_its_transcript_though_the_quota_is_used_up_meanwhile() {
    let world = World::new(&[1], &[], "artifacts: {quota_bytes: 8192}");
    let life = world.start();
    let hang = life.client.submit(&body("[[sim:hang_after=1]]", 9));
    life.client.read(&hang).until("token");
    let plan = r#"{"kind":"plan","content":"x"}"#;
    assert_eq!(life.client.post("/v1/artifacts", plan, &[]).status, 201);
    let refused = life.client.post("/v1/tasks", &body("a", 1), &[]);
    assert_eq!(refusal(&refused), (429, "ADMISSION_REJECT".into(), "quota-artifacts".into()));
    assert_ne!(refused.header("retry-after"), "");
    life.client.submit(r#"{"prompt":"a","max_tokens":1}"#);
    assert_eq!(life.client.cancel(&hang), 204);
    check(&life.client, &hang);
}

// OC-CTRL-2071, OC-CTRL-2069
#[test]
fn on_a_full_disk_a_transcript_waits_for_room() {
    let world = World::new(&[1], &["--decode-us-per-token", "20000"], "");
    let life = world.start_as(world.command_that_survives_limits());
    let task = life.client.submit(&body("a", 1_000));
    life.client.read(&task).until("token");
    life.limit_files(Some(1));
    let state = |life: &Life| life.client.json(&format!("/v1/tasks/{task}"))["state"].clone();
    wait_until("it is ended", || state(&life) == "failed");
    assert_eq!(files(&world.journal()).len(), 0);
    life.limit_files(None);
    let content = check(&life.client, &task);
    assert_eq!(content["error"]["code"], "STORAGE_FULL");
    // One that was never admitted leaves nothing.
    life.limit_files(Some(1));
    assert_eq!(life.client.post("/v1/tasks", &body("b", 1), &[]).status, 503);
    life.limit_files(None);
    wait_until("there is room again", || {
        life.client.post("/v1/tasks", r#"{"prompt":"e","max_tokens":1}"#, &[]).status == 202
    });
    assert_eq!(files(&world.journal()).len(), 1);
}
