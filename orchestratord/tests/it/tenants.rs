//! Who sees what, and what each may use.

use crate::client::Answer;
use crate::rig::{Rig, Setup, wait_until};

/// One engine with one slot, and tenants `a` and `b` whose keys are `key-a` and `key-b`.
fn rig(limits_of_b: &str) -> Rig {
    let digest = |key: &str| {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(key);
        digest.iter().map(|it| format!("{it:02x}")).collect::<String>()
    };
    let (first, second) = (digest("key-a"), digest("key-b"));
    let config = format!(
        "tenants: [{{name: a, weight: 2}}, {{name: b, {limits_of_b}}}]\n\
         keys: [{{name: ka, tenant: a, sha256: {first}}}, {{name: kb, tenant: b, sha256: {second}}}]\n"
    );
    let rig = Rig::start(Setup { config: config.leak(), slots: vec![1], ..Setup::default() });
    wait_until("the fleet is known", || get(&rig, "a", "/v1/pools").json()["pools"][0].is_object());
    rig
}

fn get(rig: &Rig, tenant: &str, path: &str) -> Answer {
    rig.client.get(path, &[("x-api-key", &format!("key-{tenant}"))])
}

fn post(rig: &Rig, tenant: &str, path: &str, body: &str) -> Answer {
    rig.client.post(path, body, &[("x-api-key", &format!("key-{tenant}"))])
}

fn submit(rig: &Rig, tenant: &str, body: &str) -> String {
    let answer = post(rig, tenant, "/v1/tasks", body);
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["task_id"].as_str().unwrap().to_owned()
}

const ID: &str = "6f2c1f0e-8a41-4c3e-9d5b-0b6a5d1c7e42";

