//! What is wrong with a configuration, in words for its operator.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

/// Longest piece of the document that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// One thing wrong with a configuration document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON Pointer (RFC 6901) to the offending or missing value; empty for the whole document.
    pub pointer: String,
    /// Counted from 1; `None` where no line is to blame.
    pub line: Option<u64>,
    /// Never a secret.
    pub found: String,
    /// What is allowed there.
    pub expected: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl Problem {
    pub(crate) fn of_document(
        line: Option<u64>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            pointer: String::new(),
            line,
            found: found.into(),
            expected: expected.into(),
            suggestion: None,
        }
    }

    /// Everything but the line.
    fn sentence(&self) -> String {
        let Self { pointer, found, expected, suggestion, line: _ } = self;
        let at = if pointer.is_empty() { String::new() } else { format!("{pointer}: ") };
        let hint =
            suggestion.as_ref().map_or(String::new(), |it| format!("; did you mean `{it}`?"));
        format!("{at}found {found}, expected {expected}{hint}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.sentence())
    }
}

/// A text that is no valid configuration.
#[derive(Debug, thiserror::Error)]
#[error("configuration is not valid:{}", problems.iter().map(|it| format!("\n  {it}")).collect::<String>())]
pub struct ConfigError {
    /// Never empty; by line.
    pub problems: Vec<Problem>,
}

/// A file that is no valid configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the configuration `{}`", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    /// One problem a line, as compilers write them.
    #[error("{}", listed(file, problems))]
    Invalid {
        file: PathBuf,
        /// Never empty; by line.
        problems: Vec<Problem>,
    },
}

fn listed(file: &std::path::Path, problems: &[Problem]) -> String {
    let lines = problems.iter().map(|it| {
        let line = it.line.map_or(String::new(), |line| format!("{line}:"));
        format!("{}:{line} {}", file.display(), it.sentence())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A scalar as JSON, cut if it is long; the kind alone of anything else, and of a secret.
pub(crate) fn shown(value: &Value, secret: bool) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "a section".into(),
        Value::String(text) if secret => format!("a text of {} characters", text.chars().count()),
        Value::Bool(_) | Value::Number(_) if secret => "a value that is not a text".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => Value::from(cut(text)).to_string(),
    }
}

pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The candidate that `typed` is a slip of, if there is one.
pub(crate) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let typed = typed.to_lowercase();
    let slips_max = 1 + typed.chars().count() / 4;
    let scored = candidates.into_iter().map(|it| (strsim::osa_distance(&typed, it), it));
    let (slips, best) = scored.min()?;
    (slips <= slips_max && slips < best.chars().count()).then(|| best.to_owned())
}
