//! Whose memory was too small when an engine died: a device's or the machine's.

use crate::supervisor::Failure;

/// What engines say when a device has no memory for them, in lower case: llama.cpp, ggml, `PyTorch`.
const DEVICE: [&str; 7] = [
    "cuda out of memory",
    "hip out of memory",
    "cudamalloc failed: out of memory",
    "cuda error: out of memory",
    "unable to allocate cuda",
    "unable to allocate rocm",
    "failed to allocate metal",
];
/// The same of the machine's memory.
const HOST: [&str; 5] = [
    "std::bad_alloc",
    "cannot allocate memory",
    "unable to allocate cpu",
    "failed to allocate cpu",
    "defaultcpuallocator: can't allocate memory",
];

/// How often the kernel has killed something for memory, here or in the whole machine; see
/// `memory.events` in cgroup-v2 and `oom_kill` in `/proc/vmstat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kills(u64);

impl Kills {
    pub(super) fn now() -> Self {
        let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = cgroup.lines().find_map(|it| it.strip_prefix("0::")).unwrap_or("/");
        let files = [format!("/sys/fs/cgroup{own}/memory.events"), "/proc/vmstat".to_owned()];
        let count = |file: String| -> Option<u64> {
            let text = std::fs::read_to_string(file).ok()?;
            text.lines().find_map(|it| it.strip_prefix("oom_kill "))?.trim().parse().ok()
        };
        Self(files.into_iter().filter_map(count).sum())
    }
}

/// `None` if it was not memory. `killed`: by a SIGKILL that was not ours.
pub(super) fn cause(said: &str, killed: bool, before: Kills) -> Option<Failure> {
    let said = said.to_lowercase();
    if DEVICE.iter().any(|it| said.contains(it)) {
        Some(Failure::DeviceOom)
    } else if HOST.iter().any(|it| said.contains(it)) || killed && before != Kills::now() {
        Some(Failure::HostOom)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // ORCH-3039
    #[test]
    fn a_device_s_memory_is_told_from_the_machine_s() {
        let told = |said| cause(said, false, Kills::now());
        let cuda = "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9 MiB on device 0: \
                    cudaMalloc failed: out of memory";
        assert_eq!(told(cuda), Some(Failure::DeviceOom));
        let torch = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.";
        assert_eq!(told(torch), Some(Failure::DeviceOom));
        assert_eq!(told("terminate called: std::bad_alloc"), Some(Failure::HostOom));
        assert_eq!(told("error: invalid argument: --memory"), None);
    }

    // ORCH-3039
    #[test]
    fn a_kill_is_the_kernel_s_only_if_the_kernel_has_counted_it() {
        assert_eq!(cause("", true, Kills::now()), None);
        let Kills(now) = Kills::now();
        assert_eq!(cause("", true, Kills(now.wrapping_sub(1))), Some(Failure::HostOom));
        assert_eq!(cause("", false, Kills(now.wrapping_sub(1))), None);
    }
}
