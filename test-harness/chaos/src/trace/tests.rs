//! A stream with one thing wrong, and what is said of it.

use super::*;

const ASKED: Asked = Asked { first: 700, tokens: 4 };

fn event(id: u64, name: &str, data: &str) -> Event {
    Event { id: Some(id), name: name.into(), data: data.into() }
}

fn token(id: u64, index: u64, text: &str) -> Event {
    event(id, "token", &format!(r#"{{"t":"{text}","i":{index},"n":1}}"#))
}

/// Four tokens, the last two from another attempt.
fn whole() -> Vec<Event> {
    vec![
        event(1, "started", "{}"),
        token(2, 0, " 700"),
        token(3, 1, " 701"),
        event(4, "resumed", "{}"),
        token(5, 2, " 702"),
        token(6, 3, " 703"),
        event(7, "end", r#"{"tokens_out":4,"finish_reason":"length"}"#),
    ]
}

fn numbered(mut events: Vec<Event>) -> Vec<Event> {
    (1..).zip(&mut events).for_each(|(id, event)| event.id = Some(id));
    events
}

fn flaws(change: impl FnOnce(&mut Vec<Event>)) -> Flaws {
    let mut events = whole();
    change(&mut events);
    check(&events, ASKED)
}

#[test]
fn a_whole_stream_has_no_flaw_also_where_tokens_come_together() {
    assert!(!flaws(|_| {}).any());
    let together = flaws(|it| {
        it[1].data = r#"{"t":" 700 701","i":0,"n":2}"#.into();
        it.remove(2);
        *it = numbered(std::mem::take(it));
    });
    assert_eq!(together, Flaws::default());
}

#[test]
fn a_missing_token_is_seen_whether_or_not_the_ids_tell() {
    let gap = flaws(|it| drop(it.remove(2)));
    assert_eq!((gap.missing, gap.doubled, gap.contradictions), (1, 0, 1));
    let renumbered = flaws(|it| {
        it.remove(2);
        *it = numbered(std::mem::take(it));
    });
    assert_eq!(renumbered, Flaws { missing: 1, ..Flaws::default() });
    // The indexes are whole, the numbers of the engine are not.
    let skipped = flaws(|it| it[5] = token(6, 3, " 704"));
    assert_eq!(skipped, Flaws { missing: 1, contradictions: 1, ..Flaws::default() });
}

#[test]
fn a_doubled_token_is_seen_in_its_index_and_in_its_text() {
    let both = flaws(|it| {
        it.insert(3, token(0, 1, " 701"));
        *it = numbered(std::mem::take(it));
    });
    assert_eq!(both, Flaws { doubled: 1, ..Flaws::default() });
    let text = flaws(|it| it[4] = token(5, 2, " 701"));
    assert_eq!((text.doubled, text.missing), (1, 1));
    let index = flaws(|it| it[4] = token(5, 1, " 702"));
    assert_eq!((index.doubled, index.missing), (1, 1));
}

#[test]
fn reordered_tokens_are_seen() {
    let swapped = flaws(|it| {
        it.swap(4, 5);
        *it = numbered(std::mem::take(it));
    });
    assert_eq!(swapped, Flaws { disordered: 1, ..Flaws::default() });
}

#[test]
fn tokens_of_another_task_are_seen() {
    let foreign = flaws(|it| it[4] = token(5, 2, " 12"));
    assert_eq!(foreign, Flaws { missing: 1, contradictions: 1, ..Flaws::default() });
}

#[test]
fn a_stream_without_its_one_end_and_an_answer_of_another_length_are_seen() {
    assert_eq!(flaws(|it| drop(it.pop())).contradictions, 1);
    assert_eq!(flaws(|it| it.push(event(8, "error", "{}"))).contradictions, 1);
    assert_eq!(flaws(|it| it.push(event(8, "resumed", "{}"))).contradictions, 1);
    let short = |it: &mut Vec<Event>| {
        it.remove(5);
        it[5] = event(6, "end", r#"{"tokens_out":3,"finish_reason":"length"}"#);
    };
    assert_eq!(flaws(short), Flaws { contradictions: 1, ..Flaws::default() });
    let long = |it: &mut Vec<Event>| {
        it.insert(6, token(7, 4, " 704"));
        it[7] = event(8, "end", r#"{"tokens_out":5,"finish_reason":"stop"}"#);
    };
    assert_eq!(flaws(long), Flaws { contradictions: 1, ..Flaws::default() });
    // Who cancels gets less.
    let cancelled = flaws(|it| {
        it.remove(5);
        it[5] = event(6, "end", r#"{"tokens_out":3,"finish_reason":"cancelled"}"#);
    });
    assert!(!cancelled.any());
}

#[test]
fn a_task_that_starts_twice_or_not_at_all_is_seen() {
    assert_eq!(flaws(|it| it[3] = event(4, "started", "{}")).contradictions, 1);
    assert_eq!(flaws(|it| it[0] = event(1, "resumed", "{}")).contradictions, 1);
    let error = [event(1, "error", "{}")];
    assert!(!check(&error, ASKED).any(), "it may fail before it starts");
}

#[test]
fn streams_differ_by_any_byte() {
    let mut other = whole();
    assert_eq!(digest(&whole()), digest(&other));
    other[0].data = "{ }".into();
    assert_ne!(digest(&whole()), digest(&other));
}
