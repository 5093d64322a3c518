//! Text in, [`Config`] or every problem out.

use std::fmt;

use serde_json::{Map, Value};

use crate::config::Config;
use crate::document::Document;

/// One thing wrong with a configuration document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON Pointer (RFC 6901) to the offending value; empty for the whole document.
    pub pointer: String,
    /// What was found and what is expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "/" } else { &self.pointer };
        write!(f, "{pointer}: {}", self.message)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("configuration is not valid:{}", problems.iter().map(|it| format!("\n  {it}")).collect::<String>())]
pub struct ConfigError {
    /// Never empty.
    pub problems: Vec<Problem>,
}

/// Parses and checks a YAML document (JSON is YAML too).
///
/// # Errors
/// A syntax error or a wrong type is reported alone; of a well-formed document every failed check is
/// reported at once.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    let document = read(text).map_err(|problem| ConfigError { problems: vec![problem] })?;
    let problems = crate::check::problems(&document);
    if problems.is_empty() { Ok(Config::resolve(document)) } else { Err(ConfigError { problems }) }
}

fn read(text: &str) -> Result<Document, Problem> {
    let value: Value = serde_saphyr::from_str(text)
        .map_err(|it| Problem { pointer: String::new(), message: it.to_string() })?;
    // A file, or a section, whose keys are all commented out is null: all defaults.
    let value = match value {
        Value::Null => Value::Object(Map::new()),
        Value::Object(mut sections) => {
            sections.retain(|_, section| !section.is_null());
            Value::Object(sections)
        }
        other => other,
    };
    serde_path_to_error::deserialize(value)
        .map_err(|it| Problem { pointer: pointer(it.path()), message: it.inner().to_string() })
}

/// The JSON Pointer (RFC 6901) of where a deserialisation failed.
#[must_use]
pub fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { variant } => Some(format!("/{variant}")),
            Segment::Unknown => None,
        })
        .collect()
}
