//! Completes an OpenAPI document with what no single handler knows: the refusals of guard and code
//! table, the headers around every answer, examples and the events of streams.
//!
//! Works on the document as JSON. It is built once; what stands beside a handler is its path, its
//! parameters, its successes and its requirement ids.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What holds for every operation of one daemon.
#[derive(Debug)]
pub struct Common {
    /// Name of the schema of error bodies.
    pub error_schema: &'static str,
    /// An error body as that schema has it.
    pub error_example: fn(status: u16, code: &str) -> Value,
    /// Status and code of what every operation may refuse with: the guard's and the router's.
    pub refusals: &'static [(u16, &'static str)],
    /// Codes besides those of 429 and 503 that say when to come back.
    pub advised: &'static [&'static str],
    /// Types that clients send: their nullable fields may really be `null`.
    pub requests: &'static [&'static str],
}

/// What holds for one operation beyond its attribute.
#[derive(Debug, Default)]
pub struct Facts {
    /// Status and code of each refusal of its own; the guard's are added.
    pub refusals: Vec<(u16, &'static str)>,
    pub request: Option<Value>,
    /// By status and content type; of an event stream the text of its frames.
    pub answers: Vec<(u16, &'static str, Value)>,
    pub headers: Vec<Header>,
    /// Events of its `text/event-stream`, each with the name of its schema.
    pub events: Vec<(&'static str, &'static str)>,
    /// Codes that the `error` event may carry.
    pub event_codes: Vec<&'static str>,
}

/// A header of the answers with one status.
#[derive(Debug, Clone)]
pub struct Header {
    pub status: u16,
    pub name: &'static str,
    pub description: &'static str,
    pub schema: Value,
    /// Whether every such answer has it.
    pub always: bool,
}

/// # Panics
/// If the document is not an OpenAPI document, which only a mistake in the code can bring about.
#[must_use]
pub fn complete(
    mut document: Value,
    common: &Common,
    facts: impl Fn(&str) -> Option<Facts>,
) -> Value {
    let mut refused = BTreeMap::new();
    for (path, item) in members(&mut document["paths"]) {
        for (method, operation) in members(item) {
            let id = operation["operationId"].as_str().unwrap_or_default();
            let facts = facts(id).unwrap_or_else(|| panic!("no facts of {method} {path} ({id})"));
            describe(operation, &facts);
            refuse(operation, &facts, common, &mut refused);
        }
    }
    for (name, schema) in members(&mut document["components"]["schemas"]) {
        if !common.requests.contains(&name.as_str()) {
            never_null(schema);
        }
        normalise(schema);
    }
    let answers = refused.into_iter().map(|(name, (status, codes))| {
        let example = (common.error_example)(status, codes[0]);
        (name, refusal(status, &codes, common, &example))
    });
    document["components"]["responses"] = Value::Object(answers.collect());
    document["components"]["parameters"] = json!({"CorrelationId": {
        "name": "X-Correlation-Id", "in": "header", "required": false,
        "description": "Ties the answer and the log lines to the caller; another text is replaced.",
        "schema": correlation_schema(),
    }});
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    });
    document["security"] = json!([{}, {"bearer": []}, {"key": []}]);
    document
}

/// Adds examples, headers and events to the answers that the attribute names.
fn describe(operation: &mut Value, facts: &Facts) {
    if let Some(example) = &facts.request {
        operation["requestBody"]["content"]["application/json"]["example"] = example.clone();
        operation["requestBody"]["required"] = true.into();
    }
    for (status, kind, example) in &facts.answers {
        operation["responses"][status.to_string()]["content"][*kind]["example"] = example.clone();
    }
    let events = facts.events.iter().map(|(name, schema)| ((*name).to_owned(), reference(schema)));
    let events = Value::Object(events.collect());
    for (status, answer) in members(&mut operation["responses"]) {
        let mut headers = Map::from_iter([correlation_header()]);
        for it in facts.headers.iter().filter(|it| it.status.to_string() == *status) {
            let mut told = header(it.description, &it.schema);
            told["required"] = it.always.into();
            headers.insert(it.name.into(), told);
        }
        if status == "503" {
            headers.extend(advice());
        }
        answer["headers"] = headers.into();
        if let Some(stream) = answer.pointer_mut("/content/text~1event-stream") {
            stream["x-sse-events"] = events.clone();
            if !facts.event_codes.is_empty() {
                stream["x-error-codes"] = json!(facts.event_codes);
            }
        }
    }
    let parameter = json!({"$ref": "#/components/parameters/CorrelationId"});
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
}

