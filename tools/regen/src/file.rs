//! The one helper that writes a generated file or compares it.

use std::path::Path;

use anyhow::Context;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Fresh,
    /// With the first line that changed.
    Written(String),
    Stale(String),
}

/// Makes `path` hold `wanted`, or only tells whether it does.
///
/// # Errors
/// A file that cannot be read or written; one that is missing is stale.
pub(crate) fn sync(root: &Path, path: &str, wanted: &str, check: bool) -> anyhow::Result<Outcome> {
    let file = root.join(path);
    let found = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{path}`")),
    };
    if found == wanted {
        return Ok(Outcome::Fresh);
    }
    let change = first_change(&found, wanted);
    if check {
        return Ok(Outcome::Stale(change));
    }
    std::fs::write(&file, wanted).with_context(|| format!("cannot write `{path}`"))?;
    Ok(Outcome::Written(change))
}

fn first_change(found: &str, wanted: &str) -> String {
    let (mut old, mut new) = (found.lines(), wanted.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (Some(old), Some(new)) if old == new => {}
            (None, None) => break,
            (_, Some(new)) => return format!("line {number}: `{}`", new.trim()),
            (Some(_), None) => return format!("line {number} and what follows is gone"),
        }
    }
    "only line ends differ".into()
}

#[cfg(test)]
mod tests;
