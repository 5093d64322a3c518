//! `cargo xtask regen`: nothing by hand that a program can write.

use crate::process::{cargo, run as run_command};
use crate::{registry, root, tidy};

/// What follows from the code, then what follows from the last full test run.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    from_code(check)?;
    from_tests(check)
}

/// A program of its own, because it needs the daemons, and xtask builds without them.
pub(crate) fn from_code(check: bool) -> anyhow::Result<()> {
    let mut command = cargo(&["run", "--quiet", "--package", "regen", "--"]);
    if check {
        command.arg("--check");
    }
    run_command(&mut command)
}

/// `requirements/*.yaml` and `TODO.md`.
pub(crate) fn from_tests(check: bool) -> anyhow::Result<()> {
    registry::run(root(), &tidy::tracked(root())?, check)
}
