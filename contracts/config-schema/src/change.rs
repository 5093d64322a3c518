//! What differs between two documents.

use std::fmt;

use serde_json::Value;

use crate::problem::shown;
use crate::tree;

/// Keys whose values may hold secrets.
const SECRET: [&str; 3] = ["/flags/", "/env/", "/sha256"];

/// One value that is another now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// JSON Pointer (RFC 6901).
    pub pointer: String,
    /// Never secrets; "nothing" where there was none.
    pub before: String,
    pub after: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.pointer, self.before, self.after)
    }
}

/// The values that differ, by pointer; what is no YAML is empty. Comments and the order of keys are no
/// difference.
#[must_use]
pub fn changes(before: &str, after: &str) -> Vec<Change> {
    let value = |text: &str| tree::read(text, &mut Vec::new()).map_or(Value::Null, |it| it.value);
    let mut found = Vec::new();
    compare("", &value(before), &value(after), &mut found);
    found
}

fn compare(at: &str, before: &Value, after: &Value, found: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let [old, new] = [old, new].map(|it| it.get(key).unwrap_or(&Value::Null));
                compare(&tree::join(at, key), old, new, found);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for index in 0..old.len().max(new.len()) {
                let [old, new] = [old, new].map(|it| it.get(index).unwrap_or(&Value::Null));
                compare(&tree::join(at, &index.to_string()), old, new, found);
            }
        }
        _ if before == after => {}
        _ => {
            let secret = SECRET.iter().any(|it| at.contains(it));
            let [before, after] = [before, after].map(|it| shown(it, secret));
            found.push(Change { pointer: at.into(), before, after });
        }
    }
}
