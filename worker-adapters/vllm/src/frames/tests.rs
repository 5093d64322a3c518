//! Whatever arrives, in whatever pieces: no panic, one end, the same events.

use conformance::mutate;

use super::CompletionFrames;

const RECORDED: &[u8] = include_bytes!("../../tests/it/recorded.sse");
const FAILED: &[u8] = b"data: {\"error\": {\"message\": \"m\", \"code\": 500}}\n\ndata: [DONE]\n\n";

// OC-ADAPT-5081
#[test]
fn broken_streams_are_errors_and_pieces_do_not_matter() {
    let frames = || CompletionFrames::new(9);
    assert_eq!(mutate::fuzz(&[RECORDED, FAILED], frames), mutate::executions());
}
