//! NVML for machines without a GPU: a real shared library with NVML's C symbols, so that the code
//! that asks a driver runs as it does in production (dlopen, symbols, structs).
//!
//! What it tells stands in the JSON file that `FAKE_NVML_FILE` names; it is read anew at each call,
//! so that a test may change it while a process runs. See [`Machine`] for the format. Beside the
//! processes that the file names, a device counts every live process of this machine whose
//! environment names it in `CUDA_VISIBLE_DEVICES` and says with `FAKE_VRAM_MIB` how much it takes of
//! each device named there: its memory is there for as long as it lives, and no longer.
//!
//! Signatures and constants: NVML API reference, <https://docs.nvidia.com/deploy/nvml-api/>.

mod machine;
mod processes;
mod symbols;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

pub use machine::{Gpu, Machine, Process};

/// The environment variable that names the file.
pub const FILE: &str = "FAKE_NVML_FILE";

/// Where the shared library is; builds it if this has not been done yet.
///
/// # Errors
/// When cargo cannot build it.
pub fn library_path() -> Result<&'static PathBuf> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = PATH.get() {
        return Ok(path);
    }
    let path = built()?;
    Ok(PATH.get_or_init(|| path))
}

/// Always through cargo, which knows whether it is up to date, and builds for the same folder as the
/// test that asks.
fn built() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this test")?;
    let profile = own.ancestors().nth(2).context("a test lies in target/<profile>/deps")?;
    let target = profile.parent().context("a profile lies in the target folder")?;
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "fake-nvml", "--lib", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let output = command.output().context("running cargo")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(profile.join("libfake_nvml.so"))
}
