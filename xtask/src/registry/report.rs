//! The test runner's own report (JUnit), which says what was executed and passed.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;

/// Where nextest's profile `ci` writes it, relative to the project's folder.
pub(crate) const REPORT: &str = "target/nextest/ci/junit.xml";

#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Binary id and name of each test that passed, as in `orchestratord::it streams::a_test`.
    passed: BTreeSet<(String, String)>,
}

pub(crate) fn read(root: &Path) -> anyhow::Result<Report> {
    let path = root.join(REPORT);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("no test report at `{REPORT}`; run `cargo xtask test`, whose results it holds")
    })?;
    parse(&text)
}

pub(crate) fn parse(text: &str) -> anyhow::Result<Report> {
    let document = roxmltree::Document::parse(text).context("the test report is no XML")?;
    let cases = document.descendants().filter(|it| it.has_tag_name("testcase"));
    let passed = cases.filter(|case| {
        let bad = |it: roxmltree::Node<'_, '_>| {
            ["failure", "error", "skipped"].iter().any(|name| it.has_tag_name(*name))
        };
        !case.children().any(bad)
    });
    let named = passed.filter_map(|it| {
        Some((it.attribute("classname")?.to_owned(), it.attribute("name")?.to_owned()))
    });
    Ok(Report { passed: named.collect() })
}

impl Report {
    /// The full name of a test of `package`, if it passed. Where tests of one name are in several
    /// modules, `module` tells.
    pub(crate) fn passed(&self, package: &str, module: &str, test: &str) -> Option<String> {
        let ours = self.passed.iter().filter(|(binary, name)| {
            binary.split("::").next() == Some(package) && name.rsplit("::").next() == Some(test)
        });
        let here = |name: &str| {
            let path: Vec<_> = name.split("::").collect();
            path.len() < 2 || path[path.len() - 2] == module || module == "main"
        };
        let mut ours: Vec<_> = ours.collect();
        if ours.len() > 1 {
            ours.retain(|(_, name)| here(name));
        }
        ours.first().map(|(binary, name)| format!("{binary} {name}"))
    }
}
