//! Text rules, and that ARCHITECTURE.md names what there is.

use std::path::{Path, PathBuf};

use super::{Finding, Package};

/// Past this one asks why.
const LINES_WANTED: usize = 500;
/// Past this a file has no reason left to be one.
const LINES_MAX: usize = 1_000;
const ARCHITECTURE_LINES_MAX: usize = 300;
const TEXT: [&str; 7] = ["rs", "md", "yaml", "toml", "sh", "py", "txt"];

pub(super) fn check(root: &Path, tracked: &[PathBuf]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in tracked {
        let kind = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        if !TEXT.contains(&kind) {
            continue;
        }
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        findings.extend(lines(path, kind, &text));
        if kind == "rs" {
            findings.extend(rust(path, &text));
        }
    }
    findings
}

fn lines(path: &Path, kind: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let at = || format!("{}:{number}", path.display());
        if line.ends_with([' ', '\t']) {
            findings.push(Finding(format!("{}: remove the space at the end of the line", at())));
        }
        if kind != "sh" && line.contains('\t') {
            findings.push(Finding(format!("{}: replace the tab by spaces", at())));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding(format!("{}: end the last line", path.display())));
    }
    findings
}

fn rust(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_script = text.starts_with("#!/");
    if !text.lines().nth(usize::from(is_script)).is_some_and(|it| it.starts_with("//!")) {
        findings.push(Finding(format!("{}:1: say what the file is for (`//!`)", path.display())));
    }
    if path.file_name().is_some_and(|it| it == "mod.rs") {
        findings.push(Finding(format!("{}: name it after its folder instead", path.display())));
    }
    let count = text.lines().count();
    if LINES_MAX < count && !is_test(path) {
        findings.push(Finding(format!("{}: split it, it has {count} lines", path.display())));
    }
    findings
}

fn is_test(path: &Path) -> bool {
    path.iter().any(|it| it == "tests" || it == "tests.rs")
}

/// Files that are long, but not yet too long; worth a line, not a failure.
pub(super) fn long(root: &Path, tracked: &[PathBuf]) -> Vec<String> {
    let code = tracked.iter().filter(|it| it.extension().is_some_and(|it| it == "rs"));
    let mut notes = Vec::new();
    for path in code.filter(|it| !is_test(it)) {
        let count = std::fs::read_to_string(root.join(path)).unwrap_or_default().lines().count();
        if (LINES_WANTED + 1..=LINES_MAX).contains(&count) {
            notes.push(format!("{}: {count} lines", path.display()));
        }
    }
    notes
}

/// Each crate has a section `` ### `folder` ``, and each section a crate.
pub(super) fn architecture(root: &Path, packages: &[Package]) -> Vec<Finding> {
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    let sections: Vec<(usize, &str)> = (1..)
        .zip(text.lines())
        .filter_map(|(number, it)| Some((number, it.strip_prefix("### `")?.split('`').next()?)))
        .collect();
    let mut findings = Vec::new();
    for package in packages {
        if !sections.iter().any(|(_, it)| *it == package.folder) {
            findings.push(format!("ARCHITECTURE.md: add a section ### `{}`", package.folder));
        }
    }
    for (number, section) in &sections {
        if !packages.iter().any(|it| it.folder == *section) {
            findings.push(format!(
                "ARCHITECTURE.md:{number}: no crate lies in `{section}`; remove its section"
            ));
        }
    }
    let count = text.lines().count();
    if ARCHITECTURE_LINES_MAX < count {
        findings.push(format!("ARCHITECTURE.md: shorten it, it has {count} lines"));
    }
    findings.into_iter().map(Finding).collect()
}
