//! What completing a document adds and takes away.

use serde_json::{Value, json};

use super::{Common, Facts, Header, complete};

const COMMON: Common = Common {
    advised: &[],
    error_schema: "Failure",
    error_example: |status, code| json!({"code": code, "status": status}),
    refusals: &[(403, "FORBIDDEN")],
    requests: &["Asked"],
};

fn facts() -> Facts {
    Facts {
        refusals: vec![(503, "POOL_UNAVAILABLE"), (503, "SHUTTING_DOWN")],
        answers: vec![(200, "text/event-stream", "data: 1\n\n".into())],
        headers: vec![Header {
            status: 200,
            name: "X-Task-Id",
            description: "The task.",
            schema: json!({"type": "string"}),
            always: true,
        }],
        events: vec![("message", "Told")],
        event_codes: vec!["GONE"],
        ..Facts::default()
    }
}

fn completed() -> Value {
    let fields = || {
        json!({"type": "object", "required": ["must"], "properties": {
            "must": {"type": ["string", "null"]},
            "may": {"type": ["integer", "null"], "format": "u-int64", "default": null},
            "part": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Asked"}]},
        }})
    };
    let document = json!({
        "paths": {"/a": {"get": {"operationId": "ask", "responses": {
            "200": {"description": "", "content": {"text/event-stream": {}}},
        }}}},
        "components": {"schemas": {"Asked": fields(), "Told": fields()}},
    });
    complete(document, &COMMON, |id| (id == "ask").then(facts))
}

#[test]
fn refusals_share_one_answer_for_each_set_of_codes() {
    let document = completed();
    let answers = &document["paths"]["/a"]["get"]["responses"];
    let name = "#/components/responses/PoolUnavailableOrShuttingDown";
    assert_eq!(answers["503"]["$ref"], name);
    assert_eq!(answers["403"]["$ref"], "#/components/responses/Forbidden");
    let refusal = document.pointer(&name[1..]).unwrap();
    assert_eq!(refusal["x-error-codes"], json!(["POOL_UNAVAILABLE", "SHUTTING_DOWN"]));
    let body = &refusal["content"]["application/json"];
    assert_eq!(body["schema"]["$ref"], "#/components/schemas/Failure");
    assert_eq!(body["example"], json!({"code": "POOL_UNAVAILABLE", "status": 503}));
    for header in ["X-Correlation-Id", "Retry-After", "X-Backoff-Ms"] {
        assert_eq!(refusal["headers"][header]["required"], true, "{header}");
    }
}

#[test]
fn a_stream_has_its_events_and_their_codes() {
    let document = completed();
    let answer = &document["paths"]["/a"]["get"]["responses"]["200"];
    let stream = &answer["content"]["text/event-stream"];
    assert_eq!(stream["x-sse-events"]["message"]["$ref"], "#/components/schemas/Told");
    assert_eq!(stream["x-error-codes"], json!(["GONE"]));
    assert_eq!(stream["example"], "data: 1\n\n");
    assert_eq!(answer["headers"]["X-Task-Id"]["schema"]["type"], "string");
}

#[test]
fn what_an_answer_may_lack_is_never_null_and_what_a_client_sends_may_be() {
    let document = completed();
    let (told, asked) =
        (&document["components"]["schemas"]["Told"], &document["components"]["schemas"]["Asked"]);
    assert_eq!(told["properties"]["must"]["type"], json!(["string", "null"]));
    assert_eq!(told["properties"]["may"], json!({"type": "integer", "format": "uint64"}));
    assert_eq!(told["properties"]["part"], json!({"$ref": "#/components/schemas/Asked"}));
    assert_eq!(asked["properties"]["may"]["type"], json!(["integer", "null"]));
    assert_eq!(asked["properties"]["may"].get("default"), None);
}
