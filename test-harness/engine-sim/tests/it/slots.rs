//! Slots: requests beyond them wait, and a client that goes frees what it held.

use engine_sim::SimProcess;
use serde_json::{Value, json};

use crate::wire::{connect, eventually, get, read_until, start, stream};

fn stats(sim: &SimProcess) -> Value {
    get(sim, "/sim/stats").json()
}

fn busy(sim: &SimProcess) -> usize {
    let slots = get(sim, "/slots").json();
    slots.as_array().unwrap().iter().filter(|slot| slot["is_processing"] == true).count()
}

#[test]
fn a_request_beyond_the_slots_waits_for_one() {
    let sim = SimProcess::spawn(["-np", "1", "--metrics"]);
    let mut running = connect(&sim);
    start(&mut running, "[[sim:hang_after=1]]");
    read_until(&mut running, "\"tokens_predicted\":1");
    let mut waiting = connect(&sim);
    start(&mut waiting, "x");
    eventually("the second request is deferred", || stats(&sim)["deferred"] == 1);
    assert_eq!(busy(&sim), 1);
    assert!(get(&sim, "/metrics").body.contains("llamacpp:requests_deferred 1\n"));
    assert_eq!(get(&sim, "/slots?fail_on_no_slot=1").status, 503);
    drop(running);
    assert!(read_until(&mut waiting, "\r\n0\r\n\r\n").contains("\"content\":\" 4\""));
}

#[test]
fn a_client_that_goes_frees_its_slot() {
    let sim = SimProcess::spawn(["-np", "2"]);
    for prompt in ["[[sim:hang_after=1]]", "[[sim:decode_us=20000]]"] {
        let mut socket = connect(&sim);
        start(&mut socket, prompt);
        read_until(&mut socket, "\"tokens_predicted\":1");
        assert_eq!(busy(&sim), 1, "{prompt}");
        drop(socket);
        eventually("the slot is free", || busy(&sim) == 0);
    }
    assert_eq!(stats(&sim)["disconnects_seen"], 2);
    assert_ne!(stats(&sim)["last_disconnect_unix_us"], 0);
}

#[test]
fn a_client_that_goes_while_it_waits_is_forgotten() {
    let sim = SimProcess::spawn(["-np", "1"]);
    let mut running = connect(&sim);
    start(&mut running, "[[sim:hang_after=1]]");
    read_until(&mut running, "\"tokens_predicted\":1");
    let mut waiting = connect(&sim);
    start(&mut waiting, "x");
    eventually("the second request is deferred", || stats(&sim)["deferred"] == 1);
    drop(waiting);
    eventually("nobody waits", || stats(&sim)["deferred"] == 0);
}

#[test]
fn a_busy_slot_tells_how_far_it_is() {
    let sim = SimProcess::spawn(["-np", "1"]);
    let mut socket = connect(&sim);
    start(&mut socket, "[[sim:hang_after=3]]");
    read_until(&mut socket, "\"tokens_predicted\":3");
    let slot = get(&sim, "/slots").json()[0].clone();
    assert_eq!(slot["is_processing"], true);
    assert_eq!(
        slot["next_token"],
        json!([{
            "has_next_token": true, "has_new_line": false, "n_remain": 2, "n_decoded": 3,
        }])
    );
}

#[test]
fn a_half_closed_client_counts_as_gone() {
    let sim = SimProcess::spawn(["-np", "1"]);
    let mut socket = connect(&sim);
    start(&mut socket, "[[sim:hang_after=1]]");
    read_until(&mut socket, "\"tokens_predicted\":1");
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    eventually("the slot is free", || busy(&sim) == 0);
}

#[test]
fn streams_without_end_do_not_starve_each_other() {
    let sim = SimProcess::spawn(["-np", "2", "-c", "4000000"]);
    let mut endless = connect(&sim);
    let body = json!({ "prompt": "x", "n_predict": -1, "stream": true }).to_string();
    crate::wire::send(&mut endless, "POST", "/completion", "", &body);
    read_until(&mut endless, "\"tokens_predicted\":100,");
    assert_eq!(stream(&sim, "x", 3).text(), " 0 1 2");
}