// ORCH-3076, ORCH-3024
#[test]
fn a_tenant_sees_its_own_tasks_only() {
    let rig = rig("queued: 9");
    let body = format!(r#"{{"task_id":"{ID}","prompt":"[[sim:hang_after=1]]","max_tokens":9}}"#);
    assert_eq!(submit(&rig, "a", &body), ID);
    let unknown = "00000000-0000-4000-8000-000000000000";
    for path in ["", "/stream", "/explain"] {
        let foreign = get(&rig, "b", &format!("/v1/tasks/{ID}{path}"));
        let never = get(&rig, "b", &format!("/v1/tasks/{unknown}{path}"));
        let told = |it: &Answer, id: &str| {
            let message = it.json()["message"].as_str().unwrap().replace(id, "ID");
            (it.status, message)
        };
        assert_eq!(told(&foreign, ID), told(&never, unknown), "{path}");
        assert_eq!(foreign.status, 404);
    }
    assert_eq!(post(&rig, "b", &format!("/v1/tasks/{ID}/cancel"), "{}").status, 404);
    assert_eq!(get(&rig, "a", &format!("/v1/tasks/{ID}")).json()["state"], "running");
    // The same id is another task here: neither a repetition nor a conflict.
    let own = format!(r#"{{"task_id":"{ID}","prompt":"other","max_tokens":1}}"#);
    assert_eq!(submit(&rig, "b", &own), ID);
    assert_eq!(get(&rig, "b", &format!("/v1/tasks/{ID}")).json()["tenant"], "b");
    assert_eq!(get(&rig, "a", &format!("/v1/tasks/{ID}")).json()["tenant"], "a");
    let lanes = |tenant: &str| get(&rig, tenant, "/v1/queue").json();
    assert_eq!((&lanes("b")["depth"], &lanes("b")["lanes"][0]["tenant"]), (&1.into(), &"b".into()));
    assert_eq!(lanes("a")["lanes"].as_array().unwrap().len(), 1);
    assert_eq!(post(&rig, "a", &format!("/v1/tasks/{ID}/cancel"), "{}").status, 204);
    assert_ne!(get(&rig, "b", &format!("/v1/tasks/{ID}")).json()["state"], "cancelled");
}

// ORCH-3076, ORCH-2004, ORCH-2005
#[test]
fn a_session_is_its_tenant_s_and_another_s_of_that_name_is_another() {
    let rig = rig("queued: 9");
    let status = |tenant: &str| get(&rig, tenant, "/v1/sessions/s").status;
    let body = r#"{"prompt":"a","max_tokens":1,"session_id":"s"}"#;
    submit(&rig, "a", body);
    assert_eq!((status("a"), status("b")), (200, 404));
    let key = [("x-api-key", "key-b")];
    assert_eq!(rig.client.delete("/v1/sessions/s", &key).status, 404);
    submit(&rig, "b", body);
    assert_eq!(get(&rig, "b", "/v1/sessions/s").json()["turns"], 1);
    assert_eq!(rig.client.delete("/v1/sessions/s", &key).status, 204);
    assert_eq!((status("a"), status("b")), (200, 404));
}

// ORCH-3076, ORCH-2006
#[test]
fn lists_have_pages_of_the_caller_s_tasks() {
    let rig = rig("queued: 9");
    let ids: Vec<String> = (0..5)
        .map(|index| {
            let class = if index % 2 == 0 { "batch" } else { "interactive" };
            let session = format!(r#""session_id":"s{}""#, index % 2);
            let body = format!(r#"{{"prompt":"a","max_tokens":1,"priority":"{class}",{session}}}"#);
            submit(&rig, "a", &body)
        })
        .collect();
    submit(&rig, "b", r#"{"prompt":"a","max_tokens":1}"#);
    let page = |query: &str| {
        let page = get(&rig, "a", &format!("/v1/tasks{query}")).json();
        let tasks = page["tasks"].as_array().unwrap().iter();
        let ids: Vec<String> = tasks.map(|it| it["task_id"].as_str().unwrap().into()).collect();
        (ids, page["next_cursor"].as_str().map(str::to_owned))
    };
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(page(""), (newest_first.clone(), None));
    let (first, cursor) = page("?limit=2");
    // What comes meanwhile moves no page.
    submit(&rig, "a", r#"{"prompt":"a","max_tokens":1}"#);
    let (second, cursor) = page(&format!("?limit=2&cursor={}", cursor.unwrap()));
    let (third, end) = page(&format!("?limit=2&cursor={}", cursor.unwrap()));
    assert_eq!([first, second, third].concat(), newest_first);
    assert_eq!(end, None);
    assert_eq!(page("?session=s1").0.len(), 2);
    assert_eq!(page("?priority=batch").0.len(), 3);
    assert_eq!(page("?model=other").0.len(), 0);
    wait_until("all have ended", || page("?state=completed").0.len() == 6);
    for (wrong, key, found, expected) in [
        ("limit=0", "limit", "0", "1 to 100"),
        ("limit=101", "limit", "101", "1 to 100"),
        ("limit=ten", "limit", "ten", "1 to 100"),
        ("cursor=zebra", "cursor", "zebra", "the `next_cursor` of a page"),
        ("priority=no", "priority", "unknown variant `no`", "`interactive` or `batch`"),
        ("state=a:%20b", "state", "unknown variant `a: b`", "one of `queued`"),
        ("limit=1&sort=up", "sort", "unknown field `sort`", "one of `state`"),
        ("state=queued&state=running", "state", "duplicate field `state`", "each key once"),
    ] {
        let answer = get(&rig, "a", &format!("/v1/tasks?{wrong}"));
        let detail = answer.json()["details"][0].clone();
        assert_eq!((answer.status, &detail["pointer"]), (400, &key.into()), "{answer:?}");
        assert_eq!(detail["found"], found);
        assert!(detail["expected"].as_str().unwrap().starts_with(expected), "{detail}");
    }
}

// ORCH-3036, ORCH-3076, ORCH-2007, OC-CTRL-2011, OC-CTRL-2068, ORCH-3093
#[test]
fn limits_refuse_with_their_name_and_tell_what_is_left() {
    let rig = rig("concurrent: 2, tokens_per_min: 60");
    let first = post(&rig, "b", "/v1/tasks", r#"{"prompt":"a","max_tokens":20}"#);
    let left: u64 = first.header("x-budget-tokens-remaining").parse().unwrap();
    assert!((30..=39).contains(&left), "{left}");
    let over = post(&rig, "b", "/v1/tasks", r#"{"prompt":"a","max_tokens":50}"#);
    assert_eq!((over.status, &over.json()["policy_label"]), (429, &"quota-tokens".into()));
    assert!(!over.header("retry-after").is_empty());
    let hang = r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":1}"#;
    let running = submit(&rig, "a", hang);
    wait_until("the first has ended", || {
        get(&rig, "b", "/v1/tasks?state=completed").json()["tasks"][0].is_object()
    });
    submit(&rig, "b", r#"{"prompt":"a","max_tokens":1}"#);
    submit(&rig, "b", r#"{"prompt":"a","max_tokens":1}"#);
    let third = post(&rig, "b", "/v1/tasks", r#"{"prompt":"a","max_tokens":1}"#);
    assert_eq!((third.status, &third.json()["policy_label"]), (429, &"quota-concurrent".into()));
    assert_eq!(post(&rig, "a", &format!("/v1/tasks/{running}/cancel"), "{}").status, 204);
}

// ORCH-3075, OC-CORE-1040, ORCH-3077
#[test]
fn a_flood_of_one_tenant_delays_another_by_one_turn() {
    let rig = rig("queued: 9");
    let slow = r#"{"prompt":"[[sim:decode_us=20000]]","max_tokens":5}"#;
    let flood: Vec<String> = (0..6).map(|_| submit(&rig, "a", slow)).collect();
    let light = submit(&rig, "b", slow);
    let started = |tenant: &str, task: &str| {
        get(&rig, tenant, &format!("/v1/tasks/{task}")).json()["timings"]["queue_time_ms"].as_u64()
    };
    wait_until("all have ended", || {
        let done = get(&rig, "a", "/v1/tasks?state=completed").json();
        done["tasks"].as_array().unwrap().len() == 6
    });
    // Submitted after all of them, it waited less than four of them at least.
    let waited = started("b", &light).unwrap();
    let longer = flood.iter().filter(|it| waited < started("a", it).unwrap()).count();
    assert!(4 <= longer, "it waited {waited} ms; {longer} waited longer");
    let scrape = get(&rig, "a", "/metrics").body;
    let share = |tenant: &str| -> f64 {
        let series = format!("admission_share{{priority=\"interactive\",tenant=\"{tenant}\"}} ");
        let line = scrape.lines().find_map(|it| it.strip_prefix(&series));
        line.unwrap().parse().unwrap()
    };
    assert!(share("b") < share("a") && (share("a") + share("b") - 1.0).abs() < 1e-9);
}

// ORCH-3006, ORCH-3076
#[test]
fn requests_beyond_the_burst_are_refused_and_held_tasks_wait() {
    let rig = rig("requests_per_s: 1, burst: 2, concurrent: 1, on_exceed: hold");
    let hang = r#"{"prompt":"[[sim:hang_after=1]]","max_tokens":9}"#;
    let running = submit(&rig, "b", hang);
    let held = submit(&rig, "b", r#"{"prompt":"a","max_tokens":1}"#);
    let refused = post(&rig, "b", "/v1/tasks", r#"{"prompt":"a","max_tokens":1}"#);
    assert_eq!((refused.status, &refused.json()["policy_label"]), (429, &"rate".into()));
    let why = get(&rig, "b", &format!("/v1/tasks/{held}/explain")).json();
    assert_eq!(why["waiting"]["reason"], "held_by_quota");
    assert_eq!(post(&rig, "b", &format!("/v1/tasks/{running}/cancel"), "{}").status, 204);
    wait_until("the held task ran", || {
        get(&rig, "b", &format!("/v1/tasks/{held}")).json()["state"] == "completed"
    });
}
