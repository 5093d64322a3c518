//! GPUs, as NVML tells of them: through the library of test-harness/fake-nvml.

use fake_nvml::{Gpu, Machine, Process};
use metrics_contract::differences;
use pool_api::{DeviceHealth, Replica, ReplicaState, WatchEvent};

use crate::engines;
use crate::rig::{Daemon, Pid, Place, wait_until};

const MIB: u64 = 1 << 20;

fn gpu(number: u32, memory_total_mib: u64) -> Gpu {
    Gpu {
        uuid: uuid(number),
        name: format!("Fake {number}"),
        memory_total_mib,
        utilization_percent: 25,
        temperature_celsius: 50,
        power_milliwatts: 70_500,
        pcie_bus_id: format!("00000000:0{number}:00.0"),
        compute_capability: (8, 9),
        ..Gpu::default()
    }
}

/// Of this test alone: a device counts every process of the machine that names it.
fn uuid(number: u32) -> String {
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    format!("GPU-{}-{thread}-{number}", std::process::id())
}

fn machine(devices: Vec<Gpu>) -> Machine {
    Machine { driver_version: "580.65".into(), devices, ..Machine::default() }
}

impl Place {
    /// Changes what the driver says.
    fn gpus(&self, machine: &Machine) {
        let new = self.write("machine.new", &serde_json::to_string(machine).unwrap());
        std::fs::rename(new, self.path("machine.json")).unwrap();
    }

    /// `devices` in the manager's section, and the fake library.
    fn on(&self, devices: &str, pool: &str) -> String {
        let library = fake_nvml::library_path().unwrap().display();
        format!("  nvml_library: '{library}'\n  devices: [{devices}]\n{}", self.pool(pool))
    }
}

const GPU0: &str = "{id: gpu0, kind: nvidia, margin_mib: 0}";
const TAKES_100: &str = "      env: {FAKE_VRAM_MIB: '100'}\n";

fn environ(replica: &Replica, name: &str) -> Option<String> {
    let all = Pid::new(replica.pid.unwrap()).proc("environ");
    let prefix = format!("{name}=");
    all.split([' ', '\0']).find_map(|it| it.strip_prefix(&prefix)).map(str::to_owned)
}

fn health(daemon: &Daemon) -> DeviceHealth {
    let body = daemon.get("/v1/pools").body;
    let snapshot: pool_api::Snapshot = serde_json::from_str(&body).unwrap();
    snapshot.devices[0].health
}

fn resets(daemon: &Daemon, cause: &str) -> Option<f64> {
    daemon.metric(&format!("driver_resets_total{{cause=\"{cause}\",pool_id=\"p\"}}"))
}

// OC-POOL-3020, OC-POOL-3031, OC-CTRL-2005
#[test]
fn an_engine_runs_on_its_own_gpu_and_what_it_takes_is_measured() {
    let place = Place::new();
    place.gpus(&machine(vec![gpu(1, 1_000), gpu(2, 2_000)]));
    let second = format!("{{id: gpu0, kind: nvidia, uuid: {}, margin_mib: 200}}", uuid(2));
    let daemon = place.start(&place.on(&second, TAKES_100));
    let Some(WatchEvent::Snapshot(snapshot)) = daemon.watch().next() else { panic!() };
    let device = &snapshot.devices[0];
    assert_eq!((device.name.as_deref(), device.uuid.as_deref()), (Some("Fake 2"), Some(&*uuid(2))));
    assert_eq!(device.memory_total_bytes, 2_000 * MIB);
    assert_eq!(device.memory_usable_bytes, 1_800 * MIB);
    let replica = daemon.ready();
    assert_eq!(environ(&replica, "CUDA_VISIBLE_DEVICES"), Some(uuid(2)));
    let measured = daemon.watch().until(|it| it.load_ms.is_some());
    assert_eq!(measured.memory[0].bytes, 100 * MIB);
    let gauge = |name: &str| daemon.metric(&format!("{name}{{device=\"gpu0\",pool_id=\"p\"}}"));
    let used = Some(104_857_600.0);
    wait_until("its memory is shown", || gauge("vram_used_bytes") == used);
    assert_eq!(gauge("vram_total_bytes"), Some(2_097_152_000.0));
    assert_eq!(gauge("gpu_utilization"), Some(0.25));
    assert_eq!(gauge("gpu_temperature_celsius"), Some(50.0));
    assert_eq!(gauge("gpu_power_watts"), Some(70.5));
}

