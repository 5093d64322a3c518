//! Fields that nobody named are found at every depth, also where schemas are composed.

use serde_json::{Value, json};

use super::close_all;

fn valid(schemas: &Value, name: &str, instance: &Value) -> bool {
    let mut schemas = schemas.as_object().unwrap().clone();
    close_all(&mut schemas);
    let root = json!({
        "$ref": format!("#/components/schemas/{name}"),
        "components": {"schemas": schemas},
    });
    jsonschema::is_valid(&root, instance)
}

#[test]
fn a_further_field_is_refused_at_any_depth() {
    let schemas = json!({
        "Outer": {"type": "object", "properties": {
            "inner": {"$ref": "#/components/schemas/Inner"},
            "list": {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}},
            "open": {"type": "object", "additionalProperties": {"type": "string"}},
        }},
        "Inner": {"type": "object", "properties": {"a": {"type": "integer"}}},
    });
    let check = |instance: Value| valid(&schemas, "Outer", &instance);
    assert!(check(json!({"inner": {"a": 1}, "list": [{"a": 1}], "open": {"any": "text"}})));
    assert!(!check(json!({"further": 1})));
    assert!(!check(json!({"inner": {"a": 1, "b": 1}})));
    assert!(!check(json!({"list": [{"b": 1}]})));
    assert!(!check(json!({"open": {"any": 1}})));
}

#[test]
fn schemas_put_together_are_closed_together() {
    let schemas = json!({
        "Base": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}},
        "Both": {"oneOf": [{"allOf": [
            {"$ref": "#/components/schemas/Base"},
            {"type": "object", "required": ["b"], "properties": {"b": {"type": "integer"}}},
        ]}]},
    });
    let check = |instance: Value| valid(&schemas, "Both", &instance);
    assert!(check(json!({"a": 1, "b": 2})));
    assert!(!check(json!({"a": 1})));
    assert!(!check(json!({"a": 1, "b": 2, "c": 3})));
}
