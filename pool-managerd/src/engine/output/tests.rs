//! The log file's bound.

use tempfile::TempDir;

use super::{LOG_BYTES_MAX, LogFile};

#[tokio::test]
async fn a_log_and_its_predecessor_stay_within_their_bound() {
    let folder = TempDir::new().unwrap();
    let mut log = LogFile::new(folder.path().join("p-0.log"));
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..30 {
        log.write(&chunk).await;
    }
    drop(log);
    let sizes: Vec<u64> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|it| *it <= LOG_BYTES_MAX), "{sizes:?}");
}
