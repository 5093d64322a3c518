//! What an engine prints: into a log file of bounded size, and its last lines kept for
//! `last_error`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdout};
use tokio_util::task::TaskTracker;

const LINES_KEPT: usize = 40;
const LINE_BYTES_MAX: usize = 400;
const CHUNK_BYTES: usize = 8 << 10;
/// Lines of `last_error`; an engine's reason is among its last words.
const LINES_TOLD: usize = 6;
/// The log is moved to `.1` at this size, so twice this is kept.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// How long the pipes may take to run dry after the process is gone.
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) struct Output {
    lines: Mutex<VecDeque<String>>,
    readers: TaskTracker,
}

impl Output {
    /// Reads both pipes until they close.
    pub(crate) fn capture(
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
        log: PathBuf,
    ) -> Arc<Self> {
        let readers = TaskTracker::new();
        let output = Arc::new(Self { lines: Mutex::default(), readers: readers.clone() });
        let file = Arc::new(tokio::sync::Mutex::new(LogFile::new(log)));
        if let Some(pipe) = stdout {
            readers.spawn(Arc::clone(&output).read(pipe, Arc::clone(&file)));
        }
        if let Some(pipe) = stderr {
            readers.spawn(Arc::clone(&output).read(pipe, file));
        }
        readers.close();
        output
    }

    async fn read(
        self: Arc<Self>,
        mut pipe: impl AsyncRead + Unpin,
        file: Arc<tokio::sync::Mutex<LogFile>>,
    ) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut line = Vec::with_capacity(LINE_BYTES_MAX);
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            file.lock().await.write(&chunk[..length]).await;
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
    }

    fn keep(&self, line: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        line.clear();
        if text.is_empty() {
            return;
        }
        let mut kept = self.lines.lock().expect("no holder panics");
        if kept.len() == LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(text);
    }

    /// Waits for the last lines of a process that is gone.
    pub(crate) async fn settle(&self) {
        let _dry = tokio::time::timeout(SETTLE, self.readers.wait()).await;
    }

    /// The last few lines, joined.
    pub(crate) fn last_lines(&self) -> String {
        self.joined(LINES_TOLD)
    }

    /// All lines that are kept, joined.
    pub(crate) fn kept_lines(&self) -> String {
        self.joined(LINES_KEPT)
    }

    fn joined(&self, most: usize) -> String {
        let kept = self.lines.lock().expect("no holder panics");
        let skipped = kept.len().saturating_sub(most);
        kept.iter().skip(skipped).cloned().collect::<Vec<_>>().join(" | ")
    }
}

/// What an engine has said.
pub(super) enum Said {
    Piped(Arc<Output>),
    /// It writes the file itself, and goes on when we are gone.
    File(PathBuf),
}

impl Said {
    pub(super) async fn settle(&self) {
        if let Self::Piped(output) = self {
            output.settle().await;
        }
    }

    pub(super) fn last_lines(&self) -> String {
        match self {
            Self::Piped(output) => output.last_lines(),
            Self::File(path) => tail(path, LINES_TOLD),
        }
    }

    pub(super) fn kept_lines(&self) -> String {
        match self {
            Self::Piped(output) => output.kept_lines(),
            Self::File(path) => tail(path, LINES_KEPT),
        }
    }
}

/// For appending; readable by us alone.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

/// The last few lines of a file, joined, as far as they lie near its end.
fn tail(path: &Path, most: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let bytes = (LINES_KEPT * LINE_BYTES_MAX) as u64;
        let start = file.metadata()?.len().saturating_sub(bytes);
        file.seek(SeekFrom::Start(start))?;
        let mut end = Vec::new();
        file.take(bytes).read_to_end(&mut end)?;
        Ok(end)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|it| !it.is_empty()).collect();
    let cut = |it: &&str| it.chars().take(LINE_BYTES_MAX).collect::<String>();
    let last = &lines[lines.len().saturating_sub(most)..];
    last.iter().map(cut).collect::<Vec<_>>().join(" | ")
}

/// Copies a file that has grown too large to `.1` and empties it: whoever appends to it goes on at
/// its start. What is written between the two is lost.
pub(super) fn trim(path: &Path) {
    let large = std::fs::metadata(path).is_ok_and(|it| LOG_BYTES_MAX <= it.len());
    if !large {
        return;
    }
    let kept = std::fs::copy(path, path.with_extension("log.1"));
    let emptied = File::options().write(true).open(path).and_then(|it| it.set_len(0));
    if let Err(error) = kept.map(drop).and(emptied) {
        tracing::warn!(%error, path = %path.display(), "cannot trim an engine's log");
    }
}

struct LogFile {
    path: PathBuf,
    file: Option<(tokio::fs::File, u64)>,
}

impl LogFile {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// A log that cannot be written is no reason to stop an engine: the output is dropped.
    async fn write(&mut self, bytes: &[u8]) {
        if self.file.as_ref().is_some_and(|(_, size)| LOG_BYTES_MAX <= *size) {
            self.file = None;
            let _moved = tokio::fs::rename(&self.path, self.path.with_extension("log.1")).await;
        }
        if self.file.is_none() {
            let opened = tokio::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&self.path)
                .await;
            let Ok(file) = opened else { return };
            let size = file.metadata().await.map_or(0, |it| it.len());
            self.file = Some((file, size));
        }
        let Some((file, size)) = &mut self.file else { return };
        if file.write_all(bytes).await.is_ok() {
            *size += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests;