// OC-POOL-3012, OC-POOL-3020, ORCH-1101, ORCH-3011
#[test]
fn an_engine_on_the_processors_sees_no_gpu() {
    let place = Place::new();
    place.gpus(&machine(vec![gpu(1, 1_000)]));
    let both = format!("{GPU0}, {{id: cpu0, kind: cpu}}");
    let daemon = place.start(&place.on(&both, "      devices: [cpu0]\n"));
    let replica = daemon.ready();
    assert_eq!(environ(&replica, "CUDA_VISIBLE_DEVICES").as_deref(), Some(""));
}

// OC-POOL-3021, ORCH-3012
#[test]
fn a_model_is_divided_among_unlike_gpus_by_ratios_only() {
    let place = Place::new();
    place.gpus(&machine(vec![gpu(1, 1_000), gpu(2, 3_000)]));
    let both = format!("{GPU0}, {{id: gpu1, kind: nvidia, margin_mib: 0}}");
    let daemon = place.start(&place.on(&both, "      devices: [gpu0, gpu1]\n"));
    let refused = daemon.watch().until(|it| it.last_error.is_some());
    assert_eq!(refused.state, ReplicaState::Unready);
    let cause = refused.last_error.unwrap();
    assert!(cause.contains("(gpu0 1000 MiB, gpu1 3000 MiB): state how"), "{cause}");
    let split = "      devices: [gpu0, gpu1]\n      split: [1, 3]\n";
    let other = Place::new();
    other.gpus(&machine(vec![gpu(1, 1_000), gpu(2, 3_000)]));
    let daemon = other.start(&other.on(&both, split));
    let replica = daemon.ready();
    let both = [uuid(1), uuid(2)].join(",");
    assert_eq!(environ(&replica, "CUDA_VISIBLE_DEVICES"), Some(both));
    let command = Pid::new(replica.pid.unwrap()).proc("cmdline");
    assert!(command.contains("-ts 1,3"), "{command}");
    let bytes: Vec<u64> = replica.memory.iter().map(|it| it.bytes).collect();
    assert!(bytes[0] * 3 == bytes[1] && bytes[0] != 0, "{bytes:?}");
}

// OC-POOL-3021, ORCH-3052
#[test]
fn the_smaller_gpu_is_not_overfilled_by_a_division() {
    let place = Place::new();
    place.gpus(&machine(vec![gpu(1, 300), gpu(2, 3_000)]));
    let both = format!("{GPU0}, {{id: gpu1, kind: nvidia, margin_mib: 0}}");
    let split = |ratios: &str| {
        let pool = format!("      devices: [gpu0, gpu1]\n      split: [{ratios}]\n");
        place
            .on(&both, &pool)
            .replace("context_tokens: 512", "context_tokens: 512, memory_mib: 1000")
    };
    let daemon = place.start(&split("1, 1"));
    let refused = daemon.watch().until(|it| it.last_error.is_some());
    let cause = refused.last_error.unwrap();
    assert!(cause.contains("needs about 500 MiB on `gpu0`, which may give 300 MiB"), "{cause}");
    drop(daemon);
    let other = Place::new();
    other.gpus(&machine(vec![gpu(1, 300), gpu(2, 3_000)]));
    let manager =
        split("1, 4").replace(place.path("").to_str().unwrap(), other.path("").to_str().unwrap());
    other.start(&manager).ready();
}

// OC-POOL-3007, OC-POOL-3040, ORCH-3003
#[test]
fn memory_that_another_program_holds_is_waited_for_and_then_told() {
    let place = Place::new();
    let mut now = machine(vec![gpu(1, 1_000)]);
    now.devices[0].processes = vec![Process { pid: 1, memory_mib: 980 }];
    place.gpus(&now);
    let daemon = place.start(&place.on(GPU0, TAKES_100));
    let mut watch = daemon.watch();
    let refused = watch.until(|it| it.last_error.is_some());
    let cause = refused.last_error.unwrap();
    assert!(cause.contains("on `gpu0`, which may give") && refused.pid.is_none(), "{cause}");
    now.devices[0].processes.clear();
    place.gpus(&now);
    let ready = watch.until(|it| it.state == ReplicaState::Ready);
    assert_eq!((ready.incarnation, ready.restarts), (1, 0));
}

