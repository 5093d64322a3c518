//! Any split of a stream gives the same events.

use adapter_api::{SseDecoder, SseEvent};
use proptest::prelude::*;

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = SseDecoder::default();
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk.to_vec().into()).unwrap();
        while let Some(event) = decoder.next_event() {
            events.push(match event {
                SseEvent::Data(data) => format!("data {}", String::from_utf8_lossy(data)),
                SseEvent::Error(data) => format!("error {}", String::from_utf8_lossy(data)),
                SseEvent::KeepAlive => "alive".into(),
            });
        }
    }
    events
}

#[test]
fn fields_and_line_endings_of_every_engine_are_read() {
    let cases: [(&str, &[&str]); 8] = [
        ("data: a\n\ndata:b\n\n", &["data a", "data b"]),
        ("data:  a\n\n", &["data  a"]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", &["data a", "data b"]),
        ("data: a\r\rdata: b\r\r", &["data a", "data b"]),
        (":\n\ndata: a\n\n", &["alive", "data a"]),
        ("event: x\nid: 7\ndata: a\ndata: b\ndata: c\n\n", &["data a\nb\nc"]),
        ("error: {\"code\":500}\n\n", &["error {\"code\":500}"]),
        ("data: a\n", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(decode([text.as_bytes()]), expected, "{text:?}");
    }
}

#[test]
fn an_endless_event_is_an_error_and_not_all_memory() {
    let mut decoder = SseDecoder::default();
    let failed = (0..100).any(|_| {
        let pushed = decoder.push(vec![b'x'; 64 << 10].into());
        assert_eq!(decoder.next_event(), None);
        pushed.is_err()
    });
    assert!(failed);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // OC-ADAPT-5081
    #[test]
    fn a_stream_split_anywhere_gives_the_same_events(
        lines in prop::collection::vec("(data: ?[a-zé☃]{0,6}|:|error: x|id: 1|)(\n|\r\n|\n\n|\r|\r\r|\r\n\r\n)", 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let text = lines.concat() + "data: end\n\n";
        let whole = decode([text.as_bytes()]);
        let mut at: Vec<usize> = cuts.iter().map(|it| it.index(text.len())).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let chunks = at.windows(2).map(|it| &text.as_bytes()[it[0]..it[1]]);
        prop_assert_eq!(decode(chunks), whole);
        let bytes = decode(text.as_bytes().chunks(1));
        prop_assert_eq!(bytes, decode([text.as_bytes()]));
    }
}
