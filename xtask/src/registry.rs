//! Requirement ids: what `.specs` demands, which tests cite it, and which of those passed.
//!
//! `cargo xtask tidy` checks what can be seen without running anything; after the tests ran, the
//! registry is compared with, or written to, `requirements/*.yaml` and `TODO.md`.

mod citations;
mod render;
mod report;
mod specs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use citations::{citations, is_test_file};
use render::Proofs;
use report::Report;
use specs::{Level, Requirement, define, ids, wrong_hyphen};

/// Ids that were given up. They may not come back with another meaning.
const RETIRED: &str = ".specs/retired.md";

/// Requirements, citations, and everything that is wrong with them.
pub(crate) struct Registry {
    known: BTreeMap<String, Requirement>,
    /// Path of a test file and the test in it, by id.
    cited: BTreeMap<String, BTreeSet<(PathBuf, String)>>,
    pub(crate) findings: Vec<String>,
}

impl Registry {
    /// Reads `.specs` and every Rust file among `tracked`.
    pub(crate) fn read(root: &Path, tracked: &[PathBuf]) -> Self {
        let read = |path: &PathBuf| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let kind = |path: &PathBuf, kind: &str| path.extension().is_some_and(|it| it == kind);
        let mut known = BTreeMap::new();
        let mut findings = Vec::new();
        for path in tracked.iter().filter(|it| it.starts_with(".specs") && kind(it, "md")) {
            if path != Path::new(RETIRED) {
                define(path, &read(path), &mut known, &mut findings);
            }
        }
        let mut registry = Self { known, cited: BTreeMap::new(), findings };
        for path in tracked.iter().filter(|it| kind(it, "rs")) {
            // Ids in here are examples.
            let example = ["xtask/src/tidy", "xtask/src/registry", "xtask/src/gates"];
            if !example.iter().any(|it| path.starts_with(it)) {
                registry.cite(path, &read(path));
            }
        }
        registry.uncited();
        registry.reused(root, tracked);
        registry
    }

    fn cite(&mut self, path: &Path, text: &str) {
        for (number, line) in (1..).zip(text.lines()) {
            self.findings.extend(wrong_hyphen(&format!("{}:{number}", path.display()), line));
        }
        let tests = is_test_file(path, text);
        for citation in citations(text) {
            if !self.known.contains_key(&citation.id) {
                let (at, id) = (format!("{}:{}", path.display(), citation.line), citation.id);
                self.findings.push(format!("{at}: {id} is not in .specs; define or correct it"));
                continue;
            }
            if let (true, Some(test)) = (tests, citation.test) {
                self.cited.entry(citation.id).or_default().insert((path.to_owned(), test));
            }
        }
    }

    fn uncited(&mut self) {
        for (id, requirement) in &self.known {
            if requirement.level == Level::Must
                && requirement.implemented
                && !self.cited.contains_key(id)
            {
                let at = &requirement.at;
                let text =
                    format!("{at}: no test cites {id}; add `// {id}` above one that shows it");
                self.findings.push(text);
            }
        }
    }

    /// An id that was in the registry stays there or is retired, and a retired one stays retired.
    fn reused(&mut self, root: &Path, tracked: &[PathBuf]) {
        let retired = std::fs::read_to_string(root.join(RETIRED)).unwrap_or_default();
        let retired: BTreeSet<_> = ids(&retired).into_iter().collect();
        for id in retired.iter().filter(|it| self.known.contains_key(*it)) {
            self.findings
                .push(format!("{RETIRED}: {id} is defined again; give the new meaning a new id"));
        }
        for path in tracked.iter().filter(|it| it.starts_with("requirements")) {
            let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            let listed = text.lines().filter_map(|it| it.strip_prefix("- id: "));
            for id in listed.filter(|it| !self.known.contains_key(*it) && !retired.contains(*it)) {
                let at = path.display();
                self.findings.push(format!(
                    "{at}: {id} is gone from .specs; list it in {RETIRED} with the reason"
                ));
            }
        }
    }

