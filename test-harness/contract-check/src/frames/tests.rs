//! What counts as an event, and what is none of ours.

use serde_json::json;

use super::{Frame, frames};

#[test]
fn events_are_told_apart_and_comments_skipped() {
    let text =
        "event: queued\ndata: {}\n\n:\n\nid: 7\nevent: token\ndata: {\"i\":1}\n\ndata: 1\n\n";
    let frame = |id, name: &str, data| Frame { id, name: name.into(), data };
    let expected = [
        frame(None, "queued", json!({})),
        frame(Some(7), "token", json!({"i": 1})),
        frame(None, "message", json!(1)),
    ];
    assert_eq!(frames(text).unwrap(), expected);
}

#[test]
fn what_is_no_event_of_ours_is_named() {
    for (text, problem) in [
        ("data: {}\n", "breaks off"),
        ("data: {\n\n", "EOF"),
        ("event: a\n\n", "no data"),
        ("id: x\ndata: 1\n\n", "no id"),
        ("retry: 1\ndata: 1\n\n", "no line of an event"),
        ("data: 1\ndata: 2\n\n", "no line of an event"),
    ] {
        let error = frames(text).unwrap_err();
        assert!(error.contains(problem), "{text:?}: {error}");
    }
}
