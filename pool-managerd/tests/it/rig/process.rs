//! Processes by their id, without owning them.

use std::path::Path;
use std::process::Child;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};

/// How long anything may take before a test fails.
const LIMIT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pid(rustix::process::Pid);

impl Pid {
    pub(crate) fn new(number: u32) -> Self {
        Self(rustix::process::Pid::from_raw(number.cast_signed()).unwrap())
    }

    pub(crate) fn from_child(child: &Child) -> Self {
        Self::new(child.id())
    }

    fn number(self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    /// A file of its folder in /proc, NULs as spaces.
    pub(crate) fn proc(self, name: &str) -> String {
        let bytes = std::fs::read(format!("/proc/{}/{name}", self.number())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    /// Entries of a folder of its folder in /proc.
    pub(crate) fn list(self, name: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{name}", self.number())).unwrap().count()
    }

    pub(crate) fn parent(self) -> Self {
        let status = self.proc("status");
        let line = status.lines().find_map(|it| it.strip_prefix("PPid:")).unwrap();
        Self::new(line.trim().parse().unwrap())
    }

    /// Waits, for a bounded time, until the process has ended.
    pub(crate) fn wait_gone(self, what: &str) {
        let Ok(handle) = pidfd_open(self.0, PidfdFlags::empty()) else { return };
        let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&LIMIT)).unwrap();
        assert_eq!(ended, 1, "{what} ({}) is still there: {}", self.number(), self.proc("cmdline"));
    }
}

pub(crate) fn kill(pid: Pid, signal: Signal) {
    let _gone = kill_process(pid.0, signal);
}

pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", pid.number())) else {
        return Vec::new();
    };
    let lists =
        threads.flatten().filter_map(|it| std::fs::read_to_string(it.path().join("children")).ok());
    let text: String = lists.collect();
    text.split_whitespace().map(|it| Pid::new(it.parse().unwrap())).collect()
}

/// Processes that have `path` in their command line.
pub(crate) fn mentioning(path: &Path) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
    let path = path.to_string_lossy();
    numbers.map(Pid::new).filter(|it| it.proc("cmdline").contains(&*path)).collect()
}
