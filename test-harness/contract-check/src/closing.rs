//! Closes schemas: what they do not name may not be there.

use serde_json::{Map, Value};

/// Closes every object schema in `schemas` against further fields.
pub(crate) fn close_all(schemas: &mut Map<String, Value>) {
    let open = schemas.clone();
    schemas.values_mut().for_each(|it| close(it, &open));
}

fn close(schema: &mut Value, open: &Map<String, Value>) {
    children(schema, open);
    let Some(parts) = schema.as_object_mut() else { return };
    let mut closed =
        parts.contains_key("properties") && !parts.contains_key("additionalProperties");
    if let Some(members) = parts.get_mut("allOf").and_then(Value::as_array_mut) {
        // Each of them sees the fields of the others, so that only all together can be closed.
        for member in members {
            let name = member["$ref"].as_str().and_then(|it| it.rsplit('/').next());
            if let Some(whole) = name.and_then(|it| open.get(it)) {
                *member = whole.clone();
            }
            children(member, open);
        }
        closed = true;
    }
    if closed {
        parts.insert("unevaluatedProperties".into(), false.into());
    }
}

/// Closes what lies in a schema, not the schema itself.
fn children(schema: &mut Value, open: &Map<String, Value>) {
    let Some(parts) = schema.as_object_mut() else { return };
    for (keyword, part) in parts {
        match (keyword.as_str(), part) {
            ("properties", Value::Object(fields)) => {
                fields.values_mut().for_each(|it| close(it, open));
            }
            ("oneOf" | "anyOf" | "prefixItems", Value::Array(kinds)) => {
                kinds.iter_mut().for_each(|it| close(it, open));
            }
            ("items" | "additionalProperties", part) => close(part, open),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
