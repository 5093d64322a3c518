//! Live processes that say that they use a device.

use crate::machine::Process;

/// See `/proc/PID/environ` in proc(5); a process that has ended has none any more.
pub(crate) fn on(uuid: &str) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let process = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        // A parent that only waits for the engine has the engine's environment too.
        let command = std::fs::read(entry.path().join("cmdline")).ok()?;
        if command.starts_with(b"pool-managerd\0") {
            return None;
        }
        let memory_mib = taken(&String::from_utf8_lossy(&environment), uuid)?;
        Some(Process { pid, memory_mib })
    };
    entries.flatten().filter_map(process).collect()
}

/// What a process with this environment takes of the device.
fn taken(environment: &str, uuid: &str) -> Option<u64> {
    let value = |name: &str| {
        environment.split('\0').find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
    };
    let place = value("CUDA_VISIBLE_DEVICES")?.split(',').position(|it| it == uuid)?;
    let sizes: Vec<&str> = value("FAKE_VRAM_MIB")?.split(',').collect();
    sizes.get(place).or(sizes.last())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::taken;

    #[test]
    fn a_process_takes_what_it_says_of_the_devices_it_sees() {
        let environment = "A=b\0CUDA_VISIBLE_DEVICES=GPU-1,GPU-2\0FAKE_VRAM_MIB=10,20\0";
        assert_eq!(taken(environment, "GPU-1"), Some(10));
        assert_eq!(taken(environment, "GPU-2"), Some(20));
        assert_eq!(taken(environment, "GPU-3"), None);
        assert_eq!(taken("CUDA_VISIBLE_DEVICES=GPU-1\0", "GPU-1"), None);
    }
}
