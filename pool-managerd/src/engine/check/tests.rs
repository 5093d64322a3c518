//! What is refused before a load, beyond what the daemon's tests show.

use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

use super::{CheckError, Needs, check};

#[test]
fn a_pipe_is_refused_without_waiting_for_its_writer() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model.gguf");
    mkfifoat(CWD, &model, Mode::RUSR).unwrap();
    let refused = check(&Needs { model, device_bytes: u64::MAX });
    assert!(matches!(refused, Err(CheckError::NotFile { .. })), "{refused:?}");
}

#[test]
fn a_file_that_is_shorter_than_its_magic_is_told_with_what_it_holds() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model.gguf");
    std::fs::write(&model, "GG").unwrap();
    let refused = check(&Needs { model, device_bytes: u64::MAX }).unwrap_err().to_string();
    assert!(refused.ends_with("it starts with \"GG\", expected \"GGUF\""), "{refused}");
}
