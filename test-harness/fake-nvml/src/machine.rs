//! The file that drives the library.

use serde::{Deserialize, Serialize};

/// A machine with GPUs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    pub driver_version: String,
    /// What `nvmlInit_v2` returns, as NVML's number; 0 or left out: it works.
    #[serde(default)]
    pub init_error: u32,
    #[serde(default)]
    pub devices: Vec<Gpu>,
}

/// One GPU; what is left out is zero, or not supported by it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpu {
    pub uuid: String,
    pub name: String,
    pub memory_total_mib: u64,
    /// Of the driver.
    pub memory_reserved_mib: u64,
    /// Beside those that are found on the machine.
    pub processes: Vec<Process>,
    pub utilization_percent: u32,
    pub temperature_celsius: u32,
    pub power_milliwatts: u32,
    pub pcie_bus_id: String,
    pub numa_node: Option<u32>,
    /// GPUs of the same number hang on one switch.
    pub pcie_switch: Option<u32>,
    pub compute_capability: (i32, i32),
    /// Uncorrected errors since the driver was loaded; left out: it has no ECC.
    pub ecc_uncorrected: Option<u64>,
    /// Every call about it fails.
    pub lost: bool,
    /// Questions for its memory take so long, as with a driver that hangs.
    pub slow_ms: u64,
    /// Critical errors; each is told once to every set of events that is registered for it.
    pub xid: Vec<u64>,
}

/// A process that computes on a GPU.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub pid: u32,
    pub memory_mib: u64,
}

impl Machine {
    /// As the file says now; `None` if it cannot be read.
    pub(crate) fn now() -> Option<Self> {
        let path = std::env::var_os(crate::FILE)?;
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

impl Gpu {
    /// All processes on it: those of the file and those that live.
    pub(crate) fn all_processes(&self) -> Vec<Process> {
        let mut all = self.processes.clone();
        all.extend(crate::processes::on(&self.uuid));
        all
    }
}
