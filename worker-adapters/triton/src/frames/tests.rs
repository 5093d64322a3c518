//! Whatever arrives, in whatever pieces: no panic, one end, the same events.

use conformance::mutate;

use super::GenerateFrames;
use crate::fields::Fields;

const RECORDED: &[u8] = include_bytes!("recorded.sse");
const FAILED: &[u8] = b"data: {\"error\":\"m\"}\n\n";

// OC-ADAPT-5081
#[test]
fn broken_streams_are_errors_and_pieces_do_not_matter() {
    let frames = || GenerateFrames::new(&Fields::tensorrtllm(), 9);
    assert_eq!(mutate::fuzz(&[RECORDED, FAILED], frames), mutate::executions());
    let frames = || GenerateFrames::new(&Fields::vllm(), 9);
    assert_eq!(mutate::fuzz(&[RECORDED, FAILED], frames), mutate::executions());
}
