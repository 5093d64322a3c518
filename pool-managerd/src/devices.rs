//! What engines may run on: declared, and asked for their memory and health where that can be done.

mod nvml;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use config_schema::{DeviceKind, ManagerConfig};
use nvml_wrapper::error::NvmlError;
use pool_api::{Device, DeviceHealth, MemoryNeed};
use tokio::sync::watch as latest;

use crate::memory::{Limit, Memory, Shortage};
pub(crate) use nvml::Reading;
use nvml::{Gpus, Identity, Xid};
pub(crate) use watch::watch;

/// A device that has reported an error is used again when it has been quiet for so long.
const REST: Duration = Duration::from_secs(5);
/// A driver that says nothing for so long is lost; it is asked every 2 s.
const SILENCE: Duration = Duration::from_secs(10);
/// Nobody waits for a driver longer.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// What others use is told in steps of this size.
const STEP_BYTES: u64 = 64 << 20;

/// The devices of a host, as last seen.
pub(crate) struct Devices {
    /// `None` where no device needs it, or it is not there.
    gpus: Option<Gpus>,
    memory: Arc<Memory>,
    seen: Mutex<Vec<Seen>>,
    /// When the driver last answered.
    looked: Mutex<Instant>,
    /// Raised when health or memory changed.
    changes: latest::Sender<u64>,
}

#[derive(Debug, Clone)]
struct Seen {
    kind: DeviceKind,
    device: Device,
    declared_bytes: Option<u64>,
    margin_bytes: u64,
    identity: Option<Identity>,
    free_bytes: Option<u64>,
    reading: Option<Reading>,
    ecc_before: Option<u64>,
    /// The last error that it reported.
    failed: Option<(Instant, Trouble)>,
    trouble: Option<Trouble>,
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: TroubleKind,
    pub(crate) cause: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// Nothing here can see it.
    Unseen,
    /// It was there and is not any more.
    Lost,
    Xid,
    Ecc,
}

impl TroubleKind {
    /// A label of `driver_resets_total`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Lost => "lost",
            Self::Xid => "xid",
            Self::Ecc => "ecc",
        }
    }
}

impl Devices {
    pub(crate) fn new(config: &ManagerConfig, memory: Arc<Memory>) -> Self {
        let wanted = config.devices.iter().any(|it| it.kind == DeviceKind::Nvidia);
        let opened = wanted.then(|| Gpus::open(config.nvml_library.as_deref()));
        let absence = opened.as_ref().and_then(|it| it.as_ref().err()).map(ToString::to_string);
        if let Some(cause) = &absence {
            tracing::warn!(cause, "NVML is not there: GPUs are served as declared, unwatched");
        }
        let gpus = opened.and_then(Result::ok);
        let mut seen: Vec<Seen> = config.devices.iter().map(seen).collect();
        name_gpus(gpus.as_ref(), absence.as_deref(), &mut seen);
        let seen = Mutex::new(seen);
        let (looked, changes) = (Mutex::new(Instant::now()), latest::Sender::new(0));
        let devices = Self { gpus, memory, seen, looked, changes };
        devices.look();
        devices
    }

    pub(crate) fn all(&self) -> Vec<Device> {
        self.seen.lock().expect("no holder panics").iter().map(|it| it.device.clone()).collect()
    }

    /// In the order of `ids`.
    pub(crate) fn named(&self, ids: &[String]) -> Vec<Device> {
        let all = self.all();
        ids.iter().filter_map(|id| all.iter().find(|it| it.device_id == *id)).cloned().collect()
    }

    pub(crate) fn changes(&self) -> latest::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Asks for what changes. Blocks for as long as the driver does, and nobody else.
    pub(crate) fn look(&self) {
        let uuids: Vec<Option<String>> = {
            let seen = self.seen.lock().expect("no holder panics");
            seen.iter().map(|it| it.identity.as_ref().map(|it| it.uuid.clone())).collect()
        };
        let read = |uuid: Option<String>| Some(self.gpus.as_ref()?.read(&uuid?));
        let readings: Vec<_> = uuids.into_iter().map(read).collect();
        *self.looked.lock().expect("no holder panics") = Instant::now();
        let mut seen = self.seen.lock().expect("no holder panics");
        let before: Vec<Device> = seen.iter().map(|it| it.device.clone()).collect();
        for (it, reading) in seen.iter_mut().zip(readings) {
            if it.kind == DeviceKind::Cpu {
                it.free_bytes = meminfo("MemAvailable:");
            }
            if let Some(reading) = reading {
                it.take(reading, self.memory.held(&it.device.device_id));
            }
        }
        if seen.iter().map(|it| &it.device).ne(&before) {
            self.changes.send_modify(|it| *it += 1);
        }
    }

