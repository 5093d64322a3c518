//! What engines may run on: declared, and asked how much memory is free.

use std::sync::{Arc, Mutex};

use config_schema::{DeviceKind, ManagerConfig};
use pool_api::{Device, DeviceHealth, MemoryNeed};

use crate::memory::{Limit, Shortage};

/// The devices of a host, as last seen.
pub(crate) struct Devices {
    seen: Mutex<Vec<Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    device: Device,
    margin_bytes: u64,
    free_bytes: Option<u64>,
}

impl Devices {
    pub(crate) fn new(config: &ManagerConfig) -> Self {
        let devices = Self { seen: Mutex::new(config.devices.iter().map(seen).collect()) };
        devices.look();
        devices
    }

    pub(crate) fn all(&self) -> Vec<Device> {
        self.seen.lock().expect("no holder panics").iter().map(|it| it.device.clone()).collect()
    }

    /// Asks for what changes. Blocks for as long as the driver does.
    pub(crate) fn look(&self) {
        for it in self.seen.lock().expect("no holder panics").iter_mut() {
            if it.device.kind == kind_name(DeviceKind::Cpu) {
                it.free_bytes = meminfo("MemAvailable:");
            }
        }
    }

    /// In the order of `ids`.
    pub(crate) fn named(&self, ids: &[String]) -> Vec<Device> {
        let all = self.all();
        ids.iter().filter_map(|id| all.iter().find(|it| it.device_id == *id)).cloned().collect()
    }

    /// Whether so much memory fits at all, were nothing else there.
    pub(crate) fn fits(&self, needs: &[MemoryNeed]) -> Result<(), Shortage> {
        let all = self.all();
        let short = needs.iter().find_map(|need| {
            let device = all.iter().find(|it| it.device_id == need.device_id)?;
            let usable = device.memory_total_bytes.min(device.memory_usable_bytes);
            (usable < need.bytes).then(|| Shortage::TooSmall {
                device_id: need.device_id.clone(),
                needed: need.bytes,
                usable,
            })
        });
        short.map_or(Ok(()), Err)
    }

    /// What processes hold of the named devices.
    pub(crate) fn used_by(&self, ids: &[String], pids: &[u32]) -> Vec<MemoryNeed> {
        let of = |device: Device| {
            let bytes = match device.kind.as_str() {
                "cpu" => pids.iter().filter_map(|it| resident_bytes(*it)).sum(),
                _ => return None,
            };
            Some(MemoryNeed { device_id: device.device_id, bytes })
        };
        self.named(ids).into_iter().filter_map(of).collect()
    }

    /// As [`Self::limits`], asked anew.
    pub(crate) async fn limits_now(self: &Arc<Self>, ids: &[String]) -> Vec<Limit> {
        let devices = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || devices.look()).await;
        if let Err(error) = looked {
            tracing::error!(%error, "the devices could not be looked at");
        }
        self.limits(ids)
    }

    /// What the named devices may give, as last seen.
    fn limits(&self, ids: &[String]) -> Vec<Limit> {
        let seen = self.seen.lock().expect("no holder panics");
        let limit = |it: &Seen| Limit {
            device_id: it.device.device_id.clone(),
            usable_bytes: it.device.memory_usable_bytes,
            free_bytes: it.free_bytes.map(|free| free.saturating_sub(it.margin_bytes)),
        };
        seen.iter().filter(|it| ids.contains(&it.device.device_id)).map(limit).collect()
    }
}

fn seen(config: &config_schema::Device) -> Seen {
    let total = config.memory_mib.map(|it| it.saturating_mul(1 << 20));
    let total = total.or_else(|| meminfo("MemTotal:")).unwrap_or(u64::MAX);
    let margin_bytes = config.margin_mib.saturating_mul(1 << 20);
    Seen {
        device: Device {
            device_id: config.id.clone(),
            kind: kind_name(config.kind).into(),
            name: None,
            uuid: config.uuid.clone(),
            memory_total_bytes: total,
            memory_usable_bytes: total.saturating_sub(margin_bytes),
            health: DeviceHealth::Healthy,
            last_error: None,
        },
        margin_bytes,
        free_bytes: None,
    }
}

fn kind_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Nvidia => "nvidia",
        DeviceKind::Rocm => "rocm",
        DeviceKind::Metal => "metal",
    }
}

/// A line of `/proc/meminfo`, in bytes; `None` where there is none.
fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
}

/// Main memory of a process, with the files that it has mapped; see proc_pid_status(5).
fn resident_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
}
