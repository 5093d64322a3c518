//! Memory is promised once.

use std::sync::Arc;

use pool_api::MemoryNeed;

use super::{Limit, Memory, Shortage};

const MIB: u64 = 1 << 20;

fn need(mib: u64) -> [MemoryNeed; 1] {
    [MemoryNeed { device_id: "gpu0".into(), bytes: mib * MIB }]
}

fn limit(usable: u64, free: Option<u64>) -> [Limit; 1] {
    let free_bytes = free.map(|it| it * MIB);
    [Limit { device_id: "gpu0".into(), usable_bytes: usable * MIB, free_bytes }]
}

// OC-POOL-3007
#[test]
fn what_is_promised_is_not_promised_again_until_it_is_given_back() {
    let memory = Arc::new(Memory::default());
    let first = memory.hold(&need(6), &limit(10, None)).unwrap();
    let refused = memory.hold(&need(5), &limit(10, None)).unwrap_err();
    assert!(matches!(refused, Shortage::Promised { held, .. } if held == 6 * MIB), "{refused:?}");
    let second = memory.hold(&need(4), &limit(10, None)).unwrap();
    drop(first);
    drop(memory.hold(&need(6), &limit(10, None)).unwrap());
    drop(second);
    assert!(memory.holds.lock().unwrap().by_id.is_empty());
    let refused = memory.hold(&need(11), &limit(10, None)).unwrap_err();
    assert!(matches!(refused, Shortage::TooSmall { .. }), "{refused:?}");
}

// OC-POOL-3040
#[test]
fn memory_that_the_device_does_not_have_free_is_not_promised() {
    let memory = Arc::new(Memory::default());
    let first = memory.hold(&need(4), &limit(10, Some(9))).unwrap();
    // Not taken yet: the device still counts it as free.
    let refused = memory.hold(&need(6), &limit(10, Some(9))).unwrap_err();
    assert!(matches!(refused, Shortage::Used { free, .. } if free == 5 * MIB), "{refused:?}");
    first.taken(need(4).to_vec());
    assert!(memory.hold(&need(6), &limit(10, Some(5))).is_err());
    assert!(memory.hold(&need(6), &limit(10, Some(6))).is_ok());
}

// OC-POOL-3007
#[test]
fn a_promise_on_several_devices_is_whole_or_none() {
    let memory = Arc::new(Memory::default());
    let needs: Vec<_> =
        ["gpu0", "gpu1"].map(|it| MemoryNeed { device_id: it.into(), bytes: 5 * MIB }).into();
    let limits: Vec<_> = [("gpu0", 10), ("gpu1", 4)]
        .map(|(id, usable)| Limit {
            device_id: id.into(),
            usable_bytes: usable * MIB,
            free_bytes: None,
        })
        .into();
    assert!(memory.hold(&needs, &limits).is_err());
    assert!(memory.hold(&need(10), &limit(10, None)).is_ok());
}