    /// As [`Self::look`], where nothing may block; a driver that hangs is left behind.
    pub(crate) async fn look_aside(self: &Arc<Self>) {
        let devices = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || devices.look());
        if tokio::time::timeout(LOOK_LIMIT, looked).await.is_err() {
            tracing::error!("the driver does not answer");
        }
    }

    /// A driver that has not answered for long hangs, and its GPUs with it.
    fn notice_silence(&self) {
        let silence = self.looked.lock().expect("no holder panics").elapsed();
        if silence < SILENCE {
            return;
        }
        let cause = format!("the driver has not answered for {} s", SILENCE.as_secs());
        let mut seen = self.seen.lock().expect("no holder panics");
        for it in seen.iter_mut().filter(|it| it.identity.is_some() && it.trouble.is_none()) {
            it.judge(Some(Trouble { kind: TroubleKind::Lost, cause: cause.clone() }));
            self.changes.send_modify(|it| *it += 1);
        }
    }

    /// A driver has told of an error.
    fn failed(&self, xid: &Xid) {
        let number = xid.number.map_or("unknown".into(), |it| it.to_string());
        if xid.is_of_program() {
            tracing::info!(uuid = xid.uuid, xid = number, "a program has failed on a GPU");
            return;
        }
        let cause = format!("the driver reported error XID {number}");
        {
            let mut seen = self.seen.lock().expect("no holder panics");
            let named = |it: &&mut Seen| it.device.uuid.as_deref() == Some(&xid.uuid);
            let Some(it) = seen.iter_mut().find(named) else { return };
            let trouble = Trouble { kind: TroubleKind::Xid, cause };
            tracing::error!(
                device_id = it.device.device_id,
                cause = trouble.cause,
                "device failed"
            );
            it.failed = Some((Instant::now(), trouble));
        }
        self.look();
    }

    /// How far apart the named devices are: the farthest two of them. 0 where there is one, or nobody
    /// tells. Blocks for as long as the driver does.
    pub(crate) fn spread(&self, ids: &[String]) -> u8 {
        let Some(gpus) = &self.gpus else { return 0 };
        let uuids: Vec<String> = {
            let seen = self.seen.lock().expect("no holder panics");
            let named = seen.iter().filter(|it| ids.contains(&it.device.device_id));
            named.filter_map(|it| Some(it.identity.as_ref()?.uuid.clone())).collect()
        };
        let pairs = uuids.iter().enumerate().flat_map(|(index, one)| {
            uuids[index + 1..].iter().filter_map(move |other| gpus.distance(one, other))
        });
        pairs.max().unwrap_or(0)
    }

    /// Why one of the named devices cannot be used.
    pub(crate) fn trouble(&self, ids: &[String]) -> Option<Trouble> {
        let seen = self.seen.lock().expect("no holder panics");
        seen.iter().filter(|it| ids.contains(&it.device.device_id)).find_map(|it| {
            let Trouble { kind, cause } = it.trouble.clone()?;
            Some(Trouble { kind, cause: format!("device `{}`: {cause}", it.device.device_id) })
        })
    }

    /// Whether so much memory fits at all, were nothing else of ours there.
    pub(crate) fn fits(&self, needs: &[MemoryNeed]) -> Result<(), Shortage> {
        let all = self.all();
        let short = needs.iter().find_map(|need| {
            let device = all.iter().find(|it| it.device_id == need.device_id)?;
            let usable = device.memory_usable_bytes;
            (usable < need.bytes).then(|| Shortage::TooSmall {
                device_id: need.device_id.clone(),
                needed: need.bytes,
                usable,
            })
        });
        short.map_or(Ok(()), Err)
    }

    /// What processes hold of the named devices, as far as it is known; of GPUs, as last seen.
    pub(crate) fn used_by(&self, ids: &[String], pids: &[u32]) -> Vec<MemoryNeed> {
        let seen = self.seen.lock().expect("no holder panics");
        let of = |it: &Seen| {
            let bytes: u64 = match (it.kind, &it.reading) {
                (DeviceKind::Cpu, _) => pids.iter().filter_map(|it| resident_bytes(*it)).sum(),
                (_, Some(reading)) => {
                    let ours = reading.processes.iter().filter(|it| pids.contains(&it.0));
                    ours.map(|it| it.1).sum()
                }
                (_, None) => 0,
            };
            (bytes != 0).then(|| MemoryNeed { device_id: it.device.device_id.clone(), bytes })
        };
        seen.iter().filter(|it| ids.contains(&it.device.device_id)).filter_map(of).collect()
    }

    /// What the named devices may give, as last seen.
    pub(crate) fn limits(&self, ids: &[String]) -> Vec<Limit> {
        let seen = self.seen.lock().expect("no holder panics");
        let limit = |it: &Seen| Limit {
            device_id: it.device.device_id.clone(),
            usable_bytes: it.device.memory_usable_bytes,
            free_bytes: it.free_bytes.map(|free| free.saturating_sub(it.margin_bytes)),
        };
        seen.iter().filter(|it| ids.contains(&it.device.device_id)).map(limit).collect()
    }

    /// What an engine is given that needs so much of the named devices.
    pub(crate) fn grant(&self, ids: &[String], needs: &[MemoryNeed]) -> Grant {
        Grant { mask: self.mask(ids), gpu_share: self.gpu_share(needs) }
    }

    fn gpu_share(&self, needs: &[MemoryNeed]) -> Option<f64> {
        let seen = self.seen.lock().expect("no holder panics");
        let gpus = seen.iter().filter(|it| it.kind != DeviceKind::Cpu);
        let share = |it: &Seen| {
            let need = needs.iter().find(|need| need.device_id == it.device.device_id)?;
            let mib = |bytes: u64| f64::from(u32::try_from(bytes >> 20).unwrap_or(u32::MAX));
            Some(mib(need.bytes) / mib(it.device.memory_total_bytes).max(1.0))
        };
        gpus.filter_map(share).reduce(f64::max).map(|it| it.min(1.0))
    }

    /// Environment that shows an engine its own GPUs and no other: none, where it has none. Nothing
    /// where no GPU is declared: then whoever starts the manager decides.
    fn mask(&self, ids: &[String]) -> Vec<(&'static str, String)> {
        let seen = self.seen.lock().expect("no holder panics");
        let gpus = seen.iter().filter(|it| it.kind == DeviceKind::Nvidia).enumerate();
        let named: Vec<(&str, String)> = gpus
            .map(|(index, it)| {
                // An unseen GPU without a uuid is known by its place.
                let name = it.device.uuid.clone().unwrap_or_else(|| index.to_string());
                (it.device.device_id.as_str(), name)
            })
            .collect();
        if named.is_empty() {
            return Vec::new();
        }
        let of = |id: &String| named.iter().find(|it| it.0 == id).map(|it| it.1.clone());
        let visible: Vec<String> = ids.iter().filter_map(of).collect();
        vec![
            ("CUDA_VISIBLE_DEVICES", visible.join(",")),
            ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".into()),
        ]
    }
}

