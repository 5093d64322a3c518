//! NVIDIA's GPUs, through the driver's management library.

use std::path::Path;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{
    EccCounter, MemoryError, TemperatureSensor, TopologyLevel,
};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

/// Errors that a program brings upon itself (a bad address, a fault in its kernel, its own end); the
/// device works on. Source: NVIDIA, "XID Errors", the rows caused by applications.
const OF_PROGRAMS: [u64; 6] = [13, 31, 43, 45, 68, 69];

pub(crate) struct Gpus {
    nvml: Nvml,
}

/// What does not change while a driver is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) pcie_bus_id: String,
    /// `None`: one node, or the driver does not tell.
    pub(crate) numa_node: Option<u32>,
    /// Major and minor; `None` where the driver does not tell.
    pub(crate) compute_capability: Option<(i32, i32)>,
}

/// What does. `None` where the device does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) total_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) utilization_percent: Option<u32>,
    pub(crate) temperature_celsius: Option<u32>,
    pub(crate) power_milliwatts: Option<u32>,
    /// Since the driver was loaded.
    pub(crate) ecc_uncorrected: Option<u64>,
    /// Pids and bytes; in a container the driver may know processes by other numbers.
    pub(crate) processes: Vec<(u32, u64)>,
}

/// A critical error that a driver has told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Xid {
    pub(crate) uuid: String,
    pub(crate) number: Option<u64>,
}

impl Xid {
    pub(crate) fn is_of_program(&self) -> bool {
        self.number.is_some_and(|it| OF_PROGRAMS.contains(&it))
    }
}

impl Gpus {
    /// # Errors
    /// No library, no driver, or another library than NVML.
    pub(crate) fn open(library: Option<&Path>) -> Result<Self, NvmlError> {
        let mut builder = Nvml::builder();
        if let Some(path) = library {
            builder.lib_path(path.as_os_str());
        }
        Ok(Self { nvml: builder.init()? })
    }

    pub(crate) fn driver_version(&self) -> Option<String> {
        self.nvml.sys_driver_version().ok()
    }

    /// In the driver's order. A device that cannot be asked is left out.
    pub(crate) fn uuids(&self) -> Vec<String> {
        let count = self.nvml.device_count().unwrap_or(0);
        (0..count).filter_map(|it| self.nvml.device_by_index(it).ok()?.uuid().ok()).collect()
    }

    pub(crate) fn identify(&self, uuid: &str) -> Result<Identity, NvmlError> {
        let device = self.nvml.device_by_uuid(uuid)?;
        Ok(Identity {
            uuid: device.uuid()?,
            name: device.name()?,
            pcie_bus_id: device.pci_info().map(|it| it.bus_id).unwrap_or_default(),
            numa_node: device.numa_node_id().ok(),
            compute_capability: device
                .cuda_compute_capability()
                .ok()
                .map(|it| (it.major, it.minor)),
        })
    }

    /// What lies between two devices, as in [`pool_api::Pool::spread`]; `None` where the driver does
    /// not tell.
    pub(crate) fn distance(&self, one: &str, other: &str) -> Option<u8> {
        let one = self.nvml.device_by_uuid(one).ok()?;
        let other = self.nvml.device_by_uuid(other).ok()?;
        Some(match one.topology_common_ancestor(other).ok()? {
            TopologyLevel::Internal => 0,
            TopologyLevel::Single => 1,
            TopologyLevel::Multiple => 2,
            TopologyLevel::HostBridge => 3,
            TopologyLevel::Node => 4,
            TopologyLevel::System => 5,
        })
    }

    /// # Errors
    /// `GpuLost`, `NotFound`, or whatever else the driver says of its memory.
    pub(crate) fn read(&self, uuid: &str) -> Result<Reading, NvmlError> {
        let device = self.nvml.device_by_uuid(uuid)?;
        let memory = device.memory_info()?;
        let ecc = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
        Ok(Reading {
            total_bytes: memory.total,
            used_bytes: memory.used,
            free_bytes: memory.free,
            utilization_percent: device.utilization_rates().ok().map(|it| it.gpu),
            temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
            power_milliwatts: device.power_usage().ok(),
            ecc_uncorrected: ecc.ok(),
            processes: device.running_compute_processes().map(used).unwrap_or_default(),
        })
    }

    /// Tells of critical errors from now on; `None` where the driver does not.
    pub(crate) fn errors(&self, uuids: &[String]) -> Option<Errors<'_>> {
        let mut set = self.nvml.create_event_set().ok()?;
        for uuid in uuids {
            let device = self.nvml.device_by_uuid(uuid.as_str()).ok()?;
            set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok()?;
        }
        Some(Errors { set })
    }
}

/// Of those whose memory the driver tells.
fn used(processes: Vec<ProcessInfo>) -> Vec<(u32, u64)> {
    let used = processes.into_iter().filter_map(|it| match it.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some((it.pid, bytes)),
        UsedGpuMemory::Unavailable => None,
    });
    used.collect()
}

pub(crate) struct Errors<'a> {
    set: EventSet<'a>,
}

impl Errors<'_> {
    /// Blocks until the next error, for at most `limit_ms`.
    ///
    /// # Errors
    /// Anything but silence: then nothing more will come.
    pub(crate) fn next(&self, limit_ms: u32) -> Result<Option<Xid>, NvmlError> {
        match self.set.wait(limit_ms) {
            Ok(event) => Ok(Some(Xid {
                uuid: event.device.uuid().unwrap_or_default(),
                number: match event.event_data {
                    Some(XidError::Value(number)) => Some(number),
                    Some(XidError::Unknown) | None => None,
                },
            })),
            Err(NvmlError::Timeout) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
