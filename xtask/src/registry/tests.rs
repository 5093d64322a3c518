//! Each rule of the registry, broken.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Registry;
use super::citations::citations;
use super::report::{REPORT, parse};

const SPEC: &str = "# A\n- **ORCH-1234** (MUST) hold.\n";
const TEST: &str = "// ORCH-1234\n#[test]\nfn it_holds() {\n    works();\n}\n";

fn tree(files: &[(&str, &str)]) -> (TempDir, Vec<PathBuf>) {
    let folder = TempDir::new().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    (folder, files.iter().map(|(path, _)| PathBuf::from(path)).collect())
}

fn findings(files: &[(&str, &str)]) -> String {
    let (folder, paths) = tree(files);
    Registry::read(folder.path(), &paths).findings.join("\n")
}

fn of(spec: &str, test: &str) -> String {
    findings(&[(".specs/a.md", spec), ("tests/a.rs", test)])
}

#[test]
fn requirements_and_tests_are_paired() {
    assert_eq!(of(SPEC, TEST), "");
    assert!(of(SPEC, "").contains("no test cites ORCH-1234"));
    let unknown = TEST.replace("ORCH-1234", "ORCH-1234, OC-CTRL-9999");
    assert!(of(SPEC, &unknown).contains("tests/a.rs:1: OC-CTRL-9999 is not in"));
    assert!(of(&SPEC.repeat(2), TEST).contains("is defined at"));
    assert!(of("- **ORCH-12** (MUST) hold.\n", "").contains("write `- **ID**"));
    assert!(of(&SPEC.replace("MUST", "MIGHT"), "").contains("no level"));
    assert_eq!(of(&SPEC.replace("# A", "# A, not yet"), ""), "");
    assert_eq!(of(&SPEC.replace("MUST", "SHOULD"), ""), "");
    assert_eq!(of("It takes 1\u{2013}2 s.\n- **Note** that.\n", ""), "");
}

#[test]
fn look_alike_hyphens_are_found() {
    let look_alike = SPEC.replace("ORCH-1", "ORCH\u{2011}1");
    let found = of(&look_alike, "");
    assert!(found.contains(".specs/a.md:2") && found.contains("plain hyphen"), "{found}");
    assert!(of("", "// ORCH\u{2013}1234").contains("tests/a.rs:1"));
}

#[test]
fn a_citation_outside_a_test_proves_nothing() {
    let cited = |path: &str, text: &str| findings(&[(".specs/a.md", SPEC), (path, text)]);
    assert!(cited("src/a.rs", "// ORCH-1234\n").contains("no test cites"));
    assert!(cited("tests/a.rs", "// ORCH-1234\nfn helper() {\n}\n").contains("no test cites"));
    assert_eq!(cited("src/a.rs", TEST), "");
}

#[test]
fn an_id_belongs_to_the_test_below_it_or_around_it() {
    let text = "//! ORCH-0001\n\nfn helper() {\n    // ORCH-0002\n}\n\n// ORCH-0003\n\
                #[tokio::test(flavor = \"x\")]\nasync fn first() {\n    if a {\n    }\n    \
                // ORCH-0004\n}\n\nproptest! {\n    // ORCH-0005\n    #[test]\n    fn second(x in 0..3) \
                {\n    }\n}\n// ORCH-0006\n";
    let found: Vec<_> =
        citations(text).into_iter().map(|it| (it.id, it.test.unwrap_or_default())).collect();
    let expected = [
        ("ORCH-0001", ""),
        ("ORCH-0002", ""),
        ("ORCH-0003", "first"),
        ("ORCH-0004", "first"),
        ("ORCH-0005", "second"),
        ("ORCH-0006", ""),
    ];
    assert_eq!(found, expected.map(|(id, test)| (id.to_owned(), test.to_owned())));
}

#[test]
fn an_id_that_was_given_up_does_not_come_back() {
    let listed = ("requirements/orch.yaml", "- id: ORCH-1234\n");
    let gone = findings(&[(".specs/a.md", ""), listed]);
    assert!(gone.contains("ORCH-1234 is gone from .specs"), "{gone}");
    let retired = (".specs/retired.md", "- ORCH-1234: never built\n");
    assert_eq!(findings(&[(".specs/a.md", ""), listed, retired]), "");
    let back = findings(&[(".specs/a.md", SPEC), ("tests/a.rs", TEST), retired]);
    assert!(back.contains("is defined again"), "{back}");
}

fn junit(case: &str) -> String {
    format!("<testsuites><testsuite name=\"x::it\">{case}</testsuite></testsuites>")
}

/// What a report proves, or what is found to be missing.
fn prove(report: &str) -> Result<Vec<String>, String> {
    let files = [
        (".specs/a.md", SPEC),
        ("x/Cargo.toml", "[package]\nname = \"x\"\n"),
        ("x/tests/it/a.rs", TEST),
        (REPORT, report),
    ];
    let (folder, mut paths) = tree(&files);
    paths.pop();
    let root: &Path = folder.path();
    let mut registry = Registry::read(root, &paths);
    assert_eq!(registry.findings, Vec::<String>::new());
    let report = super::report::read(root).unwrap();
    let mut proofs = registry.prove(&report, &super::packages(root, &paths));
    proofs.remove("ORCH-1234").ok_or_else(|| registry.findings.join("\n"))
}

#[test]
fn only_an_executed_and_passed_test_proves() {
    let case = r#"<testcase name="a::it_holds" classname="x::it"/>"#;
    assert_eq!(prove(&junit(case)), Ok(vec!["x::it a::it_holds".to_owned()]));
    let failed = case.replace("/>", "><failure/></testcase>");
    let skipped = case.replace("/>", "><skipped/></testcase>");
    let other = case.replace("it_holds", "it_hold");
    let elsewhere = case.replace("x::it", "y::it");
    for report in [&failed, &skipped, &other, &elsewhere, ""] {
        let found = prove(&junit(report)).unwrap_err();
        assert!(found.contains("no executed and passed test cites ORCH-1234"), "{found}");
    }
    assert!(parse("no XML").is_err());
}
