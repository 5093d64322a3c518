//! Who depends on whom. A new edge is a reviewed diff; some may never exist.

use std::fmt::Write;

use super::{Finding, Package};

/// One line per edge: `from -> to`, tests' edges marked.
pub(super) fn render(packages: &[Package]) -> String {
    let mut lines = Vec::new();
    for package in packages {
        for (name, dev) in &package.dependencies {
            if packages.iter().any(|it| it.name == *name) {
                let mark = if *dev { " (dev)" } else { "" };
                lines.push(format!("{} -> {name}{mark}", package.name));
            }
        }
    }
    lines.sort();
    // A crate may be named once per target.
    lines.dedup();
    let mut text =
        String::from("# Written by `cargo xtask tidy --write`; a new line is a decision.\n");
    for line in lines {
        writeln!(text, "{line}").expect("a string takes every line");
    }
    text
}

pub(super) fn check(packages: &[Package], recorded: &str) -> Vec<Finding> {
    let real = render(packages);
    let mut findings = Vec::new();
    for line in real.lines().filter(|it| !recorded.lines().any(|known| known == *it)) {
        findings.push(format!(
            "ci/dependency-edges.txt: `{line}` is new; `cargo xtask tidy --write` records it"
        ));
    }
    for (number, line) in (1..).zip(recorded.lines()) {
        if !real.lines().any(|it| it == line) {
            let at = format!("ci/dependency-edges.txt:{number}");
            findings.push(format!("{at}: `{line}` is gone; `cargo xtask tidy --write` removes it"));
        }
    }
    for package in packages {
        for (name, dev) in &package.dependencies {
            let ours = packages.iter().find(|it| it.name == *name);
            if let Some(why) = forbidden(package, name, ours, *dev) {
                let at = line_of(&package.manifest, name);
                findings
                    .push(format!("{}/Cargo.toml:{at}: remove `{name}`: {why}", package.folder));
            }
        }
        let lints = ["[lints]\nworkspace = true", "\nlints.workspace = true"];
        if !lints.iter().any(|it| package.manifest.contains(it)) {
            findings.push(format!("{}/Cargo.toml: add `[lints] workspace = true`", package.folder));
        }
        if package.has_lib && !package.manifest.contains("doctest = false") {
            findings.push(format!("{}/Cargo.toml: add `[lib] doctest = false`", package.folder));
        }
    }
    findings.into_iter().map(Finding).collect()
}

/// The line on which a manifest names a dependency; 1 if it is spelled in a way of its own.
fn line_of(manifest: &str, name: &str) -> usize {
    let named =
        |line: &str| line.strip_prefix(name).is_some_and(|it| it.starts_with([' ', '.', '=']));
    manifest.lines().position(named).map_or(1, |it| it + 1)
}

fn forbidden(
    from: &Package,
    name: &str,
    ours: Option<&Package>,
    dev: bool,
) -> Option<&'static str> {
    let to = ours.map(|it| it.folder.as_str());
    let is_ours = to.is_some();
    let within = |folder: &str, family: &str| folder.starts_with(family);
    if dev {
        return None;
    }
    if within(&from.folder, "contracts/") && is_ours {
        return Some("contracts depend on none of our crates");
    }
    if from.name == "orchestrator-core" {
        return Some("the core depends on nothing");
    }
    if within(&from.folder, "worker-adapters/") && is_ours && name != "adapter-api" {
        return Some("adapters see adapter-api only");
    }
    let harness = |folder: &str| within(folder, "test-harness/");
    if to.is_some_and(harness) && !harness(&from.folder) {
        return Some("only tests may use the test harness");
    }
    if from.name == "xtask" && to.is_some_and(|it| !within(it, "contracts/")) {
        return Some("xtask needs contracts only, so that it builds in seconds");
    }
    let daemon = |it: &str| ["orchestratord", "pool-managerd"].contains(&it);
    if name == "axum" && !daemon(&from.name) {
        return Some("only the daemons serve HTTP");
    }
    // It prints what the daemons' code says, and is no part of the product.
    if daemon(name) && from.folder != "tools/regen" {
        return Some("nothing depends on a daemon");
    }
    None
}
