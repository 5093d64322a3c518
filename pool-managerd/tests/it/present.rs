//! What is told of a replica is true of its present incarnation, not of an earlier one.

use engine_sim::SimProcess;
use pool_api::ReplicaState;
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::rig::{Daemon, MODEL_BYTES, Pid, Place, kill};

fn follow(place: &Place, server: &SimProcess, more: &str) -> Daemon {
    place.start(&format!(
        "  pools:\n    - id: x\n      engine: llamacpp\n      model: {{id: m}}\n      external: \
         {{url: '{}'}}\n{more}",
        server.base_url()
    ))
}

#[test]
fn an_external_server_that_comes_back_smaller_is_told_as_smaller() {
    let place = Place::new();
    let mut server = SimProcess::spawn(["-np", "4"]);
    let daemon = follow(&place, &server, "");
    assert_eq!(daemon.ready().slots, 4);
    let mut watch = daemon.watch();
    let port = server.port().to_string();
    server.kill();
    // A restart between two questions is not seen.
    watch.until(|it| it.state == ReplicaState::Unready);
    let _server = SimProcess::spawn(["-np", "2", "--port", &port]);
    let back = watch.until(|it| it.state == ReplicaState::Ready && it.incarnation == 2);
    assert_eq!(back.slots, 2);
}

#[test]
fn no_more_slots_are_told_than_are_allowed_or_there() {
    for (allowed, told) in [(2, 2), (8, 3)] {
        let place = Place::new();
        let server = SimProcess::spawn(["-np", "3"]);
        let daemon = follow(&place, &server, &format!("      slots: {allowed}\n"));
        assert_eq!(daemon.ready().slots, told, "{allowed} allowed");
    }
}

// ORCH-3032
#[test]
fn a_digest_is_never_that_of_a_file_which_was_replaced_before_the_start() {
    let place = Place::new();
    let daemon = place.start(&place.pool(""));
    let both = |digest: &Option<String>, state| digest.is_some() && state == ReplicaState::Ready;
    let first = daemon.watch().until(|it| both(&it.model_digest, it.state));
    let model = [MODEL_BYTES, b"and more"].concat();
    std::fs::write(place.model(), &model).unwrap();
    let mut watch = daemon.watch();
    kill(Pid::new(first.pid.unwrap()), Signal::KILL);
    let second = watch.until(|it| {
        assert!(it.incarnation == 1 || it.model_digest != first.model_digest);
        it.incarnation == 2 && both(&it.model_digest, it.state)
    });
    let hex: String = Sha256::digest(&model).iter().map(|it| format!("{it:02x}")).collect();
    assert_eq!(second.model_digest, Some(format!("sha256:{hex}")));
}
