//! `cargo xtask tidy`: what is written twice, or only agreed upon, is checked here.

mod edges;
mod files;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::process::cargo;
use crate::registry::Registry;

/// One thing that is not as agreed, with where and the fix.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding(pub(crate) String);

pub(crate) fn run(root: &Path, write: bool) -> anyhow::Result<()> {
    let packages = packages(root)?;
    let edges_file = root.join("ci/dependency-edges.txt");
    if write {
        std::fs::write(&edges_file, edges::render(&packages))
            .with_context(|| format!("cannot write `{}`", edges_file.display()))?;
        println!("wrote {}", edges_file.display());
    }
    let tracked = tracked(root)?;
    let recorded = std::fs::read_to_string(&edges_file).unwrap_or_default();
    let mut findings = files::check(root, &tracked);
    findings.extend(edges::check(&packages, &recorded));
    findings.extend(files::architecture(root, &packages));
    findings.extend(Registry::read(root, &tracked).findings.into_iter().map(Finding));
    findings.extend(configurations(root, &tracked));
    for Finding(text) in &findings {
        eprintln!("tidy: {text}");
    }
    for note in files::long(root, &tracked) {
        println!("tidy: note: {note}");
    }
    if findings.is_empty() {
        println!("tidy: {} files and {} crates are in order", tracked.len(), packages.len());
        return Ok(());
    }
    bail!("tidy has {} findings", findings.len());
}

/// A crate of ours.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the project's folder.
    pub(crate) folder: String,
    pub(crate) manifest: String,
    pub(crate) has_lib: bool,
    /// Name, and whether it is for tests only.
    pub(crate) dependencies: Vec<(String, bool)>,
}

fn packages(root: &Path) -> anyhow::Result<Vec<Package>> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut packages = packages
        .iter()
        .map(|it| package(root, it).context("a package of cargo metadata"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

fn package(root: &Path, package: &serde_json::Value) -> Option<Package> {
    let manifest = Path::new(package["manifest_path"].as_str()?);
    let folder = manifest.parent()?.strip_prefix(root).ok()?;
    let dependencies = package["dependencies"].as_array()?.iter().filter_map(|it| {
        Some((it["name"].as_str()?.to_owned(), it["kind"].as_str() == Some("dev")))
    });
    let is_lib = |it: &serde_json::Value| it["kind"].as_array().is_some_and(|it| it[0] == "lib");
    Some(Package {
        name: package["name"].as_str()?.to_owned(),
        folder: folder.to_str()?.to_owned(),
        manifest: std::fs::read_to_string(manifest).ok()?,
        has_lib: package["targets"].as_array()?.iter().any(is_lib),
        dependencies: dependencies.collect(),
    })
}

/// What git knows or would add, so that scratch files do not count.
pub(crate) fn tracked(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .context("cannot run git")?;
    let text = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    let files = text.split('\0').filter(|it| !it.is_empty()).map(PathBuf::from);
    Ok(files.filter(|it| root.join(it).is_file()).collect())
}

/// Shipped configurations are valid.
fn configurations(root: &Path, tracked: &[PathBuf]) -> Vec<Finding> {
    let shipped = tracked
        .iter()
        .filter(|it| it.starts_with("config") && it.extension().is_some_and(|it| it == "yaml"));
    let mut findings = Vec::new();
    for path in shipped {
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        if let Err(error) = config_schema::parse(&text) {
            findings.extend(
                error.problems.iter().map(|it| Finding(format!("{}: {it}", path.display()))),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests;
