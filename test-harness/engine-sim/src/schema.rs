//! The smallest answer that a JSON schema admits, cut into pieces of a few characters.
//!
//! Understands what tests ask for: types, properties, `enum`, `const`, `anyOf`, and references inside
//! the document. Whatever else a schema says does not change the answer.

use serde_json::{Map, Value};

/// Characters of an answer per token.
const PIECE_CHARS: usize = 4;
/// References and objects inside each other; deeper than that the answer is null.
const DEPTH_MAX: u32 = 32;

/// The answer to `schema`, one piece per token.
pub(crate) fn script(schema: &Value) -> Vec<String> {
    pieces(&value_for(schema, schema, 0).to_string())
}

/// Cuts a text into the pieces that one token each says.
pub(crate) fn pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(PIECE_CHARS).map(|piece| piece.iter().collect()).collect()
}

/// The type names that `schema` has and JSON schema does not know.
pub(crate) fn unknown_type(schema: &Value) -> Option<&str> {
    let known = ["object", "array", "string", "number", "integer", "boolean", "null"];
    schema.get("type").and_then(Value::as_str).filter(|name| !known.contains(name))
}

fn value_for(schema: &Value, root: &Value, depth: u32) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    let inside = |part: &Value| value_for(part, root, depth + 1);
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(first) = schema.get("enum").and_then(|list| list.get(0)) {
        return first.clone();
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(Value::Null, inside);
    }
    let choices = schema.get("anyOf").or_else(|| schema.get("oneOf"));
    if let Some(first) = choices.and_then(|list| list.get(0)) {
        return inside(first);
    }
    match type_of(schema) {
        "object" => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let members = properties.into_iter().flatten();
            Value::Object(members.map(|(key, part)| (key.clone(), inside(part))).collect())
        }
        "array" => {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            let item = schema.get("items").map_or(Value::Null, inside);
            (0..least.min(16)).map(|_| item.clone()).collect()
        }
        "number" | "integer" => Value::from(1),
        "boolean" => Value::Bool(true),
        "null" => Value::Null,
        _ => Value::from("s"),
    }
}

fn type_of(schema: &Value) -> &str {
    let named = schema.get("type").and_then(|it| it.as_str().or_else(|| it.get(0)?.as_str()));
    let implied = if schema.get("properties").is_some() { "object" } else { "string" };
    named.unwrap_or(implied)
}

/// The answer to a request for any JSON object.
pub(crate) fn any_object() -> Vec<String> {
    pieces(&Value::Object(Map::new()).to_string())
}
