//! Artifacts: what is stored is there, for its tenant and nobody else, until it goes.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::client::Answer;
use crate::daemon::{Life, World};
use crate::rig::{Rig, Setup, wait_until};

/// With a journal in the folder.
fn rig(folder: &TempDir, config: &'static str) -> Rig {
    let journal = format!("{{data_dir: '{}'}}", folder.path().join("journal").display());
    Rig::start(Setup { config, journal, slots: vec![1], ..Setup::default() })
}

fn world(config: &str) -> World {
    World::new(&[1], &[], config)
}

fn body(kind: &str, content: &Value) -> String {
    json!({"kind": kind, "content": content}).to_string()
}

fn id_of(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    let hex: String = digest.iter().map(|it| format!("{it:02x}")).collect();
    format!("sha256:{hex}")
}

pub(crate) fn path(id: &str) -> String {
    format!("/v1/artifacts/{id}")
}

pub(crate) fn refusal(answer: &Answer) -> (u16, String, String) {
    let body = answer.json();
    let word = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    (answer.status, word("code"), word("policy_label"))
}

/// Stores a text, which must be new.
fn store(life: &Life, text: &str) -> String {
    let answer = life.client.post("/v1/artifacts", &body("plan", &json!(text)), &[]);
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["artifact_id"].as_str().unwrap().to_owned()
}

fn text(life: &Life, id: &str) -> Value {
    life.client.json(&path(id))["content"].clone()
}

