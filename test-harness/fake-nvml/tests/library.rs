//! The library as production code uses it: through nvml-wrapper.
//!
//! Each test runs itself again as a process of its own, for the environment names the file.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::{Command, Stdio};

use fake_nvml::{FILE, Gpu, Machine, Process, library_path};
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;

const UUID: &str = "GPU-5a1d";

fn machine() -> Machine {
    let gpu = Gpu {
        uuid: UUID.into(),
        name: "Fake 4090".into(),
        memory_total_mib: 1_000,
        memory_reserved_mib: 10,
        processes: vec![Process { pid: 1, memory_mib: 100 }],
        utilization_percent: 7,
        temperature_celsius: 45,
        power_milliwatts: 31_000,
        pcie_bus_id: "00000000:01:00.0".into(),
        numa_node: Some(1),
        compute_capability: (8, 9),
        ..Gpu::default()
    };
    Machine { driver_version: "580.65".into(), devices: vec![gpu], ..Machine::default() }
}

fn write(path: &Path, machine: &Machine) {
    // Whole or not at all: the library reads at any time.
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(machine).unwrap()).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Runs `body` where the file is; `name` is the test's own.
fn with(name: &str, body: impl FnOnce(&Path)) {
    if let Some(path) = own_file() {
        return body(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("machine.json");
    write(&path, &machine());
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", name, "--nocapture"]).env(FILE, &path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn own_file() -> Option<std::ffi::OsString> {
    std::env::var_os(FILE)
}

fn nvml() -> Nvml {
    Nvml::builder().lib_path(library_path().unwrap().as_os_str()).init().unwrap()
}

#[test]
fn a_device_is_told_as_the_file_has_it() {
    with("a_device_is_told_as_the_file_has_it", |_| {
        let nvml = nvml();
        assert_eq!(nvml.sys_driver_version().unwrap(), "580.65");
        assert_eq!(nvml.device_count().unwrap(), 1);
        let gpu = nvml.device_by_uuid(UUID).unwrap();
        assert_eq!((gpu.uuid().unwrap(), gpu.name().unwrap()), (UUID.into(), "Fake 4090".into()));
        let memory = gpu.memory_info().unwrap();
        let mib = [memory.total, memory.used, memory.free].map(|it| it >> 20);
        assert_eq!(mib, [1_000, 100, 890]);
        assert_eq!(gpu.utilization_rates().unwrap().gpu, 7);
        assert_eq!(gpu.temperature(TemperatureSensor::Gpu).unwrap(), 45);
        assert_eq!(gpu.power_usage().unwrap(), 31_000);
        assert_eq!(gpu.pci_info().unwrap().bus_id, "00000000:01:00.0");
        assert_eq!(gpu.numa_node_id().unwrap(), 1);
        assert_eq!(gpu.cuda_compute_capability().unwrap().minor, 9);
        let ecc = gpu.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
        assert!(matches!(ecc, Err(NvmlError::NotSupported)), "{ecc:?}");
        assert!(matches!(nvml.device_by_uuid("GPU-0"), Err(NvmlError::NotFound)));
        assert!(matches!(nvml.device_by_index(1), Err(NvmlError::InvalidArg)));
    });
}

#[test]
fn a_process_takes_memory_for_as_long_as_it_lives() {
    with("a_process_takes_memory_for_as_long_as_it_lives", |_| {
        let nvml = nvml();
        let gpu = nvml.device_by_index(0).unwrap();
        let taken = || {
            let all = gpu.running_compute_processes().unwrap();
            all.into_iter().find_map(|it| match it.used_gpu_memory {
                UsedGpuMemory::Used(bytes) if it.pid != 1 => Some((it.pid, bytes >> 20)),
                _ => None,
            })
        };
        assert_eq!(taken(), None);
        let mut command = Command::new("sleep");
        // With our output it would keep whoever reads that waiting, were this test to fail.
        let command =
            command.arg("60").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let environment = [("CUDA_VISIBLE_DEVICES", UUID), ("FAKE_VRAM_MIB", "300")];
        let mut child = command.envs(environment).spawn().unwrap();
        // The kernel shows a process's environment a moment after it has begun.
        let seen = (0..10_000).find_map(|_| taken());
        assert_eq!(seen, Some((child.id(), 300)));
        assert_eq!(gpu.memory_info().unwrap().free >> 20, 590);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(taken(), None);
        assert_eq!(gpu.memory_info().unwrap().free >> 20, 890);
    });
}

#[test]
fn a_device_is_lost_and_found_while_a_process_runs() {
    with("a_device_is_lost_and_found_while_a_process_runs", |path| {
        let nvml = nvml();
        let gpu = nvml.device_by_index(0).unwrap();
        let mut machine = machine();
        machine.devices[0].lost = true;
        write(path, &machine);
        assert!(matches!(gpu.memory_info(), Err(NvmlError::GpuLost)));
        machine.devices[0].lost = false;
        machine.devices[0].ecc_uncorrected = Some(3);
        write(path, &machine);
        assert!(gpu.memory_info().is_ok());
        let ecc = gpu.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
        assert_eq!(ecc.unwrap(), 3);
    });
}

#[test]
fn an_error_is_told_once() {
    with("an_error_is_told_once", |path| {
        let mut machine = machine();
        machine.devices[0].xid = vec![31];
        write(path, &machine);
        let nvml = nvml();
        let gpu = nvml.device_by_index(0).unwrap();
        let set = nvml.create_event_set().unwrap();
        let set = gpu.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok().unwrap();
        assert!(matches!(set.wait(1).err(), Some(NvmlError::Timeout)));
        machine.devices[0].xid.push(79);
        write(path, &machine);
        let event = set.wait(1_000).unwrap();
        assert!(matches!(event.event_data, Some(XidError::Value(79))));
        assert_eq!(event.device.uuid().unwrap(), UUID);
        assert!(matches!(set.wait(1).err(), Some(NvmlError::Timeout)));
    });
}

#[test]
fn without_a_file_there_is_no_driver() {
    with("without_a_file_there_is_no_driver", |path| {
        std::fs::write(path, r#"{"driver_version": "1", "divices": []}"#).unwrap();
        let library = library_path().unwrap();
        let refused = Nvml::builder().lib_path(library.as_os_str()).init().err();
        assert!(matches!(refused, Some(NvmlError::DriverNotLoaded)), "{refused:?}");
    });
}
