//! Ports while a replica holds them.

use std::net::{IpAddr, Ipv4Addr};

use super::{Ports, free};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_port_is_held_until_its_replica_lets_go() {
    let port = free(HERE, 0).unwrap();
    let ports = Ports::new(HERE, Some((port, port)));
    let held = ports.allocate().unwrap();
    let refused = ports.allocate().err().unwrap().to_string();
    assert!(refused.contains("widen `port_range`"), "{refused}");
    drop(held);
    assert_eq!(ports.allocate().unwrap().port, port);
}

#[test]
fn every_allocation_has_another_key() {
    let ports = Ports::new(HERE, None);
    let (one, other) = (ports.allocate().unwrap(), ports.allocate().unwrap());
    assert_ne!(one.key, other.key);
    assert_eq!(one.key.len(), 32);
}
