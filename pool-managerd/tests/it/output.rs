//! What an engine prints, however much of it.

use rustix::process::Signal;

use crate::rig::{Pid, Place, kill};

const MIB: u64 = 1 << 20;

#[test]
fn a_line_without_end_takes_neither_memory_nor_disk() {
    let place = Place::new();
    let wrapper = place.script(&format!(
        "head -c {} /dev/zero | tr '\\0' x >&2\nexec \"$ENGINE\" \"$@\"",
        64 * MIB
    ));
    let daemon = place.start(&place.pool_with(&wrapper, ""));
    // The engine starts when the line is out, so by now it was read.
    let engine = Pid::new(daemon.ready().pid.unwrap());
    let status = daemon.pid().proc("status");
    let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak_kib < 48 * 1_024, "{peak_kib} KiB");
    let logs = std::fs::read_dir(place.path("data/logs")).unwrap();
    let kept: u64 = logs.map(|it| it.unwrap().metadata().unwrap().len()).sum();
    assert!((8 * MIB..18 * MIB).contains(&kept), "{kept} bytes");

    kill(engine, Signal::KILL);
    let cause = daemon.watch().until(|it| it.last_error.is_some()).last_error.unwrap();
    assert!(cause.contains("SIGKILL") && cause.contains("xxxx"), "{cause}");
    assert!(cause.len() < 3_000, "{} bytes", cause.len());
}
