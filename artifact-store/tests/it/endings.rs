//! Writes that do not come to their end: no room, or no process any more.

use std::path::Path;
use std::process::{Command, Stdio};

use artifact_store::{Durability, Store, WriteError};
use tempfile::TempDir;

use crate::blobs::{files, store};

/// Names the folder to a process of a test.
const FOLDER: &str = "ARTIFACT_TEST_FOLDER";

/// `setup`, then this test in a process of its own, where the folder is named.
fn in_process(setup: &str, test: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{setup} exec \"$0\" --exact {test} --nocapture")]);
    command.arg(std::env::current_exe().unwrap()).env(FOLDER, folder);
    command
}

/// A file may have 64 KiB, and what exceeds that leaves nothing.
/// OC-ARTIFACT-8003
#[test]
fn no_room() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        let folder = TempDir::new().unwrap();
        // Else the limit would end the process. Blocks of 512 bytes, as POSIX has it.
        let setup = "trap '' XFSZ; ulimit -f 128;";
        let output = in_process(setup, "endings::no_room", folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    };
    let store = store(Path::new(&folder));
    let small = store.put("a", b"small").unwrap();
    let refused = store.put("a", &vec![b'x'; 1 << 20]);
    assert!(matches!(refused, Err(WriteError::Full)), "{refused:?}");
    assert_eq!(files(Path::new(&folder)).len(), 1);
    assert_eq!(store.get("a", &small).unwrap(), b"small");
}

/// Blobs of 1 MiB until the process is killed: each that has its name is whole.
/// OC-ARTIFACT-8003, OC-ARTIFACT-8006
#[test]
fn killed() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let store = store(Path::new(&folder));
        for number in 0_u64.. {
            store.put("a", &number.to_le_bytes().repeat(1 << 17)).unwrap();
        }
    }
    for round in 1..=3 {
        let folder = TempDir::new().unwrap();
        let mut command = in_process("", "endings::killed", folder.path());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        while files(folder.path()).len() < 3 * round {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::new(folder.path().join("artifacts"), Durability::Process);
        let before = files(folder.path()).len();
        let cut_off = store.sweep(|owner, id| {
            assert_eq!(store.get(owner, id).unwrap().len(), 1 << 20);
            true
        });
        assert!(cut_off.unwrap() <= 1);
        assert!(before - 1 <= files(folder.path()).len());
    }
}
