//! Requirement ids: what `.specs` demands is cited by a test, and what tests cite is demanded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Finding;

struct Requirement {
    at: String,
    must: bool,
    /// Under a heading that says `not yet`.
    later: bool,
}

pub(super) fn check(root: &Path, tracked: &[PathBuf]) -> Vec<Finding> {
    let read = |path: &PathBuf| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut findings = Vec::new();
    let mut known: BTreeMap<String, Requirement> = BTreeMap::new();
    for path in tracked.iter().filter(|it| it.starts_with(".specs")) {
        define(path, &read(path), &mut known, &mut findings);
    }
    let mut cited = BTreeSet::new();
    for path in tracked.iter().filter(|it| it.extension().is_some_and(|it| it == "rs")) {
        // Ids in here are examples.
        if path.starts_with("xtask/src/tidy") {
            continue;
        }
        for (number, line) in (1..).zip(read(path).lines()) {
            for id in ids(line) {
                if !known.contains_key(&id) {
                    let at = format!("{}:{number}", path.display());
                    findings.push(format!("{at}: {id} is not in .specs; define or correct it"));
                }
                cited.insert(id);
            }
        }
    }
    for (id, requirement) in known {
        if requirement.must && !requirement.later && !cited.contains(&id) {
            findings.push(format!("{}: no test cites {id}", requirement.at));
        }
    }
    findings.into_iter().map(Finding).collect()
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
        if line.contains(['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}']) {
            findings.push(format!("{at}: use the plain hyphen in ids and ranges"));
        }
        let Some(rest) = line.strip_prefix("- **") else { continue };
        let parsed = rest.split_once("** (").and_then(|(id, rest)| {
            let (level, _) = rest.split_once(") ")?;
            Some((id, level))
        });
        let Some((id, level)) = parsed.filter(|(id, _)| ids(id) == [(*id).to_owned()]) else {
            findings.push(format!("{at}: write `- **ID** (MUST) sentence.`"));
            continue;
        };
        if !["MUST", "SHOULD", "MAY"].contains(&level) {
            findings.push(format!("{at}: {level} is no level; MUST, SHOULD or MAY"));
        }
        let requirement = Requirement { at: at.clone(), must: level == "MUST", later };
        if let Some(first) = known.insert(id.to_owned(), requirement) {
            findings.push(format!("{at}: {id} is defined at {} already", first.at));
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
