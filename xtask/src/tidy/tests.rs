//! Each check fails on a tree that breaks its rule.

use std::path::{Path, PathBuf};

use super::{Package, edges, files};

fn tree(contents: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in contents {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let paths = contents.iter().map(|(path, _)| PathBuf::from(path)).collect();
    (folder, paths)
}

fn package(name: &str, folder: &str, dependencies: &[(&str, bool)]) -> Package {
    Package {
        name: name.into(),
        folder: folder.into(),
        manifest: "[lib]\ndoctest = false\n[lints]\nworkspace = true\n".into(),
        has_lib: true,
        dependencies: dependencies.iter().map(|(it, dev)| ((*it).into(), *dev)).collect(),
    }
}

/// The findings as one text.
fn told(findings: Vec<super::Finding>) -> String {
    findings.into_iter().map(|it| it.0 + "\n").collect()
}

fn text_findings(path: &str, text: &str) -> String {
    let (folder, paths) = tree(&[(path, text)]);
    told(files::check(folder.path(), &paths))
}

#[test]
fn text_rules_hold() {
    assert_eq!(text_findings("a.rs", "//! A.\n"), "");
    assert!(text_findings("a.rs", "fn a() {}\n").contains("say what the file is for"));
    assert!(text_findings("a.rs", "//! A. \n").contains("space at the end"));
    assert!(text_findings("a.md", "a\tb\n").contains("tab"));
    assert!(text_findings("a/mod.rs", "//! A.\n").contains("after its folder"));
    assert!(text_findings("a.yaml", "a: 1 \n").contains("a.yaml:1"));
    assert!(text_findings("a.rs", "#!/bin/sh\nfn a() {}\n").contains("say what"));
    assert_eq!(text_findings("a.rs", "#!/bin/sh\n//! A.\n"), "");
    let long = "//! A.\n".repeat(1_001);
    assert!(text_findings("a.rs", &long).contains("1001 lines"));
    assert_eq!(text_findings("tests/a.rs", &long), "");
}

#[test]
fn every_edge_is_recorded_and_every_record_real() {
    let packages = [package("a", "a", &[("b", false), ("serde", false)]), package("b", "b", &[])];
    let recorded = edges::render(&packages);
    assert!(recorded.ends_with("a -> b\n"), "{recorded}");
    assert_eq!(told(edges::check(&packages, &recorded)), "");
    assert!(told(edges::check(&packages, "")).contains("`a -> b` is new"));
    assert!(told(edges::check(&packages, &(recorded + "b -> a\n"))).contains("`b -> a` is gone"));
}

#[test]
fn forbidden_edges_are_found_even_if_they_are_recorded() {
    let forbidden = |packages: &[Package]| told(edges::check(packages, &edges::render(packages)));
    let core = package("orchestrator-core", "orchestrator-core", &[("serde", false)]);
    assert!(forbidden(&[core]).contains("the core depends on nothing"));
    let api = || package("api", "contracts/api", &[]);
    let contract = package("c", "contracts/c", &[("api", false)]);
    assert!(forbidden(&[api(), contract]).contains("none of our crates"));
    let adapter = package("llamacpp", "worker-adapters/llamacpp", &[("api", false)]);
    assert!(forbidden(&[api(), adapter]).contains("adapters see adapter-api only"));
    let sim = || package("sim", "test-harness/sim", &[]);
    assert!(forbidden(&[sim(), package("a", "a", &[("sim", false)])]).contains("only tests"));
    assert_eq!(forbidden(&[sim(), package("a", "a", &[("sim", true)])]), "");
    let harness = package("b", "test-harness/b", &[("sim", false)]);
    assert_eq!(forbidden(&[sim(), harness]), "");
    let axum = forbidden(&[package("a", "a", &[("axum", false)])]);
    assert!(axum.contains("a/Cargo.toml:1") && axum.contains("only the daemons"), "{axum}");
    let tool = package("xtask", "xtask", &[("sim", false), ("shell", false)]);
    let shell = package("shell", "shell", &[]);
    assert!(forbidden(&[sim(), shell, tool]).contains("`shell`: xtask needs contracts only"));
    let daemon = package("orchestratord", "orchestratord", &[]);
    let user = package("pool-managerd", "pool-managerd", &[("orchestratord", false)]);
    assert!(forbidden(&[daemon, user]).contains("nothing depends on a daemon"));
    let daemon = package("orchestratord", "orchestratord", &[]);
    let generator = package("regen", "tools/regen", &[("orchestratord", false)]);
    assert_eq!(forbidden(&[daemon, generator]), "");
    let mut bare = package("a", "a", &[]);
    bare.manifest.clear();
    let bare = forbidden(&[bare]);
    assert!(bare.contains("[lints]") && bare.contains("doctest"), "{bare}");
}

#[test]
fn architecture_names_each_crate_and_no_other() {
    let (folder, _) = tree(&[("ARCHITECTURE.md", "### `a`\n### `gone`\n")]);
    let packages = [package("a", "a", &[]), package("b", "b", &[])];
    let findings = told(files::architecture(folder.path(), &packages));
    assert!(findings.contains("add a section ### `b`"), "{findings}");
    assert!(findings.contains("ARCHITECTURE.md:2: no crate lies in `gone`"), "{findings}");
}

#[test]
fn long_files_are_noted_before_they_fail() {
    let (folder, paths) = tree(&[("a.rs", &"//! A.\n".repeat(501)), ("b.rs", "//! B.\n")]);
    assert_eq!(files::long(folder.path(), &paths), ["a.rs: 501 lines"]);
}

#[test]
fn a_shipped_configuration_must_parse() {
    let (folder, paths) = tree(&[("config/a.yaml", "queue: {capacty: 3}\n")]);
    let findings = told(super::configurations(folder.path(), &paths));
    assert!(findings.contains("config/a.yaml: line 1: /queue/capacty"), "{findings}");
}

/// What home.yaml shows as defaults must be the defaults: with them written out nothing changes.
#[test]
fn defaults_shown_in_home_yaml_are_the_defaults() {
    // Without a default, or examples.
    const SKIPPED: [&str; 12] = [
        "bind",
        "keys",
        "pool_managers",
        "token_file",
        "port_range",
        "aliases",
        "nvml_library",
        "memory_mib",
        "idle_ttl_ms",
        "split",
        "user",
        "budgets",
    ];
    let text =
        std::fs::read_to_string(crate::root().join("config/home.yaml")).expect("it is there");
    let mut shown = 0;
    let mut written_out = String::new();
    for line in text.lines() {
        let key = line.trim_start().strip_prefix("# ").unwrap_or_default();
        let is_key = key.split_once(':').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
        });
        let is_default = is_key && !SKIPPED.iter().any(|it| key.starts_with(it));
        let indented = line.replacen("# ", "", 1);
        // A section that is commented out as a whole; its keys lie deeper in the comment.
        let deeper = line.starts_with("#   ") && !line.contains('-');
        if is_default || deeper {
            shown += 1;
        }
        written_out += if is_default || deeper { &indented } else { line };
        written_out.push('\n');
    }
    assert!(shown >= 25, "only {shown} defaults were recognized");
    let of = |text: &str| config_schema::parse(text).map_err(|it| it.to_string());
    assert_eq!(of(&written_out), of(&text), "{written_out}");
}

#[test]
fn this_project_ships_valid_configurations() {
    let root = crate::root();
    let tracked = super::tracked(root).expect("git lists files");
    assert!(tracked.iter().any(|it| it == Path::new("config/home.yaml")));
    assert_eq!(told(super::configurations(root, &tracked)), "");
}