/// What an engine may use.
pub(crate) struct Grant {
    /// Environment that shows it its own GPUs.
    pub(crate) mask: Vec<(&'static str, String)>,
    /// Of each of its GPUs' memory, 0 to 1; `None` where it runs on none.
    pub(crate) gpu_share: Option<f64>,
}

impl Seen {
    /// `held`: what models of ours were promised.
    fn take(&mut self, read: Result<Reading, NvmlError>, held: u64) {
        let reading = match read {
            Ok(reading) => reading,
            Err(error) => {
                let cause = format!("it cannot be read: {error}");
                self.reading = None;
                self.free_bytes = Some(0);
                self.judge(Some(Trouble { kind: TroubleKind::Lost, cause }));
                return;
            }
        };
        if let (Some(before), Some(now)) = (self.ecc_before, reading.ecc_uncorrected)
            && before < now
        {
            let cause = format!("{} uncorrected memory errors (ECC)", now - before);
            tracing::error!(device_id = self.device.device_id, cause, "device failed");
            self.failed = Some((Instant::now(), Trouble { kind: TroubleKind::Ecc, cause }));
        }
        self.ecc_before = reading.ecc_uncorrected.or(self.ecc_before);
        self.free_bytes = Some(reading.free_bytes);
        let total = self.declared_bytes.unwrap_or(reading.total_bytes);
        let foreign = reading.used_bytes.saturating_sub(held).next_multiple_of(STEP_BYTES);
        let foreign = if reading.used_bytes <= held { 0 } else { foreign };
        self.device.memory_total_bytes = total;
        self.device.memory_usable_bytes =
            total.saturating_sub(self.margin_bytes).saturating_sub(foreign);
        self.reading = Some(reading);
        let rests = self.failed.take().filter(|(since, _)| since.elapsed() < REST);
        self.failed = rests;
        let trouble = self.failed.as_ref().map(|it| it.1.clone());
        self.judge(trouble);
    }

