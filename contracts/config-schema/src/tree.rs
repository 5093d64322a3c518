//! YAML text to a JSON tree that remembers lines. What the tree must look like is not known here.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{DuplicateKeyPolicy, Error, Spanned};

use crate::problem::{Problem, cut};

/// Aliases count where they are used, so that a small text cannot become a large tree.
const NODES_MAX: usize = 50_000;
const DEPTH_MAX: usize = 32;

/// A document, and the line on which each of its values (or the value's key) stands.
pub(crate) struct Tree {
    pub(crate) value: Value,
    lines: BTreeMap<String, u64>,
}

impl Tree {
    /// The line of a value, or of the nearest section around it.
    pub(crate) fn line(&self, pointer: &str) -> Option<u64> {
        let mut at = pointer;
        loop {
            if let Some(line) = self.lines.get(at) {
                return Some(*line);
            }
            at = at.rsplit_once('/')?.0;
        }
    }
}

/// Adds a key or an index to a JSON Pointer (RFC 6901).
pub(crate) fn join(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// Reads one document; keys that stand twice go to `problems`, and the last value counts.
/// Sections are put together, so that what is wrong in either is seen.
pub(crate) fn read(text: &str, problems: &mut Vec<Problem>) -> Result<Tree, Problem> {
    let options = serde_saphyr::options! {
        // Reported below, with the rest.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        budget: serde_saphyr::budget! { max_nodes: NODES_MAX, max_depth: DEPTH_MAX },
    };
    let root: Spanned<Node> =
        serde_saphyr::from_str_with_options(text, options).map_err(|it| not_yaml(&it))?;
    let mut lines = BTreeMap::new();
    let value = flatten(root.value, "", &mut lines, problems);
    Ok(Tree { value, lines })
}

fn not_yaml(error: &Error) -> Problem {
    // The snippet would quote the text around, secrets included.
    let error = error.without_snippet();
    let location = error.location();
    let line = location.map(|it| it.line());
    let message = error.to_string();
    if message.starts_with("budget breached") {
        return Problem::of_document(
            line,
            "a document that is too large once its aliases are expanded",
            format!("at most {NODES_MAX} values in at most {DEPTH_MAX} levels"),
        );
    }
    // What follows is the place again, or advice to programmers.
    let message = message.split([';', '\n']).next().unwrap_or_default();
    let message = message.split(" at line ").next().unwrap_or_default();
    let column = location.map_or(String::new(), |it| format!(" in column {}", it.column()));
    let found = format!("invalid YAML{column} ({message})");
    Problem::of_document(line, found, "one YAML document")
}

fn flatten(
    node: Node,
    at: &str,
    lines: &mut BTreeMap<String, u64>,
    problems: &mut Vec<Problem>,
) -> Value {
    match node {
        Node::Scalar(value) => value,
        Node::List(items) => {
            let indexed = items.into_iter().enumerate().map(|(index, item)| {
                let at = join(at, &index.to_string());
                lines.insert(at.clone(), item.referenced.line());
                flatten(item.value, &at, lines, problems)
            });
            Value::Array(indexed.collect())
        }
        Node::Section(entries) => {
            let mut section = Map::new();
            for (key, value) in entries {
                let at = join(at, &key.value);
                let line = key.referenced.line();
                let first = lines.insert(at.clone(), line);
                if let (Some(first), true) = (first, section.contains_key(&key.value)) {
                    problems.push(Problem {
                        pointer: at.clone(),
                        line: Some(line),
                        found: format!("key `{}` again, after line {first}", cut(&key.value)),
                        expected: "each key once".into(),
                        suggestion: None,
                    });
                }
                let value = flatten(value.value, &at, lines, problems);
                match (section.get_mut(&key.value), value) {
                    (Some(Value::Object(earlier)), Value::Object(later)) => earlier.extend(later),
                    (_, value) => drop(section.insert(key.value, value)),
                }
            }
            Value::Object(section)
        }
    }
}

enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Section(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true, false, a list or a section")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, it: bool) -> Result<Node, E> {
        Ok(Node::Scalar(it.into()))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Node, E> {
        Ok(Node::Scalar(it.into()))
    }

    fn visit_u64<E>(self, it: u64) -> Result<Node, E> {
        Ok(Node::Scalar(it.into()))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Node, E> {
        Ok(Node::Scalar(it.into()))
    }

    fn visit_str<E>(self, it: &str) -> Result<Node, E> {
        Ok(Node::Scalar(it.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut section = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            section.push(entry);
        }
        Ok(Node::Section(section))
    }
}