/// Points each status of a refusal to a shared answer that lists its codes.
fn refuse(
    operation: &mut Value,
    facts: &Facts,
    common: &Common,
    refused: &mut BTreeMap<String, (u16, Vec<&'static str>)>,
) {
    let mut codes: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for (status, code) in facts.refusals.iter().chain(common.refusals) {
        codes.entry(*status).or_default().push(code);
    }
    for (status, codes) in codes {
        let name = codes.iter().map(|it| pascal(it)).collect::<Vec<_>>().join("Or");
        operation["responses"][status.to_string()] =
            json!({"$ref": format!("#/components/responses/{name}")});
        refused.insert(name, (status, codes));
    }
}

fn refusal(status: u16, codes: &[&str], common: &Common, example: &Value) -> Value {
    let mut headers = Map::from_iter([correlation_header()]);
    if matches!(status, 429 | 503) {
        headers.extend(advice());
    } else if codes.iter().any(|it| common.advised.contains(it)) {
        headers.extend(advice().map(|(name, mut told)| {
            told["required"] = false.into();
            (name, told)
        }));
    }
    if status == 405 {
        let allow = header("The methods that this path takes.", &json!({"type": "string"}));
        headers.insert("Allow".into(), allow);
    }
    json!({
        "description": format!("The code is {}.", codes.join(" or ")),
        "headers": headers,
        "content": {"application/json": {"schema": reference(common.error_schema), "example": example}},
        "x-error-codes": codes,
    })
}

fn correlation_header() -> (String, Value) {
    let text = "The caller's, if it has this form, else a new one; also in every log line.";
    ("X-Correlation-Id".into(), header(text, &correlation_schema()))
}

fn correlation_schema() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"})
}

fn advice() -> [(String, Value); 2] {
    let number = json!({"type": "integer", "minimum": 0});
    [
        ("Retry-After".into(), header("Come back after this many seconds.", &number)),
        ("X-Backoff-Ms".into(), header("The same in milliseconds, not rounded.", &number)),
    ]
}

fn header(description: &str, schema: &Value) -> Value {
    json!({"description": description, "required": true, "schema": schema})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// `NOT_FOUND` as `NotFound`.
fn pascal(code: &str) -> String {
    let word = |it: &str| it[..1].to_owned() + &it[1..].to_ascii_lowercase();
    code.split('_').map(word).collect()
}

/// A field that an answer may lack is left out, never `null`; one that is required may be `null`.
fn never_null(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(never_null),
        Value::Object(parts) => {
            let required = parts.get("required").and_then(Value::as_array).cloned();
            let required = required.unwrap_or_default();
            for (name, field) in parts.get_mut("properties").into_iter().flat_map(members) {
                if !required.contains(&json!(name)) {
                    drop_null(field);
                }
            }
            parts.values_mut().for_each(never_null);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Formats as the OpenAPI registry has them, and no default that says nothing.
fn normalise(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(normalise),
        Value::Object(parts) => {
            if let Some(format) = parts.get_mut("format").filter(|it| it.is_string()) {
                *format = format.as_str().unwrap_or_default().replace("u-int", "uint").into();
            }
            parts.retain(|name, value| !(name == "default" && value.is_null()));
            parts.values_mut().for_each(normalise);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn drop_null(field: &mut Value) {
    if let Some(kinds) = field.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|it| it != "null");
        if let [kind] = kinds.as_slice() {
            field["type"] = kind.clone();
        }
    } else if let Some(kinds) = field.get_mut("oneOf").and_then(Value::as_array_mut) {
        kinds.retain(|it| it["type"] != "null");
        if let [kind] = kinds.as_mut_slice() {
            let kind = std::mem::take(kind);
            let parts = field.as_object_mut().expect("it has oneOf");
            parts.remove("oneOf");
            parts.extend(kind.as_object().cloned().unwrap_or_default());
        }
    }
}

fn members(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().expect("an OpenAPI document has objects here").iter_mut()
}

#[cfg(test)]
mod tests;
