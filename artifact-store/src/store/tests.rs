//! When the disk is waited for.

use std::cell::RefCell;
use std::fs::File;
use std::io;

use tempfile::TempDir;

use super::{Durability, Store};

thread_local! {
    static SYNCED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

fn record(file: &File) -> io::Result<()> {
    let kind = if file.metadata()?.is_dir() { "folder" } else { "file" };
    SYNCED.with_borrow_mut(|it| it.push(kind));
    Ok(())
}

/// OC-ARTIFACT-8004
#[test]
fn a_file_is_on_the_disk_before_it_has_its_name_and_its_folders_after() {
    let folder = TempDir::new().unwrap();
    let mut store = Store::new(folder.path().join("artifacts"), Durability::Disk);
    assert!(std::ptr::fn_addr_eq(store.sync, File::sync_all as fn(&File) -> io::Result<()>));
    store.sync = record;
    store.put("a", b"text").unwrap();
    let synced = SYNCED.take();
    assert_eq!(synced, ["folder", "folder", "folder", "file", "folder"]);
    store.put("a", b"text").unwrap();
    assert_eq!(SYNCED.take(), ["file", "folder"]);
    let process = Store::new(folder.path().join("artifacts"), Durability::Process);
    process.put("a", b"other").unwrap();
    assert_eq!(SYNCED.take(), Vec::<&str>::new());
}
