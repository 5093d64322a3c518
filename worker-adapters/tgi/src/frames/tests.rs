//! Whatever arrives, in whatever pieces: no panic, one end, the same events.

use conformance::mutate;

use super::StreamFrames;

const RECORDED: &[u8] = include_bytes!("recorded.sse");
const FAILED: &[u8] =
    b"data: {\"error\":\"Model is overloaded\",\"error_type\":\"overloaded\"}\n\n";

// OC-ADAPT-5081
#[test]
fn broken_streams_are_errors_and_pieces_do_not_matter() {
    let frames = || StreamFrames::new(9, 3, true);
    assert_eq!(mutate::fuzz(&[RECORDED, FAILED], frames), mutate::executions());
}
