//! Requests in, JSON Pointers out.

use uuid::Uuid;

use super::{parse, seed_of, validate};

fn pointers(body: &str) -> Vec<String> {
    let refusal = match parse(body.as_bytes()) {
        Err(refusal) => refusal,
        Ok(request) => validate(request, false).err().expect("the request is wrong"),
    };
    refusal.details.into_iter().map(|it| it.pointer).collect()
}

// ORCH-2006
#[test]
fn what_is_wrong_is_told_where_it_is() {
    assert_eq!(pointers(r#"{"prompt":"a","max_tokens":"many"}"#), ["/max_tokens"]);
    assert_eq!(pointers(r#"{"prompt":"a","max_token":3}"#), ["/max_token"]);
    assert_eq!(pointers(r#"{"prompt":"a","priority":"urgent"}"#), ["/priority"]);
    assert_eq!(pointers(r#"{"prompt":7}"#), ["/prompt"]);
    assert_eq!(pointers(r#"{"prompt":"a""#), [""]);
    assert_eq!(pointers("[]"), [""]);
}

#[test]
fn every_problem_is_told_at_once() {
    let body = r#"{
        "prompt": "a", "messages": [], "max_tokens": 0, "seed": 4294967295,
        "stop": ["", "x"], "sampling": {"temperature": -1, "top_p": 0}
    }"#;
    let expected =
        ["", "/max_tokens", "/seed", "/sampling/temperature", "/sampling/top_p", "/stop/0"];
    assert_eq!(pointers(body), expected);
}

#[test]
fn a_field_of_later_work_is_refused_by_name() {
    for field in [r#""ctx":5"#, r#""tools":[]"#, r#""logprobs":true"#, r#""n":2"#] {
        let found = pointers(&format!("{{\"prompt\":\"a\",{field}}}"));
        let name = field.split('"').nth(1).expect("a quoted name");
        assert!(found[0].starts_with(&format!("/{name}")), "{field}: {found:?}");
    }
}

#[test]
fn a_seed_is_derived_from_the_id_and_differs_between_ids() {
    let id: Uuid = "00000000-0000-4000-8000-000000000001".parse().expect("a UUID");
    // `printf 00000000-0000-4000-8000-000000000001 | sha256sum`, first 16 digits, mod 2^32 - 1.
    assert_eq!(seed_of(id), SEED_OF_ONE);
    let other: Uuid = "00000000-0000-4000-8000-000000000002".parse().expect("a UUID");
    assert_ne!(seed_of(id), seed_of(other));
}

const SEED_OF_ONE: u32 = 2474320132;