    /// Everything that our own tables name must exist.
    fn tables(&mut self) {
        let families = metrics::ORCHESTRATOR.iter().chain(metrics::POOL_MANAGER);
        let metrics = families.map(|it| (format!("metric {}", it.name), it.requirement));
        let codes = api_types::ErrorCode::ALL.iter();
        let codes = codes.map(|it| (format!("error code {}", it.as_str()), it.requirement()));
        for (what, id) in metrics.chain(codes) {
            if !self.known.contains_key(id) {
                self.findings.push(format!("{what} stands for `{id}`, which is not in .specs"));
            }
        }
    }

    /// The tests of each id that were executed and passed; a MUST of an implemented section without
    /// one is a finding.
    fn prove(&mut self, report: &Report, packages: &BTreeMap<PathBuf, String>) -> Proofs {
        let mut proofs = Proofs::new();
        for (id, tests) in &self.cited {
            for (path, test) in tests {
                let module = module(path);
                let package = path.ancestors().find_map(|it| packages.get(it));
                if let Some(name) = package.and_then(|it| report.passed(it, &module, test)) {
                    proofs.entry(id.clone()).or_default().push(name);
                }
            }
        }
        for (id, it) in &self.known {
            if it.level == Level::Must && it.implemented && !proofs.contains_key(id) {
                let at = &it.at;
                self.findings.push(format!("{at}: no executed and passed test cites {id}"));
            }
        }
        proofs.values_mut().for_each(|it| it.sort());
        proofs
    }
}

/// The module that a file is: `streams` for `tests/it/streams.rs`, `tests` for `src/foo/tests.rs`.
fn module(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Compares the registry with the committed files, or writes them. Silent when all is well and
/// nothing is written, so that the test runner's lines stay the last.
pub(crate) fn run(root: &Path, tracked: &[PathBuf], check: bool) -> anyhow::Result<()> {
    let mut registry = Registry::read(root, tracked);
    registry.tables();
    let proofs = registry.prove(&report::read(root)?, &packages(root, tracked));
    let files = render::files(&registry.known, &proofs);
    let is_stale = |path: &str, content: &str| {
        !std::fs::read_to_string(root.join(path)).is_ok_and(|it| it == content)
    };
    let stale: Vec<_> = files.iter().filter(|(path, content)| is_stale(path, content)).collect();
    for path in tracked.iter().filter(|it| it.starts_with("requirements")) {
        if !files.contains_key(&*path.to_string_lossy()) {
            registry.findings.push(format!("{}: no id has this area; remove it", path.display()));
        }
    }
    if check {
        let of = |path: &String| format!("{path} is stale; run `cargo xtask regen`");
        registry.findings.extend(stale.iter().map(|(path, _)| of(path)));
    }
    for finding in &registry.findings {
        eprintln!("registry: {finding}");
    }
    if !registry.findings.is_empty() {
        bail!("the registry has {} findings", registry.findings.len());
    }
    for (path, content) in stale {
        std::fs::create_dir_all(root.join("requirements"))?;
        std::fs::write(root.join(path), content)
            .with_context(|| format!("cannot write `{path}`"))?;
        println!("regen: wrote {path}");
    }
    Ok(())
}

/// The crate of each folder that has a manifest.
fn packages(root: &Path, tracked: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let manifests = tracked.iter().filter(|it| it.file_name().is_some_and(|it| it == "Cargo.toml"));
    let named = manifests.filter_map(|path| {
        let text = std::fs::read_to_string(root.join(path)).ok()?;
        let name = text.lines().find_map(|it| it.strip_prefix("name = \""))?;
        Some((path.parent()?.to_owned(), name.trim_end_matches('"').to_owned()))
    });
    named.collect()
}

#[cfg(test)]
mod tests;
