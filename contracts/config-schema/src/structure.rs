//! Compares a tree with the generated schema and finds every difference.
//!
//! Only the keywords that the generated schema uses are known; a test fails when it starts to use
//! another one.

use serde_json::{Map, Value};

use crate::format;
use crate::problem::{Problem, cut, nearest, shown};
use crate::tree::{Tree, join};

/// Adds what is wrong to `problems` and takes keys without a value out of `tree`: a key whose
/// value is commented out counts as left out.
pub(crate) fn check(schema: &Value, tree: &mut Tree, problems: &mut Vec<Problem>) {
    let mut value = tree.value.take();
    if value.is_null() {
        value = Value::Object(Map::new());
    }
    let mut walk = Walk { tree, problems, secret: false };
    walk.value(schema, &mut value, "");
    tree.value = value;
}

struct Walk<'a> {
    tree: &'a Tree,
    problems: &'a mut Vec<Problem>,
    /// Whether the values around are not to be shown.
    secret: bool,
}

impl Walk<'_> {
    fn value(&mut self, schema: &Value, value: &mut Value, at: &str) {
        let outside = self.secret;
        self.secret |= schema["writeOnly"] == true;
        match kind(schema) {
            Some("object") => self.section(schema, value, at),
            Some("array") => self.list(schema, value, at),
            Some("integer") => self.integer(schema, value, at),
            Some("number") => self.number(schema, value, at),
            Some("boolean") if value.is_boolean() => {}
            Some("string") => self.text(schema, value, at),
            _ => self.wrong(schema, value, at, None),
        }
        self.secret = outside;
    }

    fn section(&mut self, schema: &Value, value: &mut Value, at: &str) {
        let Some(section) = value.as_object_mut() else {
            return self.wrong(schema, value, at, None);
        };
        let names = schema["properties"].as_object();
        let known = |name: &str| names.is_some_and(|it| it.contains_key(name));
        section.retain(|name, value| !value.is_null() || !known(name));
        for (name, value) in section.iter_mut() {
            let below = join(at, name);
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => self.unknown(schema, name, &below),
                (Value::Null, others) => self.value(others, value, &below),
                (known, _) => self.value(known, value, &below),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !section.contains_key(name) {
                self.wrong(&schema["properties"][name], &Value::Null, &join(at, name), None);
            }
        }
    }

    fn unknown(&mut self, schema: &Value, name: &str, at: &str) {
        let names = schema["properties"].as_object().into_iter().flatten();
        let names: Vec<&str> = names.map(|it| it.0.as_str()).collect();
        self.problems.push(Problem {
            pointer: at.into(),
            line: self.tree.line(at),
            found: format!("key `{}`", cut(name)),
            expected: one_of(&names),
            suggestion: nearest(name, names),
        });
    }

    fn list(&mut self, schema: &Value, value: &mut Value, at: &str) {
        let Some(items) = value.as_array_mut() else {
            return self.wrong(schema, value, at, None);
        };
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        if !(least..=most).contains(&(items.len() as u64)) {
            self.wrong(schema, value, at, None);
            return;
        }
        for (index, item) in items.iter_mut().enumerate() {
            let each = match &schema["prefixItems"][index] {
                Value::Null => &schema["items"],
                at_this_place => at_this_place,
            };
            self.value(each, item, &join(at, &index.to_string()));
        }
    }

    fn integer(&mut self, schema: &Value, value: &Value, at: &str) {
        let (least, most) = bounds(schema);
        let holds = |number: u64| (least..=most).contains(&number);
        if !value.as_u64().is_some_and(holds) {
            let unquoted = value.as_str().and_then(|it| it.trim().parse().ok());
            let meant = unquoted.filter(|it| holds(*it) && !self.secret);
            self.wrong(schema, value, at, meant.map(|it| it.to_string()));
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, at: &str) {
        let (least, most) = range(schema);
        if !value.as_f64().is_some_and(|it| (least..=most).contains(&it)) {
            self.wrong(schema, value, at, None);
        }
    }

    fn text(&mut self, schema: &Value, value: &mut Value, at: &str) {
        let allowed = names(schema);
        let format = schema["format"].as_str().and_then(format::named);
        let length_min = schema["minLength"].as_u64().unwrap_or(0);
        let holds = |text: &str| {
            (allowed.is_empty() || allowed.contains(&text))
                && format.as_ref().is_none_or(|it| (it.holds)(text))
                && length_min <= text.chars().count() as u64
        };
        let Some(text) = value.as_str() else {
            let unquoted = value.is_number() || value.is_boolean();
            let meant = unquoted.then(|| value.to_string()).filter(|it| holds(it));
            let quoted = meant.filter(|_| !self.secret).map(|it| format!("\"{it}\""));
            return self.wrong(schema, value, at, quoted);
        };
        if holds(text) {
            return;
        }
        // `gpu` is no slip of `cpu`, where that is all there is.
        let choice = if allowed.len() > 1 { allowed } else { Vec::new() };
        let meant = nearest(text, choice);
        // A URL may carry a password.
        let outside = self.secret;
        self.secret |= text.contains('@');
        self.wrong(schema, value, at, meant);
        self.secret = outside;
    }

    fn wrong(&mut self, schema: &Value, value: &Value, at: &str, suggestion: Option<String>) {
        self.problems.push(Problem {
            pointer: at.into(),
            line: self.tree.line(at),
            found: shown(value, self.secret),
            expected: expected(schema),
            suggestion,
        });
    }
}

/// The type besides `null`.
fn kind(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|it| *it != "null"),
        one => one.as_str(),
    }
}

/// The names that an enumeration allows; empty for any other schema.
fn names(schema: &Value) -> Vec<&str> {
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    variants.filter_map(|it| it["const"].as_str()).collect()
}

fn bounds(integer: &Value) -> (u64, u64) {
    let bound = |keyword: &str, default| integer[keyword].as_u64().unwrap_or(default);
    (bound("minimum", 0), bound("maximum", u64::MAX))
}

fn range(number: &Value) -> (f64, f64) {
    let bound = |keyword: &str, default| number[keyword].as_f64().unwrap_or(default);
    (bound("minimum", f64::MIN), bound("maximum", f64::MAX))
}

fn expected(schema: &Value) -> String {
    let allowed = names(schema);
    if !allowed.is_empty() {
        return one_of(&allowed);
    }
    match kind(schema) {
        Some("object") => match schema["properties"].as_object() {
            Some(keys) => {
                let keys: Vec<&str> = keys.keys().map(String::as_str).collect();
                format!("a section with {}", keys.join(", "))
            }
            None => "a section of names and texts".into(),
        },
        Some("array") => match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
            (Some(least), Some(most)) if least == most => format!("a list of {least}"),
            (Some(least), _) => format!("a list of at least {least}"),
            (None, _) => "a list".into(),
        },
        Some("integer") => {
            let (least, most) = bounds(schema);
            format!("a whole number from {least} to {most}")
        }
        Some("number") => {
            let (least, most) = range(schema);
            format!("a number from {least} to {most}")
        }
        Some("boolean") => "true or false".into(),
        _ => match schema["format"].as_str().and_then(format::named) {
            Some(format) => format.expected.into(),
            None if schema["minLength"].is_u64() => "a text that is not empty".into(),
            None => "a text".into(),
        },
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [only] => format!("`{only}`"),
        _ => format!("one of {}", names.join(", ")),
    }
}
