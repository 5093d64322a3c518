//! Each kind of finding, on a small document.

use serde_json::json;

use super::Contract;
use crate::Exchange;

fn contract() -> Contract {
    let item = json!({"$ref": "#/components/schemas/Item"});
    let failed = json!({
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
        "x-error-codes": ["NOT_FOUND"],
    });
    Contract::new(json!({
        "paths": {
            "/items/{id}": {"get": {"responses": {
                "200": {
                    "headers": {"X-Rank": {"required": true, "schema": {"type": "integer"}}},
                    "content": {"application/json": {"schema": item}},
                },
                "204": {},
                "404": {"$ref": "#/components/responses/NotFound"},
            }}},
            "/items/all": {"get": {"responses": {"204": {}}}},
            "/stream": {"get": {"responses": {"200": {"content": {"text/event-stream": {
                "schema": {"type": "string"},
                "x-sse-events": {"item": item},
            }}}}}},
        },
        "components": {
            "responses": {"NotFound": failed},
            "schemas": {
                "Item": {
                    "type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}},
                },
                "ErrorBody": {
                    "type": "object", "required": ["code"], "properties": {"code": {"type": "string"}},
                },
            },
        },
    }))
}

fn check(target: &str, status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let headers = headers.to_vec();
    let exchange = Exchange {
        method: "GET",
        target,
        status,
        headers,
        body: Some(body),
        ..Exchange::default()
    };
    contract().check(&exchange).join("\n")
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const RANK: (&str, &str) = ("x-rank", "3");

#[test]
fn what_is_documented_has_no_findings() {
    assert_eq!(check("/items/7?a=b", 200, &[JSON, RANK], r#"{"a":1}"#), "");
    assert_eq!(check("/items/7", 404, &[JSON], r#"{"code":"NOT_FOUND"}"#), "");
    assert_eq!(check("/items/7", 204, &[], ""), "");
    assert_eq!(check("/items/all", 204, &[], ""), "");
    let stream = ("content-type", "text/event-stream");
    assert_eq!(check("/stream", 200, &[stream], "event: item\ndata: {\"a\":1}\n\n"), "");
    let unmatched = [JSON, ("X-Correlation-Id", "a")];
    assert_eq!(check("/nothing", 404, &unmatched, r#"{"code":"NOT_FOUND"}"#), "");
}

#[test]
fn what_is_not_documented_is_found() {
    let cases = [
        ("/items/7", 500, vec![JSON], "{}", "status is not documented"),
        ("/items/7", 200, vec![("content-type", "text/html"), RANK], "", "`text/html` is not"),
        ("/items/7", 200, vec![RANK], "{}", "None is not as documented"),
        ("/items/7", 200, vec![JSON], r#"{"a":1}"#, "no header X-Rank"),
        ("/items/7", 200, vec![JSON, ("x-rank", "x")], r#"{"a":1}"#, "header X-Rank: at"),
        ("/items/7", 200, vec![JSON, RANK], r#"{"a":"1"}"#, "at `/a`"),
        ("/items/7", 200, vec![JSON, RANK], "{}", "required"),
        ("/items/7", 200, vec![JSON, RANK], r#"{"a":1,"b":1}"#, "b"),
        ("/items/7", 204, vec![], "text", "a body, where none is documented"),
        ("/items/7", 404, vec![JSON], r#"{"code":"GONE"}"#, "GONE"),
        ("/items/all", 200, vec![JSON], "{}", "status is not documented"),
        ("/nothing", 200, vec![JSON], "{}", "no operation is documented here"),
        ("/nothing", 404, vec![("content-type", "text/plain")], "", "application/json"),
        ("/nothing", 404, vec![JSON], r#"{"code":"A"}"#, "no X-Correlation-Id"),
        ("/nothing", 405, vec![JSON], r#"{"code":"A"}"#, "no Allow"),
    ];
    for (target, status, headers, body, problem) in cases {
        let found = check(target, status, &headers, body);
        assert!(found.contains(problem), "{target} {status} {body}: {found:?} lacks {problem}");
    }
    let stream = [("content-type", "text/event-stream")];
    for (body, problem) in [
        ("event: other\ndata: {}\n\n", "`other` is not documented"),
        ("event: item\ndata: {\"a\":\"\"}\n\n", "event `item` at `/a`"),
        ("event: item\ndata: {\"a\":1}\n", "breaks off"),
    ] {
        let found = check("/stream", 200, &stream, body);
        assert!(found.contains(problem), "{body:?}: {found}");
    }
}
