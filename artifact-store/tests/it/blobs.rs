//! What is put is what is got.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use artifact_store::{BlobId, Durability, ReadError, Store};
use tempfile::TempDir;

/// SHA-256 of `abc`, as FIPS 180-2 has it.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

pub(crate) fn store(folder: &Path) -> Store {
    Store::new(folder.join("artifacts"), Durability::Process)
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|it| it.unwrap().path());
    paths.flat_map(|it| if it.is_dir() { files(&it) } else { vec![it] }).collect()
}

/// OC-ARTIFACT-8001
#[test]
fn the_name_is_the_sha_256_and_the_same_content_is_one_file() {
    let folder = TempDir::new().unwrap();
    let store = store(folder.path());
    let id = store.put("a", b"abc").unwrap();
    assert_eq!(id.to_string(), format!("sha256:{ABC}"));
    assert_eq!(store.put("a", b"abc").unwrap(), id);
    assert_eq!(files(folder.path()).len(), 1);
    assert!(files(folder.path())[0].ends_with(format!("ba/{ABC}")));
    assert_eq!(store.get("a", &id).unwrap(), b"abc");
    assert_eq!(id.to_string().parse(), Ok(id));
    for wrong in ["", ABC, "sha256:", &format!("sha256:{}", ABC.to_uppercase()), "sha256:ba78"] {
        assert!(wrong.parse::<BlobId>().is_err(), "{wrong}");
    }
    let empty = store.put("a", b"").unwrap();
    assert_eq!(store.get("a", &empty).unwrap(), b"");
}

/// OC-ARTIFACT-8001, OC-ARTIFACT-8002
#[test]
fn owners_share_nothing() {
    let folder = TempDir::new().unwrap();
    let store = store(folder.path());
    let id = store.put("a", b"abc").unwrap();
    assert!(matches!(store.get("b", &id), Err(ReadError::Absent(it)) if it == id));
    store.put("b", b"abc").unwrap();
    // Names that mean something to a file system are names here.
    store.put("..", b"abc").unwrap();
    assert_eq!(files(&folder.path().join("artifacts")).len(), 3);
    store.remove("a", &id).unwrap();
    store.remove("a", &id).unwrap();
    assert!(matches!(store.get("a", &id), Err(ReadError::Absent(_))));
    assert_eq!(store.get("b", &id).unwrap(), b"abc");
}

/// OC-ARTIFACT-8002, OC-ARTIFACT-8003, ORCH-3042
#[test]
fn other_bytes_are_damage_and_writing_again_mends_it() {
    let folder = TempDir::new().unwrap();
    let store = store(folder.path());
    let id = store.put("a", b"a long plan").unwrap();
    let file = files(folder.path()).remove(0);
    for damage in [&b"a long plam"[..], b"a long", b""] {
        fs::write(&file, damage).unwrap();
        assert!(matches!(store.get("a", &id), Err(ReadError::Damaged(it)) if it == id));
    }
    assert_eq!(store.put("a", b"a long plan").unwrap(), id);
    assert_eq!(store.get("a", &id).unwrap(), b"a long plan");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(matches!(store.get("a", &id), Err(ReadError::Failed { .. })));
}

/// OC-ARTIFACT-8005
#[test]
fn folders_and_files_are_for_their_owner_only() {
    let folder = TempDir::new().unwrap();
    store(folder.path()).put("a", b"abc").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = files(folder.path()).remove(0);
    assert_eq!(mode(&file), 0o600);
    for above in file.ancestors().skip(1).take(3) {
        assert_eq!(mode(above), 0o700, "{}", above.display());
    }
}

/// OC-ARTIFACT-8006
#[test]
fn a_sweep_removes_what_was_cut_off_and_what_nobody_names_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let store = store(folder.path());
    assert_eq!(store.sweep(|_, _| false).unwrap(), 0);
    let [kept, gone] = [b"kept", b"gone"].map(|it| store.put("a", it).unwrap());
    store.put("b", b"kept").unwrap();
    let beside = files(folder.path()).remove(0).parent().unwrap().to_owned();
    fs::write(beside.join("unfinished-x1y2z3"), "half").unwrap();
    fs::write(beside.join("notes.txt"), "an operator's").unwrap();
    fs::write(folder.path().join("artifacts/README"), "an operator's").unwrap();
    assert_eq!(store.sweep(|owner, id| owner == "a" && *id == kept).unwrap(), 3);
    assert_eq!(store.get("a", &kept).unwrap(), b"kept");
    assert!(matches!(store.get("a", &gone), Err(ReadError::Absent(_))));
    assert_eq!(files(folder.path()).len(), 3);
}
