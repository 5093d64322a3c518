//! Requirement ids: what `.specs` demands is cited by a test, and what tests cite is demanded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Finding;

/// Hyphen, non-breaking hyphen, figure dash, en dash, minus.
const HYPHENS: [char; 5] = ['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2212}'];

struct Requirement {
    at: String,
    must: bool,
    /// Under a heading that says `not yet`.
    later: bool,
}

pub(super) fn check(root: &Path, tracked: &[PathBuf]) -> Vec<Finding> {
    let read = |path: &PathBuf| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let is_kind = |path: &PathBuf, kind: &str| path.extension().is_some_and(|it| it == kind);
    let mut findings = Vec::new();
    let mut known: BTreeMap<String, Requirement> = BTreeMap::new();
    for path in tracked.iter().filter(|it| it.starts_with(".specs") && is_kind(it, "md")) {
        define(path, &read(path), &mut known, &mut findings);
    }
    let mut tested = BTreeSet::new();
    for path in tracked.iter().filter(|it| is_kind(it, "rs")) {
        // Ids in here are examples.
        if path.starts_with("xtask/src/tidy") {
            continue;
        }
        let text = read(path);
        let is_test = is_test(path, &text);
        for (number, line) in (1..).zip(text.lines()) {
            let at = format!("{}:{number}", path.display());
            findings.extend(wrong_hyphen(&at, line));
            for id in ids(line) {
                if !known.contains_key(&id) {
                    findings.push(format!("{at}: {id} is not in .specs; define or correct it"));
                }
                if is_test {
                    tested.insert(id);
                }
            }
        }
    }
    for (id, requirement) in known {
        if requirement.must && !requirement.later && !tested.contains(&id) {
            let at = requirement.at;
            findings
                .push(format!("{at}: no test cites {id}; add `// {id}` above one that shows it"));
        }
    }
    findings.into_iter().map(Finding).collect()
}

fn is_test(path: &Path, text: &str) -> bool {
    path.iter().any(|it| it == "tests" || it == "tests.rs")
        || ["#[test]", "#[tokio::test"].iter().any(|it| text.contains(it))
}

/// An id with a look-alike of the hyphen would be no id to anybody's search.
fn wrong_hyphen(at: &str, line: &str) -> Option<String> {
    let mut before = ' ';
    for it in line.chars() {
        if before.is_ascii_uppercase() && HYPHENS.contains(&it) {
            return Some(format!("{at}: `{it}` is not the plain hyphen; ids need `-`"));
        }
        before = it;
    }
    None
}

/// Lines `- **ID** (MUST) sentence.`
fn define(
    path: &Path,
    text: &str,
    known: &mut BTreeMap<String, Requirement>,
    findings: &mut Vec<String>,
) {
    let mut later = false;
    for (number, line) in (1..).zip(text.lines()) {
        let at = format!("{}:{number}", path.display());
        if line.starts_with('#') {
            later = line.to_lowercase().contains("not yet");
        }
        findings.extend(wrong_hyphen(&at, line));
        let Some((bold, rest)) = line.strip_prefix("- **").and_then(|it| it.split_once("**"))
        else {
            continue;
        };
        if !bold.starts_with("ORCH") && !bold.starts_with("OC-") {
            continue;
        }
        let level = rest.strip_prefix(" (").and_then(|it| Some(it.split_once(") ")?.0));
        let Some(level) = level.filter(|_| ids(bold) == [bold]) else {
            findings.push(format!("{at}: write `- **ID** (MUST) sentence.`"));
            continue;
        };
        if !["MUST", "SHOULD", "MAY"].contains(&level) {
            findings.push(format!("{at}: {level} is no level; MUST, SHOULD or MAY"));
        }
        let requirement = Requirement { at: at.clone(), must: level == "MUST", later };
        if let Some(first) = known.insert(bold.to_owned(), requirement) {
            findings.push(format!("{at}: {bold} is defined at {} already", first.at));
        }
    }
}

/// Words of the form `ORCH-1234` or `OC-AREA-1234`.
fn ids(text: &str) -> Vec<String> {
    let word = |it: char| it.is_ascii_alphanumeric() || it == '-';
    let words = text.split(|it: char| !word(it));
    let is_id = |it: &&str| {
        let Some((area, number)) = it.rsplit_once('-') else { return false };
        let area_ok = area == "ORCH"
            || area.strip_prefix("OC-").is_some_and(|it| {
                !it.is_empty() && it.bytes().all(|it| it.is_ascii_uppercase() || it == b'-')
            });
        area_ok && number.len() == 4 && number.bytes().all(|it| it.is_ascii_digit())
    };
    words.filter(is_id).map(str::to_owned).collect()
}