// OC-POOL-3010, ORCH-3038, ORCH-3053
#[test]
fn a_gpu_that_is_lost_takes_its_engine_down_until_it_is_back() {
    let place = Place::new();
    let mut now = machine(vec![gpu(1, 1_000)]);
    place.gpus(&now);
    let mut daemon = place.start(&place.on(GPU0, TAKES_100));
    let first = daemon.ready();
    now.devices[0].lost = true;
    place.gpus(&now);
    let mut watch = daemon.watch();
    let down = watch.until(|it| it.state != ReplicaState::Ready);
    assert_eq!(down.state, ReplicaState::Unready);
    let cause = down.last_error.unwrap();
    assert!(cause.contains("device `gpu0`: it cannot be read: device fell off"), "{cause}");
    watch.until(|it| it.pid.is_none());
    assert_eq!(Pid::new(first.pid.unwrap()).proc("cmdline"), "");
    wait_until("it is told of", || health(&daemon) == DeviceHealth::Lost);
    assert_eq!(resets(&daemon, "lost"), Some(1.0));
    assert_eq!(daemon.get("/readyz").status, 503);
    now.devices[0].lost = false;
    place.gpus(&now);
    let back = watch.until(|it| it.state == ReplicaState::Ready);
    assert_eq!((back.incarnation, back.restarts), (2, 1));
    wait_until("it is told of", || health(&daemon) == DeviceHealth::Healthy);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.end();
    let log = daemon.log();
    assert!(log.contains("device lost") && log.contains("device works again"), "{log}");
}

// OC-POOL-3010, ORCH-3038, ORCH-3053
#[test]
fn an_error_of_the_driver_restarts_the_engine_and_one_of_a_program_does_not() {
    let place = Place::new();
    let mut now = machine(vec![gpu(1, 1_000)]);
    place.gpus(&now);
    let daemon = place.start(&place.on(GPU0, TAKES_100));
    daemon.ready();
    let mut watch = daemon.watch();
    // Whoever watches has the first look behind it when the figures are there.
    let seen = "vram_used_bytes{device=\"gpu0\",pool_id=\"p\"}";
    wait_until("the driver is watched", || daemon.metric(seen) == Some(104_857_600.0));
    now.devices[0].xid = vec![31];
    place.gpus(&now);
    wait_until("the error was seen", || daemon.log().contains("a program has failed on a GPU"));
    assert_eq!(daemon.replica().incarnation, 1);
    now.devices[0].xid.push(79);
    place.gpus(&now);
    let down = watch.until(|it| it.state != ReplicaState::Ready);
    assert_eq!(down.state, ReplicaState::Unready);
    let cause = down.last_error.unwrap();
    assert_eq!(cause, "device `gpu0`: the driver reported error XID 79");
    wait_until("it is told of", || health(&daemon) == DeviceHealth::Failed);
    assert_eq!(resets(&daemon, "xid"), Some(1.0));
    let back = watch.until(|it| it.state == ReplicaState::Ready);
    assert_eq!(back.incarnation, 2);
}

// OC-POOL-3010
#[test]
fn a_driver_that_hangs_is_noticed_and_stops_nothing_else() {
    let place = Place::new();
    let mut now = machine(vec![gpu(1, 1_000)]);
    place.gpus(&now);
    let mut daemon = place.start(&place.on(GPU0, TAKES_100));
    daemon.ready();
    let mut watch = daemon.watch();
    now.devices[0].slow_ms = 20_000;
    place.gpus(&now);
    let down = watch.until(|it| it.state != ReplicaState::Ready);
    let cause = down.last_error.unwrap();
    assert_eq!(cause, "device `gpu0`: the driver has not answered for 10 s");
    assert_eq!(daemon.get("/healthz").status, 200);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
}

