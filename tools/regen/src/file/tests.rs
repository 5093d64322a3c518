//! Writing, comparing, and that the second run finds nothing.

use super::{Outcome, sync};

#[test]
fn a_stale_file_is_told_once_and_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = |text: &str, check: bool| sync(folder.path(), "a.yaml", text, check).unwrap();
    assert_eq!(run("a\nb\n", true), Outcome::Stale("line 1: `a`".into()));
    assert!(!folder.path().join("a.yaml").exists());
    assert_eq!(run("a\nb\n", false), Outcome::Written("line 1: `a`".into()));
    assert_eq!(run("a\nb\n", false), Outcome::Fresh);
    assert_eq!(run("a\nc\n", true), Outcome::Stale("line 2: `c`".into()));
    assert_eq!(run("a\n", true), Outcome::Stale("line 2 and what follows is gone".into()));
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = sync(folder.path(), "no/a.yaml", "a", false).unwrap_err();
    assert_eq!(error.to_string(), "cannot write `no/a.yaml`");
}
