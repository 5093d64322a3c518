//! NVML's symbols, as far as anybody here asks.
//!
//! A device's handle is its number and one, as a pointer that nothing reads. Handles of sets of
//! events are numbers too.
#![expect(unsafe_code, unreachable_pub, reason = "a C library is raw pointers, reached by name")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError,
    nvmlGpuLevel_enum_NVML_TOPOLOGY_INTERNAL, nvmlGpuLevel_enum_NVML_TOPOLOGY_NODE,
    nvmlGpuLevel_enum_NVML_TOPOLOGY_SINGLE, nvmlGpuLevel_enum_NVML_TOPOLOGY_SYSTEM,
    nvmlGpuTopologyLevel_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t, nvmlUtilization_t,
};

use crate::machine::{Gpu, Machine};

type Return = c_uint;

const SUCCESS: Return = 0;
const INVALID_ARGUMENT: Return = 2;
const NOT_SUPPORTED: Return = 3;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;
const DRIVER_NOT_LOADED: Return = 9;
const TIMEOUT: Return = 10;
const GPU_IS_LOST: Return = 15;
const UNKNOWN: Return = 999;

const EVENT_POLL: Duration = Duration::from_millis(10);

/// Of each set: the devices it is registered for, and how many errors of each were told.
static SETS: Mutex<BTreeMap<usize, BTreeMap<usize, usize>>> = Mutex::new(BTreeMap::new());

/// Writes `value` to where the caller wants it.
fn give<T>(to: *mut T, value: T) -> Return {
    if to.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, and NVML's contract says that it points to room for one value.
    unsafe { to.write(value) };
    SUCCESS
}

