//! Another model for a pool of several replicas: one after the other, and all or none.

use pool_api::{JobState, Pool, Replica, ReplicaState};
use rustix::process::Signal;
use serde_json::json;

use crate::reload::{ended, manager, reload};
use crate::rig::{Daemon, Pid, Place, Watch, address, ask_engine, kill, wait_until};

/// Room for both replicas, and for both and a third model beside them.
const MEMORY_MIB: [u64; 2] = [80, 110];
const OTHER: &str = "other-model";

/// Pool `p` of two replicas, and `other`, which lends its model.
fn two(place: &Place, memory_mib: u64) -> String {
    manager(place, memory_mib).replacen("devices: [d]\n", "devices: [d]\n      replicas: 2\n", 1)
}

fn both_ready(daemon: &Daemon) -> Vec<Replica> {
    let ready = |it: &Replica| it.state == ReplicaState::Ready;
    wait_until("both serve", || daemon.pools()[0].replicas.iter().all(ready));
    daemon.pools().remove(0).replicas
}

fn models(pool: &Pool) -> Vec<&str> {
    pool.replicas.iter().map(|it| it.model_id.as_str()).collect()
}

/// Follows pool `p` until it is so; some replica serves at any time. Which models its replicas had.
fn serves_until(watch: &mut Watch, is_so: impl Fn(&Pool) -> bool) -> Vec<Vec<String>> {
    let mut seen: Vec<Vec<String>> = Vec::new();
    loop {
        let pool = watch.next_pool().unwrap();
        if pool.pool_id != "p" {
            continue;
        }
        assert!(pool.replicas.iter().any(|it| it.state == ReplicaState::Ready), "{pool:#?}");
        let models: Vec<String> = models(&pool).into_iter().map(str::to_owned).collect();
        if seen.last() != Some(&models) {
            seen.push(models);
        }
        if is_so(&pool) {
            return seen;
        }
    }
}

fn all_serve(pool: &Pool, model: &str) -> bool {
    pool.replicas.iter().all(|it| it.state == ReplicaState::Ready && it.model_id == model)
}

// OC-CTRL-2003, OC-POOL-3048, ORCH-2102
#[test]
fn replicas_take_the_new_model_one_after_the_other_and_no_stream_is_cut() {
    for memory_mib in MEMORY_MIB {
        let place = Place::new();
        let daemon = place.start(&two(&place, memory_mib));
        let before = both_ready(&daemon);
        let readers: Vec<_> = before
            .iter()
            .map(|it| {
                let engine = address(it.endpoint.as_ref().unwrap());
                let key = format!("Authorization: Bearer {}", it.engine_key.as_ref().unwrap());
                let body =
                    r#"{"prompt": "[[sim:decode_us=20000]]", "n_predict": 60, "stream": true}"#;
                std::thread::spawn(move || {
                    ask_engine(engine, "POST", "/completion", &["Host: s", &key], body)
                })
            })
            .collect();
        let mut watch = daemon.watch();
        reload(&daemon, "1", &json!(OTHER), 20_000);
        reload(&daemon, "2", &json!("m"), 20_000);
        assert!(ended(&daemon, "2").1.starts_with("BUSY: "));
        let seen = serves_until(&mut watch, |it| all_serve(it, OTHER));
        assert_eq!(seen, [["m", "m"], [OTHER, "m"], [OTHER, OTHER]]);
        for reader in readers {
            assert!(reader.join().unwrap().body.contains("\"stop\":true"));
        }
        assert_eq!(ended(&daemon, "1"), (JobState::Succeeded, String::new()));
        let pool = daemon.pools().remove(0);
        assert_eq!(pool.model_id, OTHER);
        for (old, new) in before.iter().zip(&pool.replicas) {
            assert_eq!(Pid::new(old.pid.unwrap()).proc("cmdline"), "");
            assert!(Pid::new(new.pid.unwrap()).proc("cmdline").contains("other.gguf"));
            assert_eq!((new.restarts, new.incarnation), (0, 2));
        }
        // It has ended: another one may come.
        reload(&daemon, "3", &json!("m"), 20_000);
        serves_until(&mut watch, |it| all_serve(it, "m"));
        assert_eq!(ended(&daemon, "3").0, JobState::Succeeded);
    }
}

