//! The stated defaults are those that hold.

use serde_json::{Map, Value, json};

use super::of;
use crate::config::Profile;
use crate::parse;

const POOL: &str = r#"{"id": "a", "engine": "llamacpp", "model": {"id": "m", "path": "x"}}"#;

/// A document that has every default written out, and one that has none.
fn documents(profile: Profile) -> [Value; 2] {
    let key = json!({"name": "me", "sha256": "0".repeat(64)});
    let pool: Value = serde_json::from_str(POOL).unwrap();
    let bare = json!({"keys": [key], "profile": profile, "pool_manager": {"pools": [pool]}});
    let mut full = bare.clone();
    for (pointer, value) in of(profile) {
        let mut at = &mut full;
        for step in pointer.split('/').skip(1) {
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
            at = match at {
                Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
                section => &mut section[step],
            };
        }
        if at.is_null() {
            *at = value;
        }
    }
    [full, bare]
}

#[test]
fn writing_every_default_out_changes_nothing() {
    for profile in [Profile::Home, Profile::Team] {
        let [full, bare] = documents(profile);
        assert!(full.to_string().len() > 2 * bare.to_string().len());
        let [full, bare] = [full, bare].map(|it| parse(&it.to_string()).unwrap());
        assert_eq!(full, bare);
    }
}
