//! Requirement ids, error codes, the form of the documents.

use std::collections::BTreeSet;
use std::path::Path;

use api_types::ErrorCode;
use contract_check::{Contract, ORCHESTRATORD, POOL_MANAGERD};
use serde_json::Value;

fn both() -> [&'static Contract; 2] {
    [&ORCHESTRATORD, &POOL_MANAGERD]
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().map(|it| it.as_str().unwrap())
}

// OC-CTRL-2067
#[test]
fn every_operation_names_requirements_that_there_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.specs");
    let specs = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let specs: String = specs.map(|it| std::fs::read_to_string(it).unwrap()).collect();
    for operation in both().into_iter().flat_map(Contract::operations) {
        let shown = format!("{} {}", operation.method, operation.path);
        let ids: Vec<_> = texts(&operation.value["x-req-id"]).collect();
        assert!(!ids.is_empty(), "{shown} has no x-req-id");
        for id in ids {
            assert!(specs.contains(&format!("- **{id}** (")), "{shown}: {id} is not in .specs");
        }
    }
}

// OC-CTRL-2030
#[test]
fn every_code_of_the_table_is_documented_where_it_has_its_status() {
    let mut documented = BTreeSet::new();
    for operation in ORCHESTRATORD.operations() {
        for (status, answer) in operation.value["responses"].as_object().unwrap() {
            let answer = match answer["$ref"].as_str() {
                Some(name) => ORCHESTRATORD.document().pointer(&name[1..]).unwrap(),
                None => answer,
            };
            for code in texts(&answer["x-error-codes"]) {
                let known = ErrorCode::ALL.into_iter().find(|it| it.as_str() == code);
                assert_eq!(known.unwrap().status().to_string(), *status, "{code}");
                documented.insert(code.to_owned());
            }
            let stream = &answer["content"]["text/event-stream"];
            documented.extend(texts(&stream["x-error-codes"]).map(str::to_owned));
        }
    }
    let table = ErrorCode::ALL.map(|it| it.as_str().to_owned());
    assert_eq!(documented, table.into());
}

#[test]
fn events_are_schemas_and_every_schema_is_used() {
    for contract in both() {
        let text = contract.document().to_string();
        let schemas = contract.document()["components"]["schemas"].as_object().unwrap();
        for name in schemas.keys() {
            let reference = format!("\"#/components/schemas/{name}\"");
            assert!(text.contains(&reference), "nothing refers to {name}");
        }
        for reference in references(contract.document()) {
            assert!(contract.document().pointer(&reference[1..]).is_some(), "{reference}");
        }
    }
}

/// Every `$ref` of a document.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(references).collect(),
        Value::Object(parts) => {
            let own = parts.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(parts.values().flat_map(references)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}
