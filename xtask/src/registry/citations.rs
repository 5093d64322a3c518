//! Which tests cite which ids: an id in a comment right above a test, or inside it.

use std::path::Path;

use super::specs::ids;

/// An id in a source file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Citation {
    pub(crate) id: String,
    pub(crate) line: usize,
    /// Name of the test function that it belongs to.
    pub(crate) test: Option<String>,
}

/// Whether a file holds tests.
pub(crate) fn is_test_file(path: &Path, text: &str) -> bool {
    path.iter().any(|it| it == "tests" || it == "tests.rs")
        || ["#[test]", "#[tokio::test"].iter().any(|it| text.contains(it))
}

/// In the order of their lines. rustfmt's indentation tells where a test ends.
pub(crate) fn citations(text: &str) -> Vec<Citation> {
    let mut found: Vec<Citation> = Vec::new();
    // Citations above an item whose head has not come yet.
    let mut open = 0;
    let mut marked = false;
    let mut inside: Option<(String, usize)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if inside.as_ref().is_some_and(|(_, at)| trimmed == "}" && indent == *at) {
            inside = None;
            open = found.len();
            continue;
        }
        for id in ids(line) {
            found.push(Citation { id, line: number, test: inside.as_ref().map(|it| it.0.clone()) });
        }
        if inside.is_some() {
            open = found.len();
            continue;
        }
        if trimmed.starts_with("#[test]") || trimmed.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some(name) = function(trimmed) {
            if marked {
                found[open..].iter_mut().for_each(|it| it.test = Some(name.to_owned()));
                inside = Some((name.to_owned(), indent));
            }
            marked = false;
            open = found.len();
        } else if !trimmed.starts_with("//") && !trimmed.starts_with('#') {
            open = found.len();
        }
    }
    found
}

fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}
