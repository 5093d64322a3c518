//! The generated schema: committed, strict, explained.

use std::path::Path;

use config_schema::json_schema;
use serde_json::Value;

/// What `structure.rs` checks, and what is only for readers.
const CHECKED: [&str; 15] = [
    "additionalProperties",
    "const",
    "format",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "oneOf",
    "prefixItems",
    "properties",
    "required",
    "type",
    "writeOnly",
];
const FOR_READERS: [&str; 6] =
    ["$comment", "$schema", "default", "description", "examples", "title"];

/// Calls `visit` with every schema inside, and where it is.
fn walk(schema: &Value, at: &str, visit: &mut impl FnMut(&Value, &str)) {
    visit(schema, at);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{at}/{name}"), visit);
    }
    for list in ["prefixItems", "oneOf"] {
        for item in schema[list].as_array().into_iter().flatten() {
            walk(item, &format!("{at}/{list}"), visit);
        }
    }
    for one in ["items", "additionalProperties"] {
        if schema[one].is_object() {
            walk(&schema[one], &format!("{at}/{one}"), visit);
        }
    }
}

fn visit(mut visitor: impl FnMut(&Value, &str)) {
    let schema = serde_json::from_str(&json_schema()).unwrap();
    walk(&schema, "", &mut visitor);
}

// OC-CONFIG-6010
#[test]
fn the_committed_schema_is_the_generated_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/config.schema.json");
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let generated = json_schema();
    assert!(
        committed == generated,
        "contracts/schemas/config.schema.json is not what the types say: run `cargo xtask regen`"
    );
}

// OC-CONFIG-6010
#[test]
fn generating_twice_gives_the_same_bytes() {
    let text = json_schema();
    assert_eq!(text, json_schema());
    assert!(text.ends_with("}\n") && text.contains("https://json-schema.org/draft/2020-12/schema"));
}

// OC-CONFIG-6001
#[test]
fn every_section_is_strict_and_every_key_explained() {
    let mut sections = 0;
    visit(|schema, at| {
        if schema["properties"].is_object() {
            sections += 1;
            assert_eq!(schema["additionalProperties"], false, "{at} takes unknown keys");
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let meaning = property["description"].as_str().unwrap_or_default();
            assert!(meaning.ends_with('.'), "{at}/{name} is not explained");
        }
    });
    assert!(sections > 10, "only {sections} sections were seen");
}

#[test]
fn the_schema_says_nothing_that_is_not_checked() {
    visit(|schema, at| {
        for keyword in schema.as_object().into_iter().flatten().map(|it| it.0.as_str()) {
            let known = CHECKED.contains(&keyword) || FOR_READERS.contains(&keyword);
            assert!(known, "{at}: nothing checks `{keyword}`");
        }
        let format = schema["format"].as_str().unwrap_or("socket-address");
        let formats =
            ["base-url", "identifier", "ip-address", "log-filter", "sha256", "socket-address"];
        assert!(formats.contains(&format), "{at}: nothing checks `{format}`");
        let kinds = ["array", "boolean", "integer", "number", "object", "string"];
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
        assert!(
            kind.is_some_and(|it| kinds.contains(&it)) || schema.get("const").is_some(),
            "{at}: nothing checks the type {kind:?}"
        );
    });
}

#[test]
fn a_default_that_both_profiles_share_is_stated_as_such() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let property = |pointer: &str| &schema["properties"]["queue"]["properties"][pointer];
    assert_eq!(property("capacity").get("default"), None);
    let meaning = property("capacity")["description"].as_str().unwrap();
    assert!(meaning.ends_with("Default: 256 (home), 4096 (team)."), "{meaning}");
    assert_eq!(schema["properties"]["drain_ms"]["default"], 10_000);
}