// OC-CTRL-2003, OC-POOL-3048, ORCH-2102
#[test]
fn a_model_that_fails_on_one_replica_is_taken_from_all() {
    for memory_mib in MEMORY_MIB {
        let place = Place::new();
        // The configured model is loaded twice, and once more.
        let loads = place.path("loads").display().to_string();
        let wrapper = place.script(&format!(
            "case \"$*\" in */model.gguf*) echo >> '{loads}'; if [ $(wc -l < '{loads}') -gt 3 ]; \
             then echo cheese >&2; exit 1; fi;; esac; exec \"$ENGINE\" \"$@\""
        ));
        let engine = engine_sim::binary_path().unwrap().display().to_string();
        let manager = two(&place, memory_mib).replacen(&engine, &wrapper.display().to_string(), 1);
        let daemon = place.start(&manager);
        both_ready(&daemon);
        reload(&daemon, "1", &json!(OTHER), 20_000);
        assert_eq!(ended(&daemon, "1").0, JobState::Succeeded);
        let mut watch = daemon.watch();
        reload(&daemon, "2", &json!("m"), 20_000);
        let has_told = |it: &Pool| it.replicas.iter().all(|it| it.last_error.is_some());
        let seen = serves_until(&mut watch, |it| all_serve(it, OTHER) && has_told(it));
        assert!(seen.iter().any(|it| *it == ["m", OTHER]), "{seen:?}");
        let (state, error) = ended(&daemon, "2");
        assert_eq!(state, JobState::Failed);
        let expected = "RELOAD_FAILED: p-1: engine exited with code 1: cheese";
        assert!(error.starts_with(expected), "{error}");
        let after = daemon.pools().remove(0);
        assert_eq!(after.model_id, OTHER);
        let told = |it: usize| after.replicas[it].last_error.clone().unwrap();
        let again = "reload failed, the old model is loaded again: ";
        assert!(told(0).starts_with(&format!("{again}p-1: engine exited")), "{}", told(0));
        assert!(told(1).starts_with("reload failed, the old model "), "{}", told(1));
        for replica in &after.replicas {
            assert!(Pid::new(replica.pid.unwrap()).proc("cmdline").contains("other.gguf"));
        }
    }
}

// OC-CTRL-2003, OC-POOL-3048
#[test]
fn a_replica_that_does_not_serve_goes_first() {
    let place = Place::new();
    let sick = place.path("sick");
    let wrapper = place.script(&format!(
        "case \"$*\" in */model.gguf*) if [ -e '{}' ]; then exit 1; fi;; esac; exec \"$ENGINE\" \"$@\"",
        sick.display()
    ));
    let engine = engine_sim::binary_path().unwrap().display().to_string();
    let manager = two(&place, 80).replacen(&engine, &wrapper.display().to_string(), 1);
    let daemon = place.start(&manager);
    let before = both_ready(&daemon);
    std::fs::write(&sick, "").unwrap();
    kill(Pid::new(before[1].pid.unwrap()), Signal::KILL);
    wait_until("it is down", || daemon.pools()[0].replicas[1].state != ReplicaState::Ready);
    let mut watch = daemon.watch();
    reload(&daemon, "1", &json!(OTHER), 20_000);
    let seen = serves_until(&mut watch, |it| all_serve(it, OTHER));
    assert_eq!(seen, [["m", "m"], ["m", OTHER], [OTHER, OTHER]]);
    assert_eq!(ended(&daemon, "1").0, JobState::Succeeded);
}
