//! The configuration as operators write it: text in, settings or problems out.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod changes;
mod defaults;
mod engines;
mod files;
mod mutations;
mod problems;
mod rules;
mod schema;

use config_schema::parse;

/// What is wrong with a document, one problem a line; empty if nothing is.
pub(crate) fn told(text: &str) -> String {
    let problems = parse(text).err().map_or_else(Vec::new, |it| it.problems);
    problems.iter().map(|it| format!("{it}\n")).collect()
}
