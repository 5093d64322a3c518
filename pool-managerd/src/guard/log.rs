//! What an engine prints: into a log file of bounded size, and its last lines kept for `last_error`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

const LINES_KEPT: usize = 40;
const LINE_BYTES_MAX: usize = 400;
const CHUNK_BYTES: usize = 8 << 10;
/// The log is moved to `.1` at this size, so twice this is kept.
const LOG_BYTES_MAX: u64 = 8 << 20;

pub(super) struct Log {
    path: PathBuf,
    file: Option<(File, u64)>,
    lines: VecDeque<String>,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, lines: VecDeque::new() }
    }

    /// Until the end of the output; its last lines.
    pub(super) fn copy(mut self, output: &mut impl Read) -> String {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut line = Vec::with_capacity(LINE_BYTES_MAX);
        while let Ok(length @ 1..) = output.read(&mut chunk) {
            self.write(&chunk[..length]);
            for byte in &chunk[..length] {
                match byte {
                    b'\n' => self.keep(&mut line),
                    _ if line.len() < LINE_BYTES_MAX => line.push(*byte),
                    // A line may be endless; its start says what it is.
                    _ => {}
                }
            }
        }
        self.keep(&mut line);
        Vec::from(self.lines).join("\n")
    }

    fn keep(&mut self, line: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        line.clear();
        if text.is_empty() {
            return;
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }

    /// A log that cannot be written is no reason to stop an engine: the output is dropped.
    fn write(&mut self, bytes: &[u8]) {
        if self.file.as_ref().is_some_and(|(_, size)| LOG_BYTES_MAX <= *size) {
            self.file = None;
            let _moved = std::fs::rename(&self.path, self.path.with_extension("log.1"));
        }
        if self.file.is_none() {
            let mut options = File::options();
            let opened = options.create(true).append(true).mode(0o600).open(&self.path);
            let Ok(file) = opened else { return };
            let size = file.metadata().map_or(0, |it| it.len());
            self.file = Some((file, size));
        }
        let Some((file, size)) = &mut self.file else { return };
        if file.write_all(bytes).is_ok() {
            *size += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::{LOG_BYTES_MAX, Log};

    #[test]
    fn a_log_and_its_predecessor_stay_within_their_bound() {
        let folder = TempDir::new().unwrap();
        let mut log = Log::new(folder.path().join("p-0.log"));
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..30 {
            log.write(&chunk);
        }
        drop(log);
        let sizes: Vec<u64> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|it| it.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|it| *it <= LOG_BYTES_MAX), "{sizes:?}");
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        let folder = TempDir::new().unwrap();
        let said: String =
            (0..100).map(|it| format!("line {it} {}\n\n", "x".repeat(500))).collect();
        let log = Log::new(folder.path().join("p-0.log"));
        let lines = log.copy(&mut said.as_bytes());
        assert_eq!(lines.lines().count(), 40);
        assert!(lines.starts_with("line 60 x") && lines.lines().all(|it| it.len() == 400));
    }
}