/// Writes a text and its end to a buffer of `length`.
fn give_text(to: *mut c_char, length: c_uint, text: &str) -> Return {
    let room = length as usize;
    if to.is_null() {
        return INVALID_ARGUMENT;
    }
    if room <= text.len() {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: not null, and NVML's contract says that it points to `length` bytes, which are more
    // than the text has.
    unsafe {
        to.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
        to.add(text.len()).write(0);
    }
    SUCCESS
}

/// What the file says of a device, unless that is lost.
fn gpu(device: nvmlDevice_t) -> Result<Gpu, Return> {
    let mut machine = Machine::now().ok_or(UNKNOWN)?;
    let index = (device as usize).wrapping_sub(1);
    if machine.devices.len() <= index {
        return Err(INVALID_ARGUMENT);
    }
    let gpu = machine.devices.swap_remove(index);
    if gpu.lost { Err(GPU_IS_LOST) } else { Ok(gpu) }
}

fn answer<T>(device: nvmlDevice_t, to: *mut T, value: impl FnOnce(&Gpu) -> Option<T>) -> Return {
    match gpu(device).map(|it| value(&it)) {
        Ok(Some(value)) => give(to, value),
        Ok(None) => NOT_SUPPORTED,
        Err(code) => code,
    }
}

fn handle(index: usize) -> nvmlDevice_t {
    std::ptr::without_provenance_mut(index + 1)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    Machine::now().map_or(DRIVER_NOT_LOADED, |it| it.init_error)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Return {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(_: Return) -> *const c_char {
    c"an error of the fake library".as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, length: c_uint) -> Return {
    Machine::now().map_or(UNKNOWN, |it| give_text(to, length, &it.driver_version))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(to: *mut c_uint) -> Return {
    let count = Machine::now().and_then(|it| c_uint::try_from(it.devices.len()).ok());
    count.map_or(UNKNOWN, |it| give(to, it))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, to: *mut nvmlDevice_t) -> Return {
    match Machine::now() {
        Some(machine) if (index as usize) < machine.devices.len() => {
            give(to, handle(index as usize))
        }
        Some(_) => INVALID_ARGUMENT,
        None => UNKNOWN,
    }
}

/// # Safety
/// `uuid` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: *const c_char,
    to: *mut nvmlDevice_t,
) -> Return {
    if uuid.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, and a C string by the caller's word.
    let uuid = unsafe { CStr::from_ptr(uuid) }.to_string_lossy();
    let Some(machine) = Machine::now() else { return UNKNOWN };
    let index = machine.devices.iter().position(|it| it.uuid == uuid);
    index.map_or(NOT_FOUND, |it| give(to, handle(it)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    to: *mut c_char,
    length: c_uint,
) -> Return {
    gpu(device).map_or_else(|it| it, |it| give_text(to, length, &it.uuid))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    to: *mut c_char,
    length: c_uint,
) -> Return {
    gpu(device).map_or_else(|it| it, |it| give_text(to, length, &it.name))
}

/// # Safety
/// `to` is null or points to a memory information whose version is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    to: *mut nvmlMemory_v2_t,
) -> Return {
    if let Ok(gpu) = gpu(device) {
        wait(Duration::from_millis(gpu.slow_ms));
    }
    answer(device, to, |it| {
        let mib = |count: u64| count << 20;
        let taken: u64 = it.all_processes().iter().map(|it| it.memory_mib).sum();
        let total = it.memory_total_mib;
        let free = total.saturating_sub(it.memory_reserved_mib).saturating_sub(taken);
        Some(nvmlMemory_v2_t {
            version: 0,
            total: mib(total),
            reserved: mib(it.memory_reserved_mib),
            free: mib(free),
            used: mib(taken.min(total)),
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    to: *mut nvmlUtilization_t,
) -> Return {
    let rates = |it: &Gpu| Some(nvmlUtilization_t { gpu: it.utilization_percent, memory: 0 });
    answer(device, to, rates)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    _sensor: c_uint,
    to: *mut c_uint,
) -> Return {
    answer(device, to, |it| Some(it.temperature_celsius))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, to: *mut c_uint) -> Return {
    answer(device, to, |it| Some(it.power_milliwatts))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetNumaNodeId(device: nvmlDevice_t, to: *mut c_uint) -> Return {
    answer(device, to, |it| it.numa_node)
}

/// Two GPUs without a switch in common have a host bridge each.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTopologyCommonAncestor(
    device: nvmlDevice_t,
    other: nvmlDevice_t,
    to: *mut nvmlGpuTopologyLevel_t,
) -> Return {
    let other = match gpu(other) {
        Ok(it) => it,
        Err(code) => return code,
    };
    answer(device, to, |it| {
        Some(if it.uuid == other.uuid {
            nvmlGpuLevel_enum_NVML_TOPOLOGY_INTERNAL
        } else if it.pcie_switch.is_some() && it.pcie_switch == other.pcie_switch {
            nvmlGpuLevel_enum_NVML_TOPOLOGY_SINGLE
        } else if it.numa_node == other.numa_node {
            nvmlGpuLevel_enum_NVML_TOPOLOGY_NODE
        } else {
            nvmlGpuLevel_enum_NVML_TOPOLOGY_SYSTEM
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, to: *mut nvmlPciInfo_t) -> Return {
    answer(device, to, |it| {
        let mut info = nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: [0; 32],
        };
        for (to, from) in info.busId.iter_mut().zip(it.pcie_bus_id.bytes().take(31)) {
            *to = from.cast_signed();
        }
        Some(info)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: nvmlDevice_t,
    major: *mut c_int,
    minor: *mut c_int,
) -> Return {
    match gpu(device).map(|it| it.compute_capability) {
        Ok((first, second)) => match give(major, first) {
            SUCCESS => give(minor, second),
            code => code,
        },
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: nvmlDevice_t,
    _kind: c_uint,
    _counter: c_uint,
    to: *mut c_ulonglong,
) -> Return {
    answer(device, to, |it| it.ecc_uncorrected)
}

/// # Safety
/// `count` points to how many entries there is room for at `to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    to: *mut nvmlProcessInfo_t,
) -> Return {
    let gpu = match gpu(device) {
        Ok(gpu) => gpu,
        Err(code) => return code,
    };
    if count.is_null() {
        return INVALID_ARGUMENT;
    }
    let all = gpu.all_processes();
    // SAFETY: not null, and valid by the caller's word.
    let room = unsafe { count.read() } as usize;
    let told = c_uint::try_from(all.len()).unwrap_or(c_uint::MAX);
    // SAFETY: as above.
    unsafe { count.write(told) };
    if room < all.len() {
        return INSUFFICIENT_SIZE;
    }
    for (index, process) in all.into_iter().enumerate() {
        let info = nvmlProcessInfo_t {
            pid: process.pid,
            usedGpuMemory: process.memory_mib << 20,
            gpuInstanceId: c_uint::MAX,
            computeInstanceId: c_uint::MAX,
        };
        // SAFETY: there is room for that many, by the caller's word.
        unsafe { to.add(index).write(info) };
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetCreate(to: *mut nvmlEventSet_t) -> Return {
    let mut sets = SETS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let id = sets.last_key_value().map_or(1, |(last, _)| last + 1);
    sets.insert(id, BTreeMap::new());
    give(to, std::ptr::without_provenance_mut(id))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> Return {
    let mut sets = SETS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sets.remove(&(set as usize)).map_or(INVALID_ARGUMENT, |_| SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    _kinds: c_ulonglong,
    set: nvmlEventSet_t,
) -> Return {
    let gpu = match gpu(device) {
        Ok(gpu) => gpu,
        Err(code) => return code,
    };
    let mut sets = SETS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(told) = sets.get_mut(&(set as usize)) else { return INVALID_ARGUMENT };
    // What happened before is no event.
    told.insert(device as usize, gpu.xid.len());
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    to: *mut nvmlEventData_t,
    timeout_ms: c_uint,
) -> Return {
    let until = Instant::now() + Duration::from_millis(timeout_ms.into());
    loop {
        if let Some(data) = next_event(set as usize) {
            return give(to, data);
        }
        if until <= Instant::now() {
            return TIMEOUT;
        }
        wait(EVENT_POLL);
    }
}

#[expect(clippy::disallowed_methods, reason = "the caller is a thread that waits, as with NVML")]
fn wait(span: Duration) {
    std::thread::sleep(span);
}

fn next_event(set: usize) -> Option<nvmlEventData_t> {
    let machine = Machine::now()?;
    let mut sets = SETS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sets.get_mut(&set)?.iter_mut().find_map(|(device, told)| {
        let error = machine.devices.get(device - 1)?.xid.get(*told)?;
        *told += 1;
        Some(nvmlEventData_t {
            device: std::ptr::without_provenance_mut(*device),
            eventType: nvmlEventTypeXidCriticalError.into(),
            eventData: *error,
            gpuInstanceId: c_uint::MAX,
            computeInstanceId: c_uint::MAX,
        })
    })
}