// OC-POOL-3010, ORCH-3053
#[test]
fn memory_errors_that_could_not_be_corrected_restart_the_engine() {
    let place = Place::new();
    let mut now = machine(vec![gpu(1, 1_000)]);
    // Those of the past are not news.
    now.devices[0].ecc_uncorrected = Some(4);
    place.gpus(&now);
    let daemon = place.start(&place.on(GPU0, TAKES_100));
    daemon.ready();
    let mut watch = daemon.watch();
    now.devices[0].ecc_uncorrected = Some(6);
    place.gpus(&now);
    let down = watch.until(|it| it.state != ReplicaState::Ready);
    assert!(down.last_error.unwrap().ends_with("2 uncorrected memory errors (ECC)"));
    assert_eq!(resets(&daemon, "ecc"), Some(1.0));
    watch.until(|it| it.state == ReplicaState::Ready && it.incarnation == 2);
}

// OC-POOL-3002
#[test]
fn without_nvml_the_manager_says_so_once_and_serves_what_is_declared() {
    let place = Place::new();
    let devices = "[{id: gpu0, kind: nvidia}, {id: gpu1, kind: nvidia, memory_mib: 1000}]";
    let pool = |id: &str| {
        let pool = place
            .pool(&format!("      devices: [gpu{id}]\n"))
            .replace("id: p", &format!("id: p{id}"));
        pool.strip_prefix("  pools:\n").unwrap().to_owned()
    };
    let manager = format!(
        "  nvml_library: /nowhere/libnvidia-ml.so\n  devices: {devices}\n  pools:\n{}{}",
        pool("0"),
        pool("1")
    );
    let daemon = place.start(&manager);
    let state = |index: usize| daemon.pools()[index].replicas[0].clone();
    wait_until("the declared one serves", || state(1).state == ReplicaState::Ready);
    wait_until("the other is refused", || state(0).state == ReplicaState::Unready);
    assert_eq!(environ(&state(1), "CUDA_VISIBLE_DEVICES").as_deref(), Some("1"));
    let cause = state(0).last_error.unwrap();
    assert!(cause.starts_with("device `gpu0`: NVML is not there"), "{cause}");
    assert!(cause.contains("state its `memory_mib`"), "{cause}");
    assert_eq!(daemon.log().matches("GPUs are served as declared").count(), 1);
}

// OC-METRICS-7101
#[test]
fn a_scrape_after_a_load_and_a_failure_is_what_is_declared() {
    let place = Place::new();
    let mut now = machine(vec![gpu(1, 1_000)]);
    place.gpus(&now);
    let beside = engines::pool(&place, "v", "vllm", "");
    let daemon = place.start(&place.on(GPU0, &format!("{TAKES_100}{beside}")));
    daemon.ready();
    now.devices[0].lost = true;
    place.gpus(&now);
    let mut watch = daemon.watch();
    watch.until(|it| it.state == ReplicaState::Unready);
    now.devices[0].lost = false;
    place.gpus(&now);
    watch.until(|it| it.state == ReplicaState::Ready);
    let usage = || daemon.get("/metrics").body.contains("\nkv_cache_usage_ratio{");
    wait_until("an engine tells how full its cache is", usage);
    let scrape = daemon.get("/metrics").body;
    assert_eq!(differences(metrics_contract::Daemon::PoolManagerd, &scrape), Vec::<String>::new());
}

// ORCH-3013
#[test]
fn how_far_apart_the_devices_of_a_pool_are_is_told() {
    let place = Place::new();
    let at = |number: u32, numa_node: u32, pcie_switch: u32| Gpu {
        numa_node: Some(numa_node),
        pcie_switch: Some(pcie_switch),
        ..gpu(number, 1_000)
    };
    place.gpus(&machine(vec![at(1, 0, 7), at(2, 0, 7), at(3, 0, 8), at(4, 1, 9)]));
    let devices: Vec<String> = (1..=4)
        .map(|it| format!("{{id: gpu{it}, kind: nvidia, uuid: {}, margin_mib: 0}}", uuid(it)))
        .chain(["{id: cpu0, kind: cpu}".to_owned()])
        .collect();
    let spread = |ids: &str| {
        let daemon =
            place.start(&place.on(&devices.join(", "), &format!("      devices: [{ids}]\n")));
        daemon.pools()[0].spread
    };
    assert_eq!(spread("gpu1"), 0);
    assert_eq!(spread("gpu1, gpu2"), 1);
    assert_eq!(spread("gpu1, gpu2, gpu3"), 4);
    assert_eq!(spread("gpu4, gpu1, gpu2"), 5);
    assert_eq!(spread("cpu0"), 0);
}
