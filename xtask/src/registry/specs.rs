//! `.specs/*.md`, read: lines `- **ID** (MUST) sentence.`

use std::collections::BTreeMap;
use std::path::Path;

/// Hyphen, non-breaking hyphen, figure dash, en dash, minus.
const HYPHENS: [char; 5] = ['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2212}'];

#[derive(Debug, Clone)]
pub(crate) struct Requirement {
    /// File and line of its definition.
    pub(crate) at: String,
    pub(crate) level: Level,
    pub(crate) sentence: String,
    /// The heading it stands under.
    pub(crate) section: String,
    /// Its heading does not say `not yet`.
    pub(crate) implemented: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Must,
    Should,
    May,
}

impl Level {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Must, Self::Should, Self::May].into_iter().find(|it| it.as_str() == text)
    }
}

/// Adds the requirements of one file; what is wrong with it goes to `findings`.
pub(crate) fn define(
    path: &Path,
    text: &str,
    known: &mut BTreeMap<String, Requirement>,
    findings: &mut Vec<String>,
) {
    let mut section = "";
    for (number, line) in (1..).zip(text.lines()) {
        let at = format!("{}:{number}", path.display());
        if line.starts_with('#') {
            section = line.trim_start_matches('#').trim();
        }
        findings.extend(wrong_hyphen(&at, line));
        let Some((id, rest)) = line.strip_prefix("- **").and_then(|it| it.split_once("**")) else {
            continue;
        };
        if !id.starts_with("ORCH") && !id.starts_with("OC-") {
            continue;
        }
        let parts = rest.strip_prefix(" (").and_then(|it| it.split_once(") "));
        let Some((level, sentence)) = parts.filter(|_| ids(id) == [id]) else {
            findings.push(format!("{at}: write `- **ID** (MUST) sentence.`"));
            continue;
        };
        let Some(level) = Level::parse(level) else {
            findings.push(format!("{at}: {level} is no level; MUST, SHOULD or MAY"));
            continue;
        };
        let requirement = Requirement {
            at: at.clone(),
            level,
            sentence: sentence.to_owned(),
            section: section.to_owned(),
            implemented: !section.to_lowercase().contains("not yet"),
        };
        if let Some(first) = known.insert(id.to_owned(), requirement) {
            findings.push(format!("{at}: {id} is defined at {} already", first.at));
        }
    }
}

/// An id with a look-alike of the hyphen would be no id to anybody's search.
pub(crate) fn wrong_hyphen(at: &str, line: &str) -> Option<String> {
    let mut before = ' ';
    for it in line.chars() {
        if before.is_ascii_uppercase() && HYPHENS.contains(&it) {
            return Some(format!("{at}: `{it}` is not the plain hyphen; ids need `-`"));
        }
        before = it;
    }
    None
}

/// Words of the form `ORCH-1234` or `OC-AREA-1234`.
pub(crate) fn ids(text: &str) -> Vec<String> {
    let word = |it: char| it.is_ascii_alphanumeric() || it == '-';
    let words = text.split(|it: char| !word(it));
    words.filter(|it| area(it).is_some()).map(str::to_owned).collect()
}

/// `ORCH` or `OC-AREA` of an id; `None` for any other word.
pub(crate) fn area(word: &str) -> Option<&str> {
    let (area, number) = word.rsplit_once('-')?;
    let known = area == "ORCH"
        || area.strip_prefix("OC-").is_some_and(|it| {
            !it.is_empty() && it.bytes().all(|it| it.is_ascii_uppercase() || it == b'-')
        });
    (known && number.len() == 4 && number.bytes().all(|it| it.is_ascii_digit())).then_some(area)
}
