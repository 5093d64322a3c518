//! A log that was read back is the log that was written, or refused; one that was trimmed only sends
//! its readers elsewhere.

use api_types::End;
use proptest::prelude::*;

use super::*;

fn log(tokens: usize) -> Log {
    let mut log = Log::default();
    log.event("started", &serde_json::json!({"attempt": 1}));
    (0..tokens).for_each(|it| log.token(&format!(" {it}\n"), 1, None));
    log
}

fn end() -> End {
    serde_json::from_value(serde_json::json!({
        "tokens_in": 1, "tokens_out": 1, "queue_time_ms": 0, "finish_reason": "cancelled",
    }))
    .expect("an end")
}

fn everything(log: &Log) -> &[u8] {
    match log.next(0, usize::MAX >> 1) {
        Next::Events(events, _) => events,
        other => panic!("{other:?}"),
    }
}

// ORCH-4002
#[test]
fn what_is_read_back_is_the_same_and_goes_on() {
    let mut written = log(3);
    written.show(u64::MAX);
    let mut read = Log::default();
    read.read_back(everything(&written)).expect("it is whole");
    assert_eq!((read.last_id(), read.tokens()), (4, 3));
    assert_eq!(read.text(), " 0\n 1\n 2\n");
    for it in [&mut written, &mut read] {
        it.token(" 3", 2, None);
        it.show(u64::MAX);
    }
    assert_eq!(everything(&read), everything(&written));
    assert_eq!(read.next(4, 1), written.next(4, 1));
}

// ORCH-4001
#[test]
fn damaged_bytes_are_refused() {
    let mut whole = log(3);
    whole.show(u64::MAX);
    let mut damaged = everything(&whole).to_vec();
    let at = damaged.len() - 8;
    damaged[at] = 0xff;
    assert!(Log::default().read_back(&damaged).is_err());
}

// ORCH-4002
#[test]
fn what_is_taken_back_was_never_shown() {
    let mut log = log(3);
    log.show(2);
    let seen = everything(&log).to_vec();
    assert_eq!((log.tokens(), log.tokens_shown()), (3, 1));
    assert!(log.has_shown_token());
    assert_eq!(log.next(2, 1), Next::Nothing);
    log.retract();
    assert_eq!((log.tokens(), log.last_id()), (1, 2));
    log.close("end", &end());
    assert!(log.is_closed() && !log.is_over());
    assert_eq!(log.after(2).1, 3);
    log.show(3);
    assert!(log.is_over() && everything(&log).starts_with(&seen));
    // Showing never goes back.
    log.show(1);
    assert_eq!(log.last_shown(), 3);
}

/// What happens to a stream.
#[derive(Debug, Clone)]
enum Step {
    Token(String, u32),
    Event,
    /// So many of the events that are not shown yet.
    Show(u64),
    Retract,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => ("[a-z\n\"é]{0,40}", 1..4_u32).prop_map(|(text, n)| Step::Token(text, n)),
        1 => Just(Step::Event),
        4 => (0..8_u64).prop_map(Step::Show),
        1 => Just(Step::Retract),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Beside a log that drops nothing, one that does gives the same from where its past ends.
    /// OC-CORE-1005
    #[test]
    fn a_trimmed_log_differs_in_its_past_only(
        steps in steps(), window in 50..400_usize, chunk in 1..600_usize,
    ) {
        let (mut whole, mut trimmed) = (Log::default(), Log::default());
        for step in steps {
            for log in [&mut whole, &mut trimmed] {
                match &step {
                    Step::Token(text, n) => log.token(text, *n, None),
                    Step::Event => log.event("resumed", &serde_json::json!({"attempt": 2})),
                    Step::Show(events) => log.show(log.last_shown() + events),
                    Step::Retract => log.retract(),
                }
            }
            trimmed.trim(window);
            let unseen = trimmed.after(trimmed.last_shown()).0.len();
            prop_assert!(trimmed.len() - unseen <= window + window / 2 + 120);
            prop_assert_eq!(trimmed.tokens(), whole.tokens());
            prop_assert_eq!(trimmed.tokens_shown(), whole.tokens_shown());
            prop_assert_eq!(whole.has_shown_token(), whole.tokens_shown() != 0);
            prop_assert_eq!(trimmed.has_shown_token(), whole.has_shown_token());
            prop_assert_eq!(trimmed.bytes_shown(), whole.bytes_shown());
            prop_assert_eq!(trimmed.last_id(), whole.last_id());
        }
        let past = trimmed.last_past();
        for id in 0..=whole.last_id() {
            let next = trimmed.next(id, chunk);
            if id < past {
                prop_assert_eq!(next, Next::Past);
            } else {
                prop_assert_eq!(next, whole.next(id, chunk));
                prop_assert_eq!(trimmed.after(id), whole.after(id));
            }
        }
        prop_assert!(whole.text().ends_with(&trimmed.text()));
        prop_assert!(whole.text_shown().ends_with(&trimmed.text_shown()));
    }
}
