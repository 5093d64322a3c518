//! When a file is read again, and when it is not.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::Digests;

struct Place {
    digests: Digests,
    model: PathBuf,
    memory: PathBuf,
    _folder: TempDir,
}

fn place(content: &str) -> Place {
    let folder = TempDir::new().unwrap();
    let (model, memory) = (folder.path().join("model"), folder.path().join("digests.json"));
    std::fs::write(&model, content).unwrap();
    Place { digests: Digests::new(memory.clone()), model, memory, _folder: folder }
}

impl Place {
    fn digest(&self) -> String {
        self.digests.of_file(&self.model, &CancellationToken::new()).unwrap()
    }
}

/// `printf abc | sha256sum`
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn a_file_that_looks_unchanged_is_not_read_again_even_by_the_next_manager() {
    let place = place("abc");
    assert_eq!(place.digest(), ABC);
    let file = File::options().write(true).open(&place.model).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    std::fs::write(&place.model, "xyz").unwrap();
    file.set_modified(modified).unwrap();
    let next = Digests::new(place.memory.clone());
    assert_eq!(next.of_file(&place.model, &CancellationToken::new()).unwrap(), ABC);
}

#[test]
fn a_file_that_changed_is_read_again() {
    let place = place("abcd");
    assert_ne!(place.digest(), ABC);
    std::fs::write(&place.model, "abc").unwrap();
    assert_eq!(place.digest(), ABC);
}

#[test]
fn a_memory_that_is_damaged_is_replaced() {
    let place = place("abc");
    std::fs::write(&place.memory, "{\"half").unwrap();
    assert_eq!(place.digest(), ABC);
    assert!(std::fs::read_to_string(&place.memory).unwrap().contains(ABC));
}

#[test]
fn a_stop_ends_the_reading() {
    let place = place("abc");
    let stop = CancellationToken::new();
    stop.cancel();
    let error = place.digests.of_file(&place.model, &stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(!place.memory.exists());
}
