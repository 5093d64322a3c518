//! Streams that nobody would send: recorded ones with bytes changed, lost, doubled and moved, in a way
//! that a number repeats.

use adapter_api::{Frames, GenerationEvent, SseDecoder, SseEvent};

/// Executions of each fuzz test; CI's are few, `LLAMA_ORCH_FUZZ` names more.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "who runs the test says how long")]
pub fn executions() -> u64 {
    let asked = std::env::var("LLAMA_ORCH_FUZZ").ok();
    asked.and_then(|it| it.parse().ok()).unwrap_or(20_000)
}

/// xorshift64*, see Vigna, An experimental exploration of Marsaglia's xorshift generators, scrambled.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }
}

/// Pieces that mean something to a decoder.
const WORDS: [&[u8]; 16] = [
    b"data: ",
    b"data:",
    b"\n\n",
    b"\r\n",
    b"\r",
    b":\n",
    b"error: ",
    b"[DONE]",
    b"{",
    b"}",
    b"\"",
    b"\\u",
    b"null",
    b"-1",
    b"99999999999999999999",
    b"\xff",
];

/// One of `corpus`, with up to eight changes.
#[must_use]
pub fn mutated(corpus: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].to_vec();
    for _ in 0..=random.below(8) {
        let length = bytes.len().max(1);
        let (at, other) = (random.below(length), random.below(length));
        let (start, end) = (at.min(other).min(bytes.len()), at.max(other).min(bytes.len()));
        let short = end.min(start + random.below(64));
        match random.below(7) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => drop(bytes.drain(start..short)),
            2 => {
                let copy = bytes[start..short].to_vec();
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, copy);
            }
            3 => bytes.truncate(end),
            4 => {
                let from = corpus[random.below(corpus.len())];
                let start = random.below(from.len());
                let piece = &from[start..from.len().min(start + 200)];
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes
}

/// Cuts `bytes` into pieces.
#[must_use]
pub fn pieces(bytes: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, left) = rest.split_at(1 + random.below(rest.len().min(97)));
        pieces.push(piece.to_vec());
        rest = left;
    }
    pieces
}

/// What comes of a body that arrives in these pieces, up to its end or the first failure.
fn decoded<F: Frames>(mut frames: F, pieces: &[Vec<u8>]) -> (Vec<GenerationEvent>, Option<String>) {
    let (mut decoder, mut events) = (SseDecoder::default(), Vec::new());
    let over = |it: &[GenerationEvent]| matches!(it.last(), Some(GenerationEvent::Finished { .. }));
    for piece in pieces {
        if let Err(error) = decoder.push(piece.clone().into()) {
            return (events, Some(error.to_string()));
        }
        while let Some(event) = decoder.next_event() {
            let read = match event {
                SseEvent::KeepAlive => Ok(()),
                SseEvent::Data(data) => frames.read(data, &mut events),
                SseEvent::Error(value) => Err(frames.error_line(value)),
            };
            if let Err(error) = read {
                return (events, Some(error.to_string()));
            }
            if over(&events) {
                return (events, None);
            }
        }
    }
    let ended = frames.ended(&mut events);
    (events, ended.err().map(|it| it.to_string()))
}

/// Reads mutated streams, each as one piece and as several, and tells the number of executions.
///
/// # Panics
/// If the pieces matter, if an end comes twice, or if a decoder panics.
pub fn fuzz<F: Frames>(corpus: &[&[u8]], frames: impl Fn() -> F) -> u64 {
    let executions = executions();
    for seed in 0..executions {
        let mut random = Random::new(seed);
        let bytes = mutated(corpus, &mut random);
        let whole = decoded(frames(), std::slice::from_ref(&bytes));
        let cut = decoded(frames(), &pieces(&bytes, &mut random));
        let shown = || format!("seed {seed}: {:?}", String::from_utf8_lossy(&bytes));
        assert_eq!(whole, cut, "{}", shown());
        let ends = whole.0.iter().filter(|it| matches!(it, GenerationEvent::Finished { .. }));
        assert!(ends.count() <= 1, "{}", shown());
    }
    executions
}