/// Files of artifacts.
pub(crate) fn files(journal: &Path) -> Vec<PathBuf> {
    let mut folders = vec![journal.join("artifacts")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

// OC-CTRL-2065, OC-CTRL-2066, ORCH-3097, ORCH-3098
#[test]
fn a_document_is_stored_once_and_read_as_it_was_sent() {
    let folder = TempDir::new().unwrap();
    let rig = rig(&folder, "");
    let plan = rig.client.post("/v1/artifacts", &body("plan", &json!("1. Read.\n2. ä ☃")), &[]);
    let id = id_of("1. Read.\n2. ä ☃".as_bytes());
    assert_eq!((plan.status, &plan.json()["artifact_id"]), (201, &json!(id)));
    assert_eq!(
        (plan.header("location"), plan.header("etag")),
        (&*path(&id), &*format!("\"{id}\""))
    );
    // Numbers that no float holds, and the order of its keys, are the sender's.
    let trace = r#"{"b": 1.10, "a":[123456789012345678901234567890, null] }"#;
    let sent = json!({"kind": "trace", "tags": ["run:1", "ä"], "parents": [id]}).to_string();
    let sent = sent.replacen('{', &format!("{{\"content\": {trace}, "), 1);
    let stored = rig.client.post("/v1/artifacts", &sent, &[]).json();
    assert_eq!(stored["artifact_id"], id_of(trace.as_bytes()));
    assert_eq!(stored["bytes"], trace.len());
    assert_eq!(stored.get("content"), None);
    let read = rig.client.get(&path(stored["artifact_id"].as_str().unwrap()), &[]);
    assert!(read.body.contains(trace), "{}", read.body);
    assert_eq!(
        (&read.json()["kind"], &read.json()["media_type"]),
        (&json!("trace"), &json!("application/json"))
    );
    assert_eq!(
        (&read.json()["tags"], &read.json()["parents"]),
        (&json!(["run:1", "ä"]), &json!([id]))
    );
    let read = rig.client.json(&path(&id));
    assert_eq!(
        (&read["content"], &read["media_type"]),
        (&json!("1. Read.\n2. ä ☃"), &json!("text/plain"))
    );
    // `null` is a value, too.
    let null = rig.client.post("/v1/artifacts", &body("plan", &Value::Null), &[]).json();
    let null = rig.client.json(&path(null["artifact_id"].as_str().unwrap()));
    assert_eq!((null.get("content"), &null["bytes"]), (Some(&Value::Null), &json!(4)));
    // The first one's kind and tags stay, whatever comes later.
    let again = json!({"kind": "diff", "content": "1. Read.\n2. ä ☃", "tags": ["late"]});
    let again = rig.client.post("/v1/artifacts", &again.to_string(), &[]);
    assert_eq!((again.status, again.json()), (200, plan.json()));
    assert_eq!(rig.client.json(&path(&id)), read);
    assert_eq!(files(&folder.path().join("journal")).len(), 3);
    for unknown in [&id_of(b"x"), &id.to_uppercase(), "plan", "sha256:", &id[..70]] {
        assert_eq!(rig.client.get(&path(unknown), &[]).status, 404, "{unknown}");
    }
}

// OC-CTRL-2065
#[test]
fn what_is_wrong_with_a_document_is_told_by_its_pointer() {
    let folder = TempDir::new().unwrap();
    let rig = rig(&folder, "");
    let id = id_of(b"never stored");
    let many = |it: &Value| Value::from(vec![it.clone(); 17]);
    for (wrong, pointers) in [
        (json!({"kind": "plan", "content": 1, "parents": [id]}), vec!["/parents/0"]),
        (
            json!({"kind": "plan", "content": 1, "parents": ["x", "x"]}),
            vec!["/parents/0", "/parents/1", "/parents/1"],
        ),
        (json!({"kind": "plan", "content": 1, "parents": [id, id]}), vec!["/parents/1"]),
        (
            json!({"kind": "plan", "content": 1, "tags": ["a", "", "x".repeat(257)]}),
            vec!["/tags/1", "/tags/2"],
        ),
        (json!({"kind": "plan", "content": 1, "tags": many(&json!("t"))}), vec!["/tags"]),
        (json!({"kind": "poem", "content": 1}), vec!["/kind"]),
        (json!({"kind": "plan"}), vec![""]),
        (json!({"kind": "plan", "content": 1, "tag": []}), vec!["/tag"]),
    ] {
        let answer = rig.client.post("/v1/artifacts", &wrong.to_string(), &[]);
        let answer = (answer.status, answer.json());
        let details = answer.1["details"].as_array().unwrap().iter();
        let told: Vec<&str> = details.map(|it| it["pointer"].as_str().unwrap()).collect();
        assert_eq!((answer.0, told), (400, pointers), "{wrong}: {}", answer.1);
    }
    let half = r#"{"kind":"plan","content":"\ud800"}"#;
    let answer = rig.client.post("/v1/artifacts", half, &[]);
    assert_eq!((answer.status, &answer.json()["details"][0]["pointer"]), (400, &json!("/content")));
    assert_eq!(files(&folder.path().join("journal")).len(), 0);
}

// OC-CTRL-2066
#[test]
fn who_has_a_document_is_told_so() {
    let folder = TempDir::new().unwrap();
    let rig = rig(&folder, "");
    let id =
        rig.client.post("/v1/artifacts", &body("plan", &json!("a")), &[]).json()["artifact_id"]
            .clone();
    let id = id.as_str().unwrap();
    let ask = |tags: &str| rig.client.get(&path(id), &[("if-none-match", tags)]);
    let other = id_of(b"b");
    for known in [
        &format!("\"{id}\""),
        &format!("W/\"{id}\""),
        "*",
        &format!("\"{other}\", W/\"x,y\" ,\"{id}\""),
    ] {
        let answer = ask(known);
        assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{known}");
        assert_eq!(answer.header("etag"), format!("\"{id}\""));
    }
    for unknown in ["", id, &format!("\"{other}\""), &format!("w/\"{id}\""), "\"*\""] {
        let answer = ask(unknown);
        assert_eq!((answer.status, &answer.json()["content"]), (200, &json!("a")), "{unknown}");
    }
    let answer = rig.client.get(&path(&other), &[("if-none-match", "*")]);
    assert_eq!(answer.status, 404);
}

// OC-CTRL-2065, ORCH-3098
#[test]
fn of_many_who_store_the_same_one_is_the_first() {
    let folder = TempDir::new().unwrap();
    let rig = rig(&folder, "");
    let content = json!("x".repeat(100_000));
    let body = body("diff", &content);
    let statuses = std::thread::scope(|scope| {
        let post = || rig.client.post("/v1/artifacts", &body, &[]).status;
        let all: Vec<_> = (0..16).map(|_| scope.spawn(post)).collect();
        let mut statuses: Vec<u16> = all.into_iter().map(|it| it.join().unwrap()).collect();
        statuses.sort_unstable();
        statuses
    });
    assert_eq!((statuses[15], &statuses[..15]), (201, &[200; 15][..]));
    assert_eq!(files(&folder.path().join("journal")).len(), 1);
}

// OC-CTRL-2065, OC-CTRL-2066, ORCH-3097
#[test]
fn a_tenant_sees_its_own_documents_only_and_the_same_content_is_another_s_own() {
    let folder = TempDir::new().unwrap();
    let digest = |key: &str| id_of(key.as_bytes())[7..].to_owned();
    let config = format!(
        "artifacts: {{quota_bytes: 20000}}\ntenants: [{{name: a}}, {{name: b}}]\n\
         keys: [{{name: ka, tenant: a, sha256: {}}}, {{name: kb, tenant: b, sha256: {}}}]\n",
        digest("key-a"),
        digest("key-b")
    );
    let rig = rig(&folder, config.leak());
    let post = |key: &str, body: &Value| {
        rig.client.post("/v1/artifacts", &body.to_string(), &[("x-api-key", key)])
    };
    let get = |key: &str, id: &str| rig.client.get(&path(id), &[("x-api-key", key)]);
    let plan = json!({"kind": "plan", "content": "shared", "tags": ["a's"]});
    let id = id_of(b"shared");
    assert_eq!(post("key-a", &plan).status, 201);
    let never = id_of(b"never");
    let told = |answer: Answer, id: &str| {
        (answer.status, answer.json()["message"].as_str().unwrap().replace(id, "ID"))
    };
    assert_eq!(told(get("key-b", &id), &id), told(get("key-b", &never), &never));
    let child = |parent: &str| json!({"kind": "diff", "content": "b's", "parents": [parent]});
    assert_eq!(told(post("key-b", &child(&id)), &id), told(post("key-b", &child(&never)), &never));
    // It is new to whoever did not have it, with its own tags and its own place in a quota.
    let own = json!({"kind": "diff", "content": "shared"});
    assert_eq!((post("key-b", &own).status, post("key-b", &own).status), (201, 200));
    assert_eq!(get("key-b", &id).json()["tags"], json!([]));
    assert_eq!(get("key-a", &id).json()["tags"], json!(["a's"]));
    assert_eq!(post("key-a", &json!({"kind": "plan", "content": "2"})).status, 201);
    assert_eq!(post("key-a", &json!({"kind": "plan", "content": "3"})).status, 429);
    assert_eq!(post("key-b", &json!({"kind": "plan", "content": "3"})).status, 201);
}

// OC-CTRL-2069, ORCH-2007, ORCH-3036, ORCH-3042
#[test]
fn beyond_its_quota_a_tenant_is_refused_and_told_when_to_come_back() {
    let folder = TempDir::new().unwrap();
    let rig = rig(&folder, "artifacts: {quota_bytes: 24576, ttl_ms: 3600000}");
    let post = |content: &Value| rig.client.post("/v1/artifacts", &body("plan", content), &[]);
    // Two blocks each, of which there are six.
    for content in 1..=3 {
        assert_eq!(post(&json!(content)).status, 201);
    }
    let refused = post(&json!(4));
    assert_eq!(refusal(&refused), (429, "ADMISSION_REJECT".into(), "quota-artifacts".into()));
    let ms = refused.json()["retry_after_ms"].as_u64().unwrap();
    assert!((1..=3_600_000).contains(&ms), "{ms}");
    assert_eq!(refused.header("x-backoff-ms"), ms.to_string());
    assert_eq!(rig.client.get(&path(&id_of(b"4")), &[]).status, 404);
    assert_eq!(files(&folder.path().join("journal")).len(), 3);
    // What is there takes nothing.
    assert_eq!(post(&json!(1)).status, 200);
    let alone = post(&json!("x".repeat(30_000)));
    // No waiting helps.
    assert_eq!(refusal(&alone), (413, "PAYLOAD_TOO_LARGE".into(), String::new()));
    assert_eq!(alone.json()["retriable"], false);
    assert!(alone.json()["message"].as_str().unwrap().contains("alone exceeds"), "{alone:?}");
}

// OC-CTRL-2069
#[test]
fn where_nothing_is_kept_on_a_disk_there_are_no_artifacts() {
    let rig = Rig::with_slots(1);
    let refused = rig.client.post("/v1/artifacts", &body("plan", &json!("a")), &[]);
    assert_eq!(refusal(&refused), (503, "STORAGE_FULL".into(), String::new()));
    assert!(refused.json()["message"].as_str().unwrap().contains("journal.durability"));
    assert_eq!(rig.client.get(&path(&id_of(b"a")), &[]).status, 404);
}

// ORCH-3097, ORCH-3098, OC-CTRL-2065
#[test]
fn what_was_acknowledged_is_there_after_kill_9_and_what_was_not_finished_is_not() {
    for durability in ["process", "disk"] {
        let world = world("").durable(durability);
        let life = world.start();
        let ids: Vec<String> = (0..5).map(|it| store(&life, &format!("plan {it}"))).collect();
        let child = json!({"kind": "diff", "content": [1], "tags": ["t"], "parents": [ids[0]]});
        let child = life.client.post("/v1/artifacts", &child.to_string(), &[]).json();
        life.kill();
        // What a write that was cut off and one that the journal never heard of leave.
        let kept = files(&world.journal());
        std::fs::write(kept[0].with_file_name("unfinished-abc"), "half").unwrap();
        std::fs::write(kept[0].with_file_name(&id_of(b"orphan")[7..]), "orphan").unwrap();
        let life = world.start();
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(text(&life, id), format!("plan {number}"));
        }
        let read = life.client.json(&path(child["artifact_id"].as_str().unwrap()));
        assert_eq!(
            (&read["content"], &read["created_at_ms"]),
            (&json!([1]), &child["created_at_ms"])
        );
        assert_eq!((&read["tags"], &read["parents"]), (&json!(["t"]), &json!([ids[0]])));
        assert_eq!(files(&world.journal()).len(), 6);
        let again = life.client.post("/v1/artifacts", &body("plan", &json!("plan 0")), &[]);
        assert_eq!(again.status, 200);
        assert_eq!(life.client.get(&path(&id_of(b"orphan")), &[]).status, 404);
    }
}

// OC-CTRL-2066, ORCH-3098
#[test]
fn a_damaged_file_is_an_error_that_names_it_until_it_is_stored_again() {
    let world = world("");
    let life = world.start();
    let id = store(&life, "a long plan");
    let file = files(&world.journal()).remove(0);
    let check = |life: &Life| {
        let answer = life.client.get(&path(&id), &[]);
        assert_eq!(refusal(&answer), (500, "INTERNAL".into(), String::new()));
        assert!(answer.json()["message"].as_str().unwrap().contains(&id));
    };
    std::fs::write(&file, "a long plam").unwrap();
    check(&life);
    std::fs::remove_file(&file).unwrap();
    check(&life);
    life.kill();
    let life = world.start();
    check(&life);
    let again = life.client.post("/v1/artifacts", &body("plan", &json!("a long plan")), &[]);
    assert_eq!((again.status, text(&life, &id)), (200, json!("a long plan")));
}

// OC-CTRL-2069, OC-ARTIFACT-8003
#[test]
fn on_a_full_disk_nothing_is_stored_and_nothing_left_behind() {
    let world = world("");
    let life = world.start_as(world.command_that_survives_limits());
    let id = store(&life, "before");
    let full = (503, "STORAGE_FULL".to_owned(), String::new());
    // A small file still fits, and the journal has no room; then not even that.
    for (limit, content) in [(1_000, "small"), (1, "large enough")] {
        life.limit_files(Some(limit));
        let refused = life.client.post("/v1/artifacts", &body("plan", &json!(content)), &[]);
        assert_eq!(refusal(&refused), full, "{refused:?}");
        assert_ne!(refused.header("retry-after"), "");
        assert_eq!(life.client.get(&path(&id_of(content.as_bytes())), &[]).status, 404);
        assert_eq!(files(&world.journal()).len(), 1);
        assert_eq!(text(&life, &id), "before");
        life.limit_files(None);
        wait_until("there is room again", || {
            life.client.post("/v1/artifacts", &body("plan", &json!("before")), &[]).status == 200
        });
    }
    life.kill();
    let life = world.start();
    assert_eq!(life.client.get(&path(&id_of(b"small")), &[]).status, 404);
    assert_eq!(text(&life, &id), "before");
    store(&life, "small");
}

/// Stores a parent, its child and one that stands alone, and the child again until the one alone has
/// gone. False if the machine stood still for longer than their time to live.
fn outlives(life: &Life, round: u32) -> bool {
    let parent = store(life, &format!("parent {round}"));
    let alone = store(life, &format!("alone {round}"));
    let content = format!("child {round}");
    let child = json!({"kind": "diff", "content": content, "parents": [parent]}).to_string();
    let there = |id: &str| {
        let status = life.client.get(&path(id), &[]).status;
        assert!([200, 404].contains(&status), "{status}");
        status == 200
    };
    loop {
        let status = life.client.post("/v1/artifacts", &child, &[]).status;
        if status == 400 || !there(&parent) {
            assert!(!there(&id_of(content.as_bytes())), "it outlived its parent");
            return false;
        }
        if !there(&alone) {
            return there(&parent);
        }
    }
}

// ORCH-3097, ORCH-3042, OC-CTRL-2069
#[test]
fn an_artifact_goes_after_its_time_but_not_before_what_was_made_from_it() {
    let world = world("artifacts: {ttl_ms: 1500, quota_bytes: 73728}");
    let life = world.start();
    assert!((0..3).any(|round| outlives(&life, round)), "nothing is kept by being stored again");
    wait_until("all have gone, and their files", || files(&world.journal()).is_empty());
    // Their room is there for others, and no later life remembers them.
    for content in 1..=9 {
        store(&life, &content.to_string());
    }
    life.kill();
    let life = world.start();
    assert_eq!(life.client.get(&path(&id_of(b"child 0")), &[]).status, 404);
}
