//! A log that was read back is the log that was written, or refused.

use api_types::End;

use super::*;

fn log(tokens: usize) -> Log {
    let mut log = Log::default();
    log.event("started", &serde_json::json!({"attempt": 1}));
    (0..tokens).for_each(|it| log.token(&format!(" {it}\n"), 1, None));
    log
}

// ORCH-4002
#[test]
fn what_is_read_back_is_the_same_and_goes_on() {
    let mut written = log(3);
    written.show(u64::MAX);
    let mut read = Log::replay(written.shown().to_vec(), false).expect("it is whole");
    assert_eq!((read.last_id(), read.tokens()), (4, 3));
    assert_eq!(read.text(), " 0\n 1\n 2\n");
    for it in [&mut written, &mut read] {
        it.token(" 3", 2, None);
        it.show(u64::MAX);
    }
    assert_eq!(read.shown(), written.shown());
    assert_eq!(read.position_after(5), written.position_after(5));
}

// ORCH-4001
#[test]
fn damaged_bytes_are_refused() {
    let mut whole = log(3);
    whole.show(u64::MAX);
    let mut damaged = whole.shown().to_vec();
    let at = damaged.len() - 8;
    damaged[at] = 0xff;
    assert!(Log::replay(damaged, false).is_err());
}

// ORCH-4002
#[test]
fn what_is_taken_back_was_never_shown() {
    let mut log = log(3);
    log.show(2);
    let seen = log.shown().to_vec();
    assert_eq!((log.tokens(), log.tokens_shown()), (3, 1));
    assert_eq!(log.position_after(3), None);
    log.retract();
    assert_eq!((log.tokens(), log.last_id()), (1, 2));
    let end: End = serde_json::from_value(serde_json::json!({
        "tokens_in": 1, "tokens_out": 1, "queue_time_ms": 0, "finish_reason": "cancelled",
    }))
    .expect("an end");
    log.close("end", &end);
    assert!(log.is_closed() && !log.is_over());
    assert_eq!(log.after(2).1, 3);
    log.show(3);
    assert!(log.is_over() && log.shown().starts_with(&seen));
    // Showing never goes back.
    log.show(1);
    assert_eq!(log.last_shown(), 3);
}
