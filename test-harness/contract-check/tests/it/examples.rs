//! Each example fits its schema, and is what the Rust type reads and writes.

use contract_check::{Contract, ORCHESTRATORD, Operation, POOL_MANAGERD, frames};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A schema's name and how its Rust type reads and writes a value.
type Type = (&'static str, fn(&Value) -> Value);

fn through<T: DeserializeOwned + Serialize>(example: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(example.clone()).unwrap()).unwrap()
}

const ORCHESTRATORD_TYPES: [Type; 30] = [
    ("TaskRequest", through::<api_types::TaskRequest>),
    ("Admission", through::<api_types::Admission>),
    ("Task", through::<api_types::Task>),
    ("ModelList", through::<api_types::ModelList>),
    ("PoolList", through::<api_types::PoolList>),
    ("DeviceList", through::<api_types::DeviceList>),
    ("DrainStatus", through::<api_types::DrainStatus>),
    ("ReloadRequest", through::<api_types::ReloadRequest>),
    ("ReloadStatus", through::<api_types::ReloadStatus>),
    ("DrainRequest", through::<api_types::DrainRequest>),
    ("PoolHealth", through::<api_types::PoolHealth>),
    ("Capabilities", through::<api_types::Capabilities>),
    ("Queue", through::<api_types::Queue>),
    ("TaskList", through::<api_types::TaskList>),
    ("ArtifactRequest", through::<api_types::ArtifactRequest>),
    ("Artifact", through::<api_types::Artifact>),
    ("Session", through::<api_types::Session>),
    ("Explanation", through::<api_types::Explanation>),
    ("ReplicaSetList", through::<api_types::ReplicaSetList>),
    ("Metrics", through::<api_types::Metrics>),
    ("Preempted", through::<api_types::Preempted>),
    ("Resumed", through::<api_types::Resumed>),
    ("Readiness", through::<api_types::Readiness>),
    ("ErrorEnvelope", through::<api_types::ErrorEnvelope>),
    ("Queued", through::<api_types::Queued>),
    ("Started", through::<api_types::Started>),
    ("Token", through::<api_types::Token>),
    ("TaskResult", through::<api_types::TaskResult>),
    ("End", through::<api_types::End>),
    ("Disconnected", through::<api_types::Disconnected>),
];

const POOL_TYPES: [Type; 6] = [
    ("Snapshot", through::<pool_api::Snapshot>),
    ("ErrorBody", through::<pool_api::ErrorBody>),
    ("JobRequest", through::<pool_api::JobRequest>),
    ("Job", through::<pool_api::Job>),
    ("JobList", through::<pool_api::JobList>),
    ("WatchEvent", through::<pool_api::WatchEvent>),
];

// OC-CTRL-2067
#[test]
fn every_operation_has_examples_that_hold() {
    for (contract, types) in
        [(&*ORCHESTRATORD, ORCHESTRATORD_TYPES.as_slice()), (&*POOL_MANAGERD, &POOL_TYPES)]
    {
        for operation in contract.operations() {
            check(contract, types, operation);
        }
    }
}

fn check(contract: &Contract, types: &[Type], operation: Operation<'_>) {
    let shown = format!("{} {}", operation.method, operation.path);
    if let Some(body) = operation.value.get("requestBody") {
        check_content(contract, types, &body["content"], &format!("{shown}, request"));
    }
    let answers = operation.value["responses"].as_object().unwrap();
    assert!(answers.keys().any(|it| it.starts_with('2')), "{shown} cannot succeed");
    for (status, answer) in answers {
        let shared = answer["$ref"].as_str();
        let answer = shared.map_or(answer, |it| contract.document().pointer(&it[1..]).unwrap());
        if !["204", "304"].contains(&status.as_str()) {
            check_content(contract, types, &answer["content"], &format!("{shown}, {status}"));
        }
    }
}

fn check_content(contract: &Contract, types: &[Type], content: &Value, shown: &str) {
    for (kind, media) in content.as_object().unwrap_or_else(|| panic!("{shown}: no content")) {
        let example = media.get("example").unwrap_or_else(|| panic!("{shown}: no example"));
        let text = match (kind.as_str(), example) {
            ("application/json", example) => example.to_string(),
            (_, Value::String(text)) => text.clone(),
            (_, other) => panic!("{shown}: {other} is no text"),
        };
        let findings = contract.validate_content(kind, media, &text);
        assert!(findings.is_empty(), "{shown}: {findings:#?}");
        if kind == "text/event-stream" {
            for frame in frames(&text).unwrap() {
                same(types, &media["x-sse-events"][&frame.name], &frame.data, shown);
            }
        } else {
            same(types, &media["schema"], example, shown);
        }
    }
}

/// What the type writes has every field of the example; fields with defaults may be more.
fn same(types: &[Type], schema: &Value, example: &Value, shown: &str) {
    let Some(name) = schema["$ref"].as_str().and_then(|it| it.rsplit('/').next()) else { return };
    let known = types.iter().find(|(it, _)| *it == name);
    let (_, through) = known.unwrap_or_else(|| panic!("{shown}: add {name} to the types here"));
    let written = through(example);
    for (field, value) in example.as_object().unwrap() {
        assert_eq!(written.get(field), Some(value), "{shown}: {name}.{field}");
    }
}
