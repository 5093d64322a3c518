//! Servers that somebody else runs: watched, never started or stopped.

use engine_sim::SimProcess;
use pool_api::{Origin, ReplicaState};
use rustix::process::Signal;

use crate::rig::{Daemon, Pid, Place};

fn follow(place: &Place, url: &str, more: &str) -> Daemon {
    place.start(&format!(
        "  pools:\n    - id: x\n      engine: llamacpp\n      model: {{id: m}}\n      external: \
         {{url: '{url}'{more}}}\n"
    ))
}

#[test]
fn an_external_server_that_goes_away_and_comes_back_is_followed() {
    let place = Place::new();
    let mut server = SimProcess::spawn(["-np", "3"]);
    let daemon = follow(&place, &server.base_url(), "");
    let replica = daemon.ready();
    assert_eq!((replica.slots, replica.incarnation, replica.pid), (3, 1, None));
    assert_eq!(replica.endpoint, Some(server.base_url()));
    assert_eq!(daemon.pools()[0].origin, Origin::External);

    let mut watch = daemon.watch();
    server.kill();
    let away = watch.until(|it| it.state != ReplicaState::Ready);
    assert_eq!(away.state, ReplicaState::Unready);
    assert!(away.last_error.is_some());
    assert_eq!(daemon.get("/readyz").status, 200);

    let port = server.port().to_string();
    let _server = SimProcess::spawn(["-np", "3", "--port", &port]);
    let back = watch.until(|it| it.state == ReplicaState::Ready);
    assert_eq!((back.incarnation, back.restarts), (2, 0));
    assert_eq!(daemon.metric("model_loads_total{model_id=\"m\",outcome=\"ready\"}"), None);
}

#[test]
fn an_external_server_outlives_the_manager() {
    let place = Place::new();
    let server = SimProcess::spawn([] as [&str; 0]);
    let mut daemon = follow(&place, &server.base_url(), "");
    daemon.ready();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
    assert!(Pid::new(server.pid()).proc("cmdline").contains("engine-sim"));
}

#[test]
fn an_external_servers_key_is_read_from_its_file_and_its_lack_is_told() {
    let place = Place::new();
    let server = SimProcess::spawn(["--api-key", "its-own-key"]);
    let file = place.path("key");
    let daemon = follow(&place, &server.base_url(), &format!(", key_file: '{}'", file.display()));
    let without = daemon.watch().until(|it| it.last_error.is_some());
    assert_eq!(without.state, ReplicaState::Unready);
    assert!(without.last_error.unwrap().contains("cannot read the engine's key"));
    std::fs::write(&file, "its-own-key\n").unwrap();
    let with = daemon.ready();
    assert_eq!(with.engine_key.as_deref(), Some("its-own-key"));
}