    fn judge(&mut self, trouble: Option<Trouble>) {
        let health = match trouble.as_ref().map(|it| it.kind) {
            None => DeviceHealth::Healthy,
            Some(TroubleKind::Unseen | TroubleKind::Lost) => DeviceHealth::Lost,
            Some(TroubleKind::Xid | TroubleKind::Ecc) => DeviceHealth::Failed,
        };
        let device_id = &self.device.device_id;
        match (self.device.health, health) {
            (DeviceHealth::Healthy, DeviceHealth::Lost) => {
                tracing::error!(
                    device_id,
                    cause = trouble.as_ref().map(|it| &it.cause),
                    "device lost"
                );
            }
            (DeviceHealth::Lost | DeviceHealth::Failed, DeviceHealth::Healthy) => {
                tracing::info!(device_id, "device works again");
            }
            _ => {}
        }
        if let Some(it) = &trouble {
            self.device.last_error = Some(it.cause.clone());
        }
        self.device.health = health;
        self.trouble = trouble;
    }
}

fn seen(config: &config_schema::Device) -> Seen {
    let declared_bytes = config.memory_mib.map(|it| it.saturating_mul(1 << 20));
    let margin_bytes = config.margin_mib.saturating_mul(1 << 20);
    let total = match config.kind {
        DeviceKind::Cpu => declared_bytes.or_else(|| meminfo("MemTotal:")).unwrap_or(u64::MAX),
        DeviceKind::Nvidia | DeviceKind::Rocm | DeviceKind::Metal => declared_bytes.unwrap_or(0),
    };
    Seen {
        kind: config.kind,
        device: Device {
            device_id: config.id.clone(),
            kind: match config.kind {
                DeviceKind::Cpu => "cpu".into(),
                DeviceKind::Nvidia => "nvidia".into(),
                DeviceKind::Rocm => "rocm".into(),
                DeviceKind::Metal => "metal".into(),
            },
            name: None,
            uuid: config.uuid.clone(),
            memory_total_bytes: total,
            memory_usable_bytes: total.saturating_sub(margin_bytes),
            health: DeviceHealth::Healthy,
            last_error: None,
        },
        declared_bytes,
        margin_bytes,
        identity: None,
        free_bytes: None,
        reading: None,
        ecc_before: None,
        failed: None,
        trouble: None,
    }
}

/// Finds out which GPU each declared device is: by its uuid, else the next one that no other has.
fn name_gpus(gpus: Option<&Gpus>, absence: Option<&str>, seen: &mut [Seen]) {
    let taken: Vec<String> = seen.iter().filter_map(|it| it.device.uuid.clone()).collect();
    let found = gpus.map(Gpus::uuids).unwrap_or_default();
    let mut free = found.iter().filter(|it| !taken.contains(it));
    for it in seen.iter_mut().filter(|it| it.kind == DeviceKind::Nvidia) {
        let uuid = it.device.uuid.clone().or_else(|| free.next().cloned());
        let identity = gpus.zip(uuid.as_deref()).map(|(gpus, uuid)| gpus.identify(uuid));
        let unseen = match (identity, absence) {
            (Some(Ok(identity)), _) => {
                it.device.name = Some(identity.name.clone());
                it.device.uuid = Some(identity.uuid.clone());
                tracing::info!(
                    device_id = it.device.device_id, uuid = identity.uuid, name = identity.name,
                    pcie_bus_id = identity.pcie_bus_id, numa_node = identity.numa_node,
                    compute_capability = ?identity.compute_capability,
                    driver_version = gpus.and_then(Gpus::driver_version), "device"
                );
                it.identity = Some(identity);
                continue;
            }
            (Some(Err(error)), _) => format!("NVML does not know it: {error}"),
            (None, Some(_)) if it.declared_bytes.is_some() => continue,
            (None, Some(cause)) => {
                format!("NVML is not there ({cause}): state its `memory_mib` to use it unwatched")
            }
            (None, None) => format!("NVML knows {} GPUs, and none is left for it", found.len()),
        };
        it.judge(Some(Trouble { kind: TroubleKind::Unseen, cause: unseen }));
    }
}

/// A line of `/proc/meminfo`, in bytes; `None` where there is none.
fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    kib(text.lines().find_map(|it| it.strip_prefix(name))?)
}

/// Main memory of a process, with the files that it has mapped; see `proc_pid_status(5)`.
fn resident_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kib(text.lines().find_map(|it| it.strip_prefix("VmRSS:"))?)
}

fn kib(text: &str) -> Option<u64> {
    text.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|it| it * 1_024)
}
